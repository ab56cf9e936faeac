/// How much of an export request becomes one record.
package enum RecordGranularity: String, CaseIterable, Sendable {
    /// One record a span, log record or metric, each with its own copy of resource, scope and schema URLs.
    case item
    /// One record a resource, with all its scopes and items.
    case resource
}
