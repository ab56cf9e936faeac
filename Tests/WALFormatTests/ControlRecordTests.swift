import Testing
import WALFormat

@Suite struct ControlRecordTests {
    private static let longest = TenantName(stringLiteral: String(repeating: "é", count: 127) + "x")

    private static let samples: [ControlRecord] = [
        .cursor(subscriber: "collector", tenant: "acme", acknowledgedThrough: 0x0102_0304_0506_0708),
        .cursor(subscriber: longest, tenant: longest, acknowledgedThrough: FormatLimits.maximumNumber),
        .cursor(subscriber: "a", tenant: "b", acknowledgedThrough: 0),
        .checkpoint(tenants: 1, cursors: 2, subscribers: 3, sequenceFloor: 4),
        .checkpoint(tenants: 0, cursors: .max, subscribers: 0, sequenceFloor: FormatLimits.maximumNumber),
        .tenantState(tenant: "acme", nextSequence: 77),
        .tenantState(tenant: longest, nextSequence: FormatLimits.maximumNumber),
        .watermark(durableThrough: 41),
        .subscriber(name: "collector", isRegistered: true),
        .subscriber(name: "collector", isRegistered: true, registration: .max),
        .subscriber(name: longest, isRegistered: false),
        .dropped(
            tenant: "acme", cause: .budget, through: 9,
            total: DropTotal(records: 8, length: 700, firstReceived: 6, lastReceived: .max)),
        .dropped(tenant: longest, cause: .newest, through: 0, total: DropTotal()),
        .erasure(tenant: "acme", through: 9, requested: .max, isComplete: false),
        .erasure(tenant: longest, through: FormatLimits.maximumNumber, requested: 0, isComplete: true),
    ]

    @Test(arguments: samples)
    func roundTrip(record: ControlRecord) throws {
        let body = SampleFrame(control: [record]).body
        #expect(body.count == record.length)
        #expect(try decodeControl(body) == [record])
    }

    @Test func manyInOneFrameComeBackInOrder() throws {
        let body = SampleFrame(control: Self.samples).body
        #expect(try decodeControl(body, count: Self.samples.count) == Self.samples)
    }

