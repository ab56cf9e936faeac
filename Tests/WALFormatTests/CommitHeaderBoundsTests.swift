import Testing
import WALFormat

/// What a commit's header may hold, each bound tried on it and one beyond. The checksum is right in all of them: the
/// bound alone decides.
@Suite struct CommitHeaderBoundsTests {
    private enum Field {
        static let epoch = 16, fileSequence = 24, commitNumber = 40, durableThrough = 48, recordsBefore = 56
        static let commitLength = 72, frameHeadersLength = 76, bodiesLength = 80, frameCount = 84
    }

    /// A valid header whose fields changed and whose checksum was made right again.
    private func isValid(_ change: (inout [UInt8]) -> Void) throws -> Bool {
        var bytes = try SampleCommit.small().bytes
        change(&bytes)
        bytes.sealCommitHeader()
        switch readCommit(bytes) {
        case .valid: return true
        case .broken(let epoch):
            #expect(epoch == bytes.integer(UInt64.self, at: Field.epoch))
            return false
        case .absent:
            Issue.record("a header with magic and checksum is not absent")
            return false
        }
    }

    @Test func unchangedHeaderIsValid() throws { #expect(try isValid { _ in }) }

    @Test func commitLength() throws {
        #expect(try isValid { $0.put(UInt32(FormatLimits.maximumCommitLength), at: Field.commitLength) })
        #expect(try !isValid { $0.put(UInt32(FormatLimits.maximumCommitLength + 1), at: Field.commitLength) })
        #expect(try !isValid { $0.put(UInt32.max, at: Field.commitLength) })
    }

    @Test func headersAndBodiesFitIntoTheLength() throws {
        let room = UInt32(4096 - 96 - (try SampleCommit.small().header.frameHeadersLength))
        #expect(try isValid { $0.put(room, at: Field.bodiesLength) })
        #expect(try !isValid { $0.put(room + 1, at: Field.bodiesLength) })
        #expect(try !isValid { $0.put(UInt32.max, at: Field.bodiesLength) })
        #expect(try !isValid { $0.put(UInt32.max, at: Field.frameHeadersLength) })
    }

    @Test func everyFrameHasRoomForItsHeader() throws {
        #expect(try isValid { $0.put(UInt32(128), at: Field.frameHeadersLength) })
        #expect(try !isValid { $0.put(UInt32(127), at: Field.frameHeadersLength) })
    }

    @Test func frameCount() throws {
        let most = FormatLimits.maximumFrameCount
        func isCount(_ count: Int) throws -> Bool {
            try isValid {
                $0.put(UInt32(FormatLimits.maximumCommitLength), at: Field.commitLength)
                $0.put(UInt32(max(count, 1) * FrameHeader.fixedLength), at: Field.frameHeadersLength)
                $0.put(UInt32(count), at: Field.frameCount)
            }
        }
        #expect(try isCount(1))
        #expect(try !isCount(0))
        #expect(try isCount(most))
        #expect(try !isCount(most + 1))
        #expect(try !self.isValid { $0.put(UInt32.max, at: Field.frameCount) })
    }

    /// A commit cannot vouch for itself, and numbers begin at 1.
    @Test func durableThroughIsBelowTheCommitsNumber() throws {
        #expect(try isValid { $0.put(UInt64(41), at: Field.durableThrough) })
        #expect(try !isValid { $0.put(UInt64(42), at: Field.durableThrough) })
        #expect(try !isValid { $0.put(UInt64.max, at: Field.durableThrough) })
        func isNumber(_ number: UInt64) throws -> Bool {
            try isValid {
                $0.put(number, at: Field.commitNumber)
                $0.put(UInt64(0), at: Field.durableThrough)
            }
        }
        #expect(try !isNumber(0))
        #expect(try isNumber(1))
        #expect(try isNumber(FormatLimits.maximumNumber))
        #expect(try !isNumber(FormatLimits.maximumNumber + 1))
        #expect(try !isNumber(.max))
    }

    @Test func epochAndFileSequenceAreNotZero() throws {
        #expect(try !isValid { $0.put(UInt64(0), at: Field.epoch) })
        #expect(try isValid { $0.put(UInt64(1), at: Field.epoch) })
        #expect(try !isValid { $0.put(UInt64(0), at: Field.fileSequence) })
        #expect(try isValid { $0.put(UInt64(1), at: Field.fileSequence) })
    }

    @Test(arguments: [Field.fileSequence, Field.recordsBefore])
    func numbersAtTheirLimitAndOneAbove(field: Int) throws {
        #expect(try isValid { $0.put(FormatLimits.maximumNumber, at: field) })
        #expect(try !isValid { $0.put(FormatLimits.maximumNumber + 1, at: field) })
        #expect(try !isValid { $0.put(UInt64.max, at: field) })
    }

    @Test func logWithoutRecordsHasCommits() throws {
        #expect(try isValid { $0.put(UInt64(0), at: Field.recordsBefore) })
    }

    /// Random bits in use: an epoch has no bound but zero.
    @Test func epochMayBeAnyOtherNumber() throws { #expect(try isValid { $0.put(UInt64.max, at: Field.epoch) }) }
}
