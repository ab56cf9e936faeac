// Turns one export request into records.
//
// Each record's payload is an export request again, with one resource. Items and envelopes are cut out of the request's
// bytes and put together anew; only lengths and tags in between are written afresh. So an item's bytes, its unknown
// fields included, are those the sender wrote. Everything is decoded once all the same, to find tenant and time and to
// refuse what no receiver could read. A request is taken whole or not at all.

import Foundation
import SwiftProtobuf

/// Splits serialized export requests of any signal.
struct RequestSplitter: Sendable {
    /// Tag of the only field of a request; every request that is not empty starts with it.
    static let repeatedTag: UInt8 = 0x0A

    /// Tag of the scopes of a resource and of the items of a scope.
    private static let childTag: UInt8 = 0x12

    /// How a part of a request is decoded that lies so many messages deep in it: whoever decodes the whole counts those,
    /// too, against the same limit.
    static func decodingOptions(depth: Int) -> BinaryDecodingOptions {
        var options = BinaryDecodingOptions()
        options.messageDepthLimit -= depth
        return options
    }

    /// What a record costs in memory beside its payload, roughly.
    private static let recordOverhead = 128

    let tenantAttribute: String
    let granularity: RecordGranularity

    /// What the records of one request may take in all. Items carry copies of their resource, so a request with a huge
    /// resource and many small items would otherwise grow beyond any bound.
    let maximumTotal: Int

    /// Splits one request. Without a `signal`, the items have to show which it is, or else it is `fallback`.
    ///
    /// Throws if a part does not decode, the signal stays unknown or the records would take too much memory. Costs one
    /// decode and one copy of each item.
    func records(
        of request: [UInt8], signal named: OTLPSignal?, fallback: OTLPSignal? = nil
    ) throws(OTLPInputError) -> (records: [OTLPRecord], signal: OTLPSignal?) {
        let shape = try RequestShape(request, in: request.indices)
        guard !shape.resources.isEmpty else { return ([], named) }
        guard let signal = named ?? SignalDetector.signal(of: shape.items, in: request) ?? fallback else {
            throw OTLPInputError(.unknownSignal, "an export request that does not show its signal")
        }
        var records: [OTLPRecord] = []
        var total = 0
        for (index, (resource, scopes)) in zip(shape.resources, shape.scopes).enumerated() {
            let position = Position(request: request, shape: shape, signal: signal, resourceNumber: index + 1)
            let tenant = try tenant(of: resource, at: position)
            switch granularity {
            case .item where !Self.hidesItems(resource, scopes):
                for scope in scopes {
                    try appendItems(of: scope, in: resource, tenant: tenant, at: position, to: &records, total: &total)
                }
            case .item, .resource:
                records.append(
                    try record(of: resource, scopes: scopes, tenant: tenant, at: position, total: &total))
            }
        }
        return (records, signal)
    }

    /// What all parts of one resource have in common.
    private struct Position {
        let request: [UInt8]
        let shape: RequestShape
        let signal: OTLPSignal
        let resourceNumber: Int
    }

    /// Checks the envelope of a resource and reads its tenant.
    private func tenant(of resource: RequestShape.Envelope, at position: Position) throws(OTLPInputError) -> String? {
        do {
            // Without its scopes, the message of every signal has the fields of this one.
            let decoded = try ResourceSpans(
                serializedBytes: resource.head + resource.tail, options: Self.decodingOptions(depth: 1))
            return TenantAttribute.value(of: tenantAttribute, in: decoded.resource.attributes)
        } catch {
            throw Self.malformed("resource \(position.resourceNumber)", error)
        }
    }

    /// Whether there are no items but fields nobody here knows, which may hold some. Such a resource is kept whole.
    private static func hidesItems(_ resource: RequestShape.Envelope, _ scopes: [RequestShape.Envelope]) -> Bool {
        scopes.allSatisfy(\.children.isEmpty)
            && (resource.hasUnknownFields || scopes.contains(where: \.hasUnknownFields))
    }

