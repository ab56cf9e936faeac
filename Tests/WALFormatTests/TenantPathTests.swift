import Testing
import WALFormat

/// `TenantName.pathComponents`: whatever the name, the path stays below the directory that it is put in, and no two
/// tenants share one.
@Suite struct TenantPathTests {
    @Test(arguments: [
        ("acme", ["acme"]), ("Acme-1_x", ["Acme-1_x"]), ("a.b.c", ["a.b.c"]), (".", ["%2E"]), ("..", ["%2E."]),
        (".hidden", ["%2Ehidden"]), ("../../etc", ["%2E.%2F..%2Fetc"]), ("a/b", ["a%2Fb"]), ("%2E", ["%252E"]),
        ("a~", ["a%7E"]), ("é", ["%C3%A9"]), (" ", ["%20"]), ("\n", ["%0A"]), ("/", ["%2F"]), ("a.", ["a."]),
    ])
    func namesBecomePaths(name: String, path: [String]) throws {
        #expect(try TenantName(name).pathComponents == path)
    }

    @Test func longNamesAreSplit() throws {
        let plain = { (count: Int) in String(repeating: "x", count: count) }
        #expect(try TenantName(plain(200)).pathComponents == [plain(200)])
        #expect(try TenantName(plain(201)).pathComponents == [plain(200) + "~", "x"])
        #expect(try TenantName(plain(200) + ".").pathComponents == [plain(200) + "~", "%2E"])
        #expect(try TenantName(plain(200) + "..").pathComponents == [plain(200) + "~", "%2E."])
        #expect(
            try TenantName(String(repeating: "\u{1}", count: 255)).pathComponents.map(\.utf8.count) == [
                201, 201, 201, 165,
            ])
    }

    /// Names that go for the seams: escapes that look like escaped names, dots and escapes across every split.
    private static func adversarialNames() -> [String] {
        var names = [
            "%", "%2", "%2E", "%2e", "%252E", ".", "..", "...", ". ", "./", "/.", "~", "a~", "a%7E", "a", "a/", "a/b",
            "a%2Fb",
            "a~/b", "/", "//", "\\", "LOCK", "FORMAT", "deadletter", "a.segment", "-", "-rf", " ", "\u{7F}", "A", "É",
            "é",
        ]
        for length in 195...205 {
            let stem = String(repeating: "y", count: length)
            for tail in ["", ".", "..", "...", "/", "%", "%2E", "2E", "~", "é", ".~", "~.", "E"] {
                names.append(stem + tail)
            }
            // Split once more: 65 escapes of three characters, then dots around the 400th.
            let escaped = String(repeating: "/", count: length - 140)
            for tail in [".", "..", "x..", "%2E.", String(repeating: ".", count: 60)] { names.append(escaped + tail) }
        }
        names.append(String(repeating: ".", count: 255))
        names.append(String(repeating: "/", count: 255))
        names.append(String(repeating: "🐳", count: 63))
        return names
    }

    /// Random names over an alphabet in which the dangerous characters are common.
    private static func randomNames(_ count: Int, seed: UInt64) -> [String] {
        var generator = SeededGenerator(seed: seed)
        let alphabet = Array("..//%%~~2E7eFaé🐳 -_")
        return (0..<count).map { _ in
            var name = ""
            let length = generator.below(4) == 0 ? 150 + generator.below(105) : 1 + generator.below(6)
            while name.utf8.count < length { name.append(alphabet[generator.below(alphabet.count)]) }
            while name.utf8.count > 255 { name.removeLast() }
            return name
        }
    }

    @Test func everyPathIsSafe() throws {
        for name in Self.adversarialNames() + Self.randomNames(5_000, seed: 21) {
            let components = try TenantName(name).pathComponents
            #expect(!components.isEmpty)
            for component in components {
                let isSafe =
                    !component.isEmpty && component != "." && component != ".." && component.utf8.count <= 255
                    && component.utf8.allSatisfy { (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "/") }
                if !isSafe { Issue.record("\(name) becomes \(component)") }
            }
            // Only directories end in "~": a tenant's own directory is never another one's parent.
            #expect(components.dropLast().allSatisfy { $0.hasSuffix("~") })
            #expect(components.last?.contains("~") == false)
            // Nor is one hidden, by its own name or by the directory that it begins in.
            #expect(components.last?.hasPrefix(".") == false)
            #expect(components.first?.hasPrefix(".") == false)
        }
    }

    @Test func differentNamesNeverShareAPath() throws {
        var owners: [[String]: [UInt8]] = [:]
        for name in Set((Self.adversarialNames() + Self.randomNames(20_000, seed: 22)).map { Array($0.utf8) }) {
            let path = try TenantName(utf8: name).pathComponents
            if let other = owners.updateValue(name, forKey: path) { Issue.record("\(name) and \(other) share \(path)") }
        }
        #expect(owners.count > 10_000)
    }

    /// A path leads back to its name, and other spellings lead nowhere.
    @Test func pathsBecomeNames() throws {
        for name in Self.adversarialNames() + Self.randomNames(5000, seed: 7) {
            let tenant = try TenantName(name)
            #expect(TenantName(pathComponents: tenant.pathComponents) == tenant, "\(name)")
        }
        for path in [
            [], [""], ["%"], ["%2"], ["%2g"], ["%41"], ["%2e"], [".a"], ["a~"], ["a", "b"], ["a~", "b"], ["a b"], ["é"],
            ["%00"], ["%FF"], [String(repeating: "x", count: 201)], [String(repeating: "x", count: 200) + "~", ""],
        ] { #expect(TenantName(pathComponents: path) == nil, "\(path)") }
    }
}
