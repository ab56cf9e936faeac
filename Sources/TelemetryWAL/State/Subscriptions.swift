import WALFormat

/// Who subscribes to a log, as its shared journal says. A tenant's own journal may have missed that somebody came, left, or
/// left and came again, which its registration's number tells: what the journal says of such a subscriber is of before.
struct Subscriptions {
    /// By subscriber the number of its registration, 0 where that is not known.
    var registrations: [TenantName: UInt32]
    /// Damage may have taken some: who is not among them need not have left.
    var mayLackSome: Bool

    /// Whether two numbers are known, and of different registrations.
    static func differ(_ one: UInt32, _ other: UInt32) -> Bool { one != other && one != 0 && other != 0 }
}

extension LogState {
    /// Makes a state of a tenant's own journal that of its next writer, who takes subscribers from the shared one.
    mutating func adopt(_ subscriptions: Subscriptions) {
        if registrations == subscriptions.registrations { return }
        for (name, registration) in subscriptions.registrations {
            apply(.subscriber(name: name, isRegistered: true, registration: registration))
        }
        if subscriptions.mayLackSome { return }
        for name in subscribers where subscriptions.registrations[name] == nil {
            apply(.subscriber(name: name, isRegistered: false))
        }
    }
}