    /// The layouts that SPEC.md states, byte by byte; each behind a record header with the timestamp 9.
    @Test func layout() {
        func payload(_ record: ControlRecord, _ kind: UInt8) -> [UInt8] {
            let body = SampleFrame(control: [record], timestamp: 9).body
            #expect(Array(body[..<16]) == [UInt8(body.count - 16), 0, 0, 0, kind, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0])
            return Array(body[16...])
        }
        #expect(
            payload(.cursor(subscriber: "ab", tenant: "xyz", acknowledgedThrough: 5), 0x81)
                == [5, 0, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0, 0, 0, 0, 0] + Array("abxyz".utf8))
        #expect(
            payload(.checkpoint(tenants: 1, cursors: 2, subscribers: 3, sequenceFloor: 4), 0x82)
                == [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]
                + [4, 0, 0, 0, 0, 0, 0, 0])
        #expect(
            payload(.tenantState(tenant: "xyz", nextSequence: 6), 0x83)
                == [6, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0] + Array("xyz".utf8))
        let backlog = BacklogSummary(
            appendedLength: 0x0102, releasedThrough: 3, releasedLength: 4, oldestReceived: 5)
        #expect(
            payload(.tenantState(tenant: "xyz", nextSequence: 6, backlog: backlog), 0x83)
                == [6, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0] + Array("xyz".utf8)
                + [2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0])
        let total = DropTotal(records: 2, length: 3, firstReceived: 4, lastReceived: 5)
        for (number, cause) in [DropCause.budget, .age, .space, .newest, .erasure].enumerated() {
            #expect(
                payload(.dropped(tenant: "xyz", cause: cause, through: 1, total: total), 0x86)
                    == [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]
                    + [4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]
                    + [UInt8(number + 1), 0, 3, 0, 0, 0, 0, 0] + Array("xyz".utf8))
        }
        for isComplete in [false, true] {
            #expect(
                payload(.erasure(tenant: "xyz", through: 1, requested: 2, isComplete: isComplete), 0x87)
                    == [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]
                    + [isComplete ? 1 : 0, 0, 3, 0, 0, 0, 0, 0] + Array("xyz".utf8))
        }
        #expect(payload(.watermark(durableThrough: 7), 0x84) == [7, 0, 0, 0, 0, 0, 0, 0])
        #expect(payload(.subscriber(name: "ab", isRegistered: true), 0x85) == [1, 0, 2, 0, 0, 0, 0, 0, 97, 98])
        #expect(payload(.subscriber(name: "ab", isRegistered: false), 0x85) == [0, 0, 2, 0, 0, 0, 0, 0, 97, 98])
        #expect(
            payload(.subscriber(name: "ab", isRegistered: true, registration: 0x0102_0304), 0x85)
                == [1, 0, 2, 0, 4, 3, 2, 1, 97, 98])
    }

    /// A record whose payload lost bytes, and whose header says so, is refused at every length.
    @Test(arguments: samples)
    func payloadCutOffAnywhereIsTruncated(record: ControlRecord) {
        let body = SampleFrame(control: [record]).body
        for length in 0..<body.count - RecordHeader.length {
            let part = recordBytes(kind: body[4], timestamp: 1, Array(body[16..<16 + length]))
            #expect(cause { () throws(FormatError) in try decodeControl(part) } == .truncated, "\(length) bytes")
        }
    }

    @Test(arguments: samples)
    func bodyCutOffAnywhereIsRefused(record: ControlRecord) {
        let body = SampleFrame(control: [record]).body
        for length in 0..<body.count {
            let part = Array(body.prefix(length))
            #expect(cause { () throws(FormatError) in try decodeControl(part) } != nil, "\(length) bytes")
        }
    }

    @Test func unknownTypeIsANewerVersion() {
        for kind in UInt8(1)...255 where !(0x81...0x87).contains(kind) {
            let body = recordBytes(kind: kind, timestamp: 1, [UInt8](repeating: 0, count: 64))
            #expect(cause { () throws(FormatError) in try decodeControl(body) } == .version, "type \(kind)")
        }
    }

    @Test func unknownCauseIsANewerVersion() {
        let record = ControlRecord.dropped(tenant: "xyz", cause: .age, through: 1, total: DropTotal())
        for cause in UInt8(0)...255 where !(1...5).contains(cause) {
            var body = SampleFrame(control: [record]).body
            body[16 + 40] = cause
            #expect(WALFormatTests.cause { () throws(FormatError) in try decodeControl(body) } == .version)
        }
    }

    /// A tenant's bytes are for budgets: where they are missing, cut off, or cannot be right, the rest counts.
    @Test func aBacklogThatIsMissingOrWrongIsNotKnown() throws {
        let most = FormatLimits.maximumNumber
        let backlog = BacklogSummary(
            appendedLength: most, releasedThrough: most, releasedLength: most, oldestReceived: .max)
        let record = ControlRecord.tenantState(tenant: "xyz", nextSequence: 6, backlog: backlog)
        let body = SampleFrame(control: [record]).body
        #expect(try decodeControl(body) == [record])
        let bare = ControlRecord.tenantState(tenant: "xyz", nextSequence: 6)
        for length in 19..<body.count - 16 {
            #expect(try decodeControl(recordBytes(kind: 0x83, timestamp: 1, Array(body[16..<16 + length]))) == [bare])
        }
        for (offset, value) in [(0, most + 1), (8, most + 1), (0, most - 1)] {
            var wrong = body
            wrong.put(value, at: 16 + 19 + offset)
            #expect(try decodeControl(wrong) == [bare])
        }
    }

    @Test func zerosAreNeverAControlRecord() {
        let zeros = [UInt8](repeating: 0, count: 64)
        #expect(cause { () throws(FormatError) in try decodeControl(zeros) } == .field)
    }

    /// Empty, too long, NUL, not UTF-8: in each place where a name stands. Nothing is said twice: an empty subscriber
    /// must not make the tenant's name slide into its place.
    @Test func namesMustBeNames() {
        func cause(_ record: ControlRecord, _ change: (inout [UInt8]) -> Void) -> FormatError.Cause? {
            var body = SampleFrame(control: [record]).body + [UInt8](repeating: 0x61, count: 300)
            change(&body)
            body.put(UInt32(body.count - 16), at: 0)
            return WALFormatTests.cause { () throws(FormatError) in try decodeControl(body) }
        }
        let cursor = ControlRecord.cursor(subscriber: "ab", tenant: "xyz", acknowledgedThrough: 5)
        let state = ControlRecord.tenantState(tenant: "xyz", nextSequence: 6)
        let subscriber = ControlRecord.subscriber(name: "ab", isRegistered: true)
        for (record, length, name) in [(cursor, 24, 32), (cursor, 26, 34), (state, 24, 32), (subscriber, 18, 24)] {
            #expect(cause(record) { $0.put(UInt16(0), at: length) } == .field)
            #expect(cause(record) { $0.put(UInt16(256), at: length) } == .field)
            #expect(cause(record) { $0.put(UInt16.max, at: length) } == .truncated)
            #expect(cause(record) { $0[name] = 0 } == .field)
            #expect(cause(record) { $0[name] = 0xFF } == .field)
        }
    }

    @Test func numbersOneAboveTheirLimit() {
        let most = FormatLimits.maximumNumber
        for (record, offset) in [
            (ControlRecord.cursor(subscriber: "ab", tenant: "xyz", acknowledgedThrough: most), 16),
            (.checkpoint(tenants: 1, cursors: 2, subscribers: 3, sequenceFloor: most), 16 + 24),
            (.tenantState(tenant: "xyz", nextSequence: most), 16), (.watermark(durableThrough: most), 16),
            (.dropped(tenant: "xyz", cause: .age, through: most, total: DropTotal()), 16),
            (.dropped(tenant: "xyz", cause: .age, through: 1, total: DropTotal(records: most)), 24),
            (.dropped(tenant: "xyz", cause: .age, through: 1, total: DropTotal(length: most)), 32),
        ] {
            var body = SampleFrame(control: [record]).body
            #expect(cause { () throws(FormatError) in try decodeControl(body) } == nil)
            body.put(most + 1, at: offset)
            #expect(cause { () throws(FormatError) in try decodeControl(body) } == .field)
            body.put(UInt64.max, at: offset)
            #expect(cause { () throws(FormatError) in try decodeControl(body) } == .field)
        }
    }

    /// Bytes behind a layout are ignored, so that a later writer may add to it what older readers need not know.
    @Test(arguments: samples)
    func bytesBehindTheLayoutAreIgnored(record: ControlRecord) throws {
        let body = SampleFrame(control: [record]).body
        let longer = recordBytes(kind: body[4], timestamp: 1, Array(body[16...]) + [1, 2, 3])
        #expect(try decodeControl(longer) == [record])
    }

    @Test func countMustBeRight() {
        let body = SampleFrame(control: Self.samples).body
        for count in [0, 1, Self.samples.count - 1, Self.samples.count + 1] {
            #expect(cause { () throws(FormatError) in try decodeControl(body, count: count) } != nil)
        }
    }
}
