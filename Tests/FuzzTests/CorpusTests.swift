import Foundation
import FuzzChecks
import Testing

/// Replays the committed corpora through what the fuzzer runs: seeds, and inputs that once found something.
@Suite struct CorpusTests {
    private static let corpora = URL(filePath: #filePath).deletingLastPathComponent().appending(
        path: "../../Fuzz/Corpora"
    ).standardizedFileURL

    private func inputs(of target: FuzzTarget) throws -> [URL] {
        try FileManager.default.contentsOfDirectory(
            at: Self.corpora.appending(path: target.rawValue), includingPropertiesForKeys: nil
        ).sorted { $0.path < $1.path }
    }

    @Test(arguments: FuzzTarget.allCases) func everyInputIsHandledAsItShouldBe(_ target: FuzzTarget) throws {
        let inputs = try inputs(of: target)
        #expect(inputs.count >= 5, "\(target.rawValue) has hardly a corpus; see tools/make-fuzz-seeds.py")
        let checker = FuzzChecker()
        for input in inputs {
            let bytes = try [UInt8](Data(contentsOf: input))
            // Were it to crash, the last line of the output says with what.
            FileHandle.standardError.write(Data("\(target.rawValue)/\(input.lastPathComponent)\n".utf8))
            #expect(throws: Never.self, "\(target.rawValue)/\(input.lastPathComponent)") {
                try bytes.withUnsafeBytes { try checker.check(target, $0) }
            }
        }
    }

    /// Prefixes of seeds: an input that ends early is what a torn write leaves. A recipe's is only another recipe.
    @Test(arguments: FuzzTarget.allCases.filter { !$0.isRecipe })
    func everyInputMayBeCutOff(_ target: FuzzTarget) throws {
        let checker = FuzzChecker()
        for input in try inputs(of: target) {
            let bytes = try [UInt8](Data(contentsOf: input))
            for length in stride(from: 0, to: bytes.count, by: max(1, bytes.count / 8)) {
                #expect(throws: Never.self, "\(length) bytes of \(target.rawValue)/\(input.lastPathComponent)") {
                    try bytes.prefix(length).withUnsafeBytes { try checker.check(target, $0) }
                }
            }
        }
    }

    /// A folder that no target has any more is replayed by nobody.
    @Test func eachCorpusBelongsToATarget() throws {
        let names = try FileManager.default.contentsOfDirectory(atPath: Self.corpora.path)
        #expect(Set(names) == Set(FuzzTarget.allCases.map(\.rawValue)))
    }
}