    private func check(_ scope: RequestShape.Envelope, at position: Position) throws(OTLPInputError) {
        do {
            _ = try ScopeSpans(
                serializedBytes: scope.head + scope.tail, options: Self.decodingOptions(depth: 2))
        } catch {
            throw Self.malformed("a scope of resource \(position.resourceNumber)", error)
        }
    }

    private func summary(
        _ item: [UInt8], number: Int, at position: Position
    ) throws(OTLPInputError) -> ItemSummary {
        do {
            return try ItemSummary(item, signal: position.signal, tenantAttribute: tenantAttribute)
        } catch {
            throw Self.malformed(
                "\(position.signal.itemName) \(number) of a scope of resource \(position.resourceNumber)", error)
        }
    }

    private func appendItems(
        of scope: RequestShape.Envelope, in resource: RequestShape.Envelope, tenant: String?, at position: Position,
        to records: inout [OTLPRecord], total: inout Int
    ) throws(OTLPInputError) {
        try check(scope, at: position)
        for (index, range) in scope.children.enumerated() {
            let item = Array(position.request[range])
            let summary = try summary(item, number: index + 1, at: position)
            let itemField = Self.fieldLength(item.count)
            let scopeLength = scope.head.count + itemField + scope.tail.count
            let resourceLength = resource.head.count + Self.fieldLength(scopeLength) + resource.tail.count
            let length = Self.fieldLength(resourceLength) + position.shape.request.tail.count
            try claim(length, of: &total)

            var payload: [UInt8] = []
            payload.reserveCapacity(length)
            Self.appendHeader(Self.repeatedTag, resourceLength, to: &payload)
            payload += resource.head
            Self.appendHeader(Self.childTag, scopeLength, to: &payload)
            payload += scope.head
            Self.appendHeader(Self.childTag, item.count, to: &payload)
            payload += item
            payload += scope.tail
            payload += resource.tail
            payload += position.shape.request.tail
            records.append(
                OTLPRecord(
                    kind: position.signal.kind, tenant: tenant ?? summary.tenant, timestamp: summary.timestamp,
                    payload: payload, identifier: summary.identifier))
        }
    }

    private func record(
        of resource: RequestShape.Envelope, scopes: [RequestShape.Envelope], tenant: String?, at position: Position,
        total: inout Int
    ) throws(OTLPInputError) -> OTLPRecord {
        var first: ItemSummary?
        var itemCount = 0
        for scope in scopes {
            try check(scope, at: position)
            for (index, range) in scope.children.enumerated() {
                let summary = try summary(Array(position.request[range]), number: index + 1, at: position)
                if first == nil { first = summary }
                itemCount += 1
            }
        }
        let length = Self.fieldLength(resource.range.count) + position.shape.request.tail.count
        try claim(length, of: &total)
        var payload: [UInt8] = []
        payload.reserveCapacity(length)
        Self.appendHeader(Self.repeatedTag, resource.range.count, to: &payload)
        payload += position.request[resource.range]
        payload += position.shape.request.tail
        return OTLPRecord(
            kind: position.signal.kind, tenant: tenant, timestamp: first?.timestamp ?? 0, payload: payload,
            identifier: itemCount == 1 ? first?.identifier : nil)
    }

    private func claim(_ length: Int, of total: inout Int) throws(OTLPInputError) {
        total += length + Self.recordOverhead
        guard total <= maximumTotal else {
            throw OTLPInputError(
                .tooLong, "an export request whose records would take more than \(maximumTotal) bytes")
        }
    }

    /// What a field with a value of `length` bytes takes.
    private static func fieldLength(_ length: Int) -> Int { 1 + Varint.length(of: length) + length }

    private static func appendHeader(_ tag: UInt8, _ length: Int, to bytes: inout [UInt8]) {
        bytes.append(tag)
        Varint.append(length, to: &bytes)
    }

    private static func malformed(_ part: String, _ error: any Error) -> OTLPInputError {
        let cause =
            switch error as? BinaryDecodingError {
            case .truncated?: "it ends in the middle of a field"
            case .invalidUTF8?: "a string is no UTF-8"
            case .messageDepthLimit?: "it is nested too deeply"
            default: "it is no valid protobuf"
            }
        return OTLPInputError(.malformed, "\(part) does not decode: \(cause)")
    }
}
