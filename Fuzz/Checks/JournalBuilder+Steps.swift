import WALFormat

/// Fields that a step may set: offset and length of each, as SPEC.md has them.
private enum Fields {
    static let commit = [
        (16, 8), (24, 8), (32, 8), (40, 8), (48, 8), (56, 8), (64, 8), (72, 4), (76, 4), (80, 4), (84, 4), (88, 4),
        (92, 4),
    ]
    static let header = [
        (12, 4), (16, 8), (24, 8), (32, 8), (40, 8), (48, 8), (56, 4), (64, 8), (72, 8), (80, 8), (88, 8), (96, 8),
        (104, 8), (112, 4), (120, 8), (128, 8), (136, 8),
    ]
    static let frame = [
        (4, 2), (6, 1), (7, 1), (8, 8), (16, 4), (20, 4), (24, 4), (32, 8), (40, 8), (48, 8), (56, 2),
    ]
}

extension JournalBuilder {
    /// Most steps of a recipe: more only cost time.
    static let stepLimit = 40

    /// Begins the journal and does all steps of a recipe. Returns the file `FORMAT`.
    @discardableResult
    mutating func takeAll(_ recipe: [UInt8]) -> [UInt8] {
        var formatBytes = format.encoded()
        var reader = RecipeReader(recipe)
        var steps = 0
        begin([])
        while !reader.isAtEnd, steps < Self.stepLimit {
            steps += 1
            take(&reader, formatBytes: &formatBytes)
        }
        return formatBytes
    }

    /// Does the next step of a recipe.
    mutating func take(_ reader: inout RecipeReader, formatBytes: inout [UInt8]) {
        guard let step = JournalStep(rawValue: reader.byte() % UInt8(JournalStep.allCases.count)) else { return }
        switch step {
        case .begin:
            let choices = Beginning(rawValue: reader.byte())
            if !choices.isSubset(of: [.isLarge, .dropsOlderFiles]) { isAsWritten = false }
            begin(choices)
        case .append:
            let (tenant, count, length) = (Int(reader.byte()), Int(reader.byte() % 16) + 1, Int(reader.byte()))
            let choices = Appending(rawValue: reader.byte())
            if !choices.isDisjoint(with: [.failed, .skipsSequence]) { isAsWritten = false }
            append(tenant: tenant, count: count, length: 4 * length, choices)
        case .control:
            isAsWritten = false
            control((0..<Int(reader.byte() % 8) + 1).map { _ in controlRecord(&reader) })
        case .close: control([.watermark(durableThrough: 0)], flags: [.watermark, .closing])
        case .spare: addSpare()
        case .overwriteFormat:
            isAsWritten = false
            let bytes = reader.array(Int(reader.byte() % 64))
            formatBytes.replaceSubrange(0..<bytes.count, with: bytes)
        default:
            guard let index = reader.index(below: files.count) else { return }
            // What has left the log is removed sooner or later.
            if step != .remove || files[index].header.fileSequence >= oldestLiveFile { isAsWritten = false }
            change(step, fileAt: index, &reader)
        }
    }

    private func controlRecord(_ reader: inout RecipeReader) -> ControlRecord {
        let kind = reader.byte()
        let subscriber = Self.subscribers[Int(reader.byte()) % Self.subscribers.count]
        let tenant = Self.tenants[Int(reader.byte()) % Self.tenants.count]
        let number = reader.number()
        switch kind % 8 {
        case 0: return .subscriber(name: subscriber, isRegistered: true)
        case 1: return .cursor(subscriber: subscriber, tenant: tenant, acknowledgedThrough: number)
        case 2: return .tenantState(tenant: tenant, nextSequence: number)
        case 3: return .subscriber(name: subscriber, isRegistered: false)
        case 4: return .watermark(durableThrough: number)
        case 5: return .checkpoint(tenants: 0, cursors: 0, subscribers: 0, sequenceFloor: number)
        case 6:
            let total = DropTotal(
                records: number & 0xFFFF, length: number & 0xFF_FFFF, firstReceived: 1, lastReceived: 1 + number & 0xFF)
            let cause = DropCause(rawValue: 1 + kind / 8 % 5) ?? .budget
            return .dropped(tenant: tenant, cause: cause, through: number, total: total)
        default:
            return .erasure(tenant: tenant, through: number, requested: 1, isComplete: kind & 8 != 0)
        }
    }

