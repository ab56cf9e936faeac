import TelemetryWAL
import WALFormat

/// Takes control records into a log's state, as recovery does, and holds the state against what must hold of it always:
/// nothing moves back, and a checkpoint is the whole of it.
func checkCursorState(_ input: FuzzInput) throws(FuzzViolation) {
    try input.withCopy { (buffer) throws(FuzzViolation) in
        let body = buffer.bytes
        let count = try walkedCount(body)
        guard let records = try? ControlRecord.decodeAll(body, count: count) else { return }
        var state = LogState()
        for record in records {
            let before = state
            state.apply(record)
            try checkProgress(from: before, to: state, by: record)
        }
        try checkCheckpoint(of: state)
        // As a checkpoint does: who is not in it has left, and cursors are as it has them.
        let again = state.checkpoint()
        let before = state
        state.forgetSubscribers()
        try require(state.subscribers.isEmpty && state.tenants.count == before.tenants.count, "nobody stays subscribed")
        for record in again { state.apply(record) }
        try require(state.subscribers == before.subscribers, "a checkpoint brings all subscribers back")
        try checkCheckpoint(of: state)
    }
}

private func checkProgress(from before: LogState, to after: LogState, by record: ControlRecord) throws(FuzzViolation) {
    try require(after.sequenceFloor >= before.sequenceFloor, "the sequence floor moves forward only")
    try require(after.tenants.count >= before.tenants.count, "no tenant is forgotten")
    for (index, tenant) in before.tenants.enumerated() {
        try require(after.tenants[index].name == tenant.name, "a tenant keeps its place")
        try require(after.tenants[index].nextSequence >= tenant.nextSequence, "sequence numbers move forward only")
        try require(after.index(of: tenant.name) == index, "a tenant is found by its name")
    }
    for tenant in after.tenants.dropFirst(before.tenants.count) {
        try require(tenant.nextSequence >= before.sequenceFloor, "a new tenant begins with the sequence floor")
    }
    for subscriber in before.subscribers {
        if case .subscriber(subscriber, false, _) = record {
            try require(!after.subscribers.contains(subscriber), "a subscriber that is removed is gone")
            continue
        }
        try require(after.subscribers.contains(subscriber), "a subscriber stays until it is removed")
        if case .subscriber(subscriber, true, let registration) = record, registration != 0,
            before.registrations[subscriber] ?? 0 != 0, registration != before.registrations[subscriber]
        {
            try require(
                before.tenants.indices.allSatisfy { after.acknowledgedThrough(subscriber, tenant: $0) == 0 },
                "another registration has no cursors")
            continue
        }
        for index in before.tenants.indices {
            let (old, new) = (
                before.acknowledgedThrough(subscriber, tenant: index),
                after.acknowledgedThrough(subscriber, tenant: index)
            )
            try require(new >= old, "cursors move forward only")
        }
    }
}

/// A checkpoint, written and read, gives the state again.
private func checkCheckpoint(of state: LogState) throws(FuzzViolation) {
    let records = state.checkpoint()
    let length = records.reduce(0) { $0 + $1.length }
    try require(length <= state.checkpointBound, "a checkpoint is not longer than its bound")
    var bytes = [UInt8](repeating: 0xEE, count: length)
    bytes.withMutableRawSpan { (span: inout MutableRawSpan) in
        var offset = 0
        for record in records {
            record.encode(into: &span, at: offset, timestamp: 0)
            offset += record.length
        }
    }
    guard let read = try? ControlRecord.decodeAll(bytes.span.bytes, count: records.count), read == records else {
        throw FuzzViolation(description: "violated: a checkpoint's records come back")
    }
    var copy = LogState()
    for record in read { copy.apply(record) }
    try require(copy.sequenceFloor == state.sequenceFloor, "a checkpoint keeps the sequence floor")
    try require(copy.subscribers == state.subscribers, "a checkpoint keeps all subscribers")
    try require(copy.tenants.map(\.name) == state.tenants.map(\.name), "a checkpoint keeps all tenants in order")
    for (index, tenant) in state.tenants.enumerated() {
        try require(
            copy.tenants[index].nextSequence == max(tenant.nextSequence, state.sequenceFloor),
            "a checkpoint keeps a tenant's number, or raises it to the floor")
        for subscriber in state.subscribers {
            try require(
                copy.acknowledgedThrough(subscriber, tenant: index)
                    == state.acknowledgedThrough(subscriber, tenant: index), "a checkpoint keeps all cursors")
        }
    }
}
