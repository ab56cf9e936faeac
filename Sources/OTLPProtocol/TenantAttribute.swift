/// Reads the tenant from attributes.
enum TenantAttribute {
    /// The value of the first attribute named `name`, as text. An integer or a boolean is written out; an empty string
    /// and all other types count as no tenant.
    static func value(of name: String, in attributes: [KeyValue]) -> String? {
        guard let attribute = attributes.first(where: { $0.key == name }) else { return nil }
        switch attribute.value.value {
        case .stringValue(let text): return text.isEmpty ? nil : text
        case .intValue(let number): return String(number)
        case .boolValue(let flag): return String(flag)
        default: return nil
        }
    }
}