    private mutating func change(_ step: JournalStep, fileAt index: Int, _ reader: inout RecipeReader) {
        switch step {
        case .overwrite:
            let start = Int(reader.byte()) * blockSize + reader.pair() % blockSize
            write(reader.array(Int(reader.byte())), at: start, of: index)
        case .zero:
            let start = Int(reader.byte()) * blockSize
            write([UInt8](repeating: 0, count: (Int(reader.byte() % 8) + 1) * blockSize), at: start, of: index)
        case .misdirect:
            let start = Int(reader.byte()) * blockSize
            guard let other = reader.index(below: files.count) else { return }
            let target = Int(reader.byte()) * blockSize
            let end = start + (Int(reader.byte() % 8) + 1) * blockSize
            let range = (start..<end).clamped(to: 0..<files[index].bytes.count)
            write(Array(files[index].bytes[range]), at: target, of: other)
        case .resize:
            let size = Int(reader.byte()) * blockSize
            let length = min(max(0, size - (reader.byte() % 2 == 1 ? 100 : 0)), 4 * files[index].bytes.count)
            if length < files[index].bytes.count {
                files[index].bytes.removeLast(files[index].bytes.count - length)
            } else {
                files[index].bytes += repeatElement(0, count: length - files[index].bytes.count)
            }
        case .rename:
            let name = String(reader.number(), radix: 16) + ".journal"
            if !files.contains(where: { $0.name == name }) { files[index].name = name }
        case .remove: remove(at: index)
        case .fail:
            let start = UInt64(reader.byte()) * UInt64(blockSize)
            files[index].unreadable.append(start..<start + UInt64(reader.byte() % 4 + 1) * UInt64(blockSize))
        case .patchHeader: patchHeader(of: index, &reader)
        case .patchCommit, .patchFrame, .patchBody:
            guard let place = reader.index(below: files[index].commits.count) else { return }
            let commit = files[index].commits[place]
            switch step {
            case .patchCommit: patchCommit(at: commit, of: index, &reader)
            case .patchFrame: patchFrame(inCommitAt: commit, of: index, &reader)
            default: patchBody(ofCommitAt: commit, of: index, &reader)
            }
            follow(commitAt: commit, of: index)
        case .begin, .append, .control, .close, .spare, .overwriteFormat: break
        }
    }

    private mutating func write(_ bytes: [UInt8], at offset: Int, of index: Int) {
        let range = (offset..<offset + bytes.count).clamped(to: 0..<files[index].bytes.count)
        if range.isEmpty { return }
        files[index].bytes.replaceSubrange(range, with: bytes.prefix(range.count))
    }

    // MARK: - Fields

    private mutating func patchHeader(of index: Int, _ reader: inout RecipeReader) {
        forgesHeaders = true
        let copies = reader.byte()
        let patch = FieldPatch(Fields.header, &reader)
        let blockSize = blockSize
        files[index].bytes.withUnsafeMutableBytes { bytes in
            for copy in 0..<2 where copies & (1 << UInt8(copy)) == 0 && bytes.count >= (copy + 1) * blockSize {
                let base = copy * blockSize
                patch.apply(to: bytes, at: base)
                bytes.seal(base + 12..<base + blockSize, at: base + 8)
            }
        }
    }

    private mutating func patchCommit(at offset: Int, of index: Int, _ reader: inout RecipeReader) {
        forgesHeaders = true
        let patch = FieldPatch(Fields.commit, &reader)
        files[index].bytes.withUnsafeMutableBytes { bytes in
            patch.apply(to: bytes, at: offset)
            bytes.sealCommitHeader(at: offset)
        }
    }

    private mutating func patchFrame(inCommitAt offset: Int, of index: Int, _ reader: inout RecipeReader) {
        forgesBodies = true
        let frame = Int(reader.byte() % 4)
        let patch = FieldPatch(Fields.frame, &reader)
        files[index].bytes.withUnsafeMutableBytes { bytes in
            var header = offset + CommitHeader.length
            for _ in 0..<frame { header += Int(bytes.integer(UInt16.self, at: header + 4) ?? 0) }
            patch.apply(to: bytes, at: header)
            bytes.sealCommit(at: offset)
        }
    }

    private mutating func patchBody(ofCommitAt offset: Int, of index: Int, _ reader: inout RecipeReader) {
        forgesBodies = true
        let place = reader.pair()
        let value = reader.byte()
        files[index].bytes.withUnsafeMutableBytes { bytes in
            let headers = Int(bytes.integer(UInt32.self, at: offset + 76) ?? 0)
            let length = Int(bytes.integer(UInt32.self, at: offset + 80) ?? 0)
            let target = offset + CommitHeader.length + headers + (length > 0 ? place % length : 0)
            if target < bytes.count { bytes[target] = value }
            bytes.sealCommit(at: offset)
        }
    }
}

/// A new value of a field: a number, or one more or less than it was.
struct FieldPatch {
    private let offset: Int
    private let length: Int
    private let number: UInt64
    private let adds: Bool

    init(_ fields: [(Int, Int)], _ reader: inout RecipeReader) {
        let choice = reader.byte()
        (offset, length) = fields[Int(choice & 31) % fields.count]
        let value = reader.number()
        number = choice & 64 == 0 ? value : 0 &- value
        adds = choice & 128 != 0
    }

    func apply(to bytes: UnsafeMutableRawBufferPointer, at base: Int) {
        let start = base + offset
        guard start + length <= bytes.count else { return }
        var value = number
        if adds {
            let old = bytes[start..<start + length].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            value = old &+ number
        }
        for place in 0..<length { bytes[start + place] = UInt8(truncatingIfNeeded: value >> UInt64(8 * place)) }
    }
}
