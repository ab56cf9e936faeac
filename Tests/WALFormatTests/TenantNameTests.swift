import Testing
import WALFormat

@Suite struct TenantNameTests {
    private func fault(_ name: String) -> TenantNameError? {
        do throws(TenantNameError) {
            _ = try TenantName(name)
            return nil
        } catch { return error }
    }

    private func fault(utf8 bytes: [UInt8]) -> TenantNameError? {
        do throws(TenantNameError) {
            _ = try TenantName(utf8: bytes)
            return nil
        } catch { return error }
    }

    @Test func emptyIsRefused() {
        #expect(fault("") == .empty)
        #expect(fault(utf8: []) == .empty)
    }

    @Test func lengthIsCountedInBytes() {
        #expect(fault(String(repeating: "x", count: 255)) == nil)
        #expect(fault(String(repeating: "x", count: 256)) == .tooLong(256))
        // 64 emoji of four bytes: few characters, one byte too many.
        #expect(fault(String(repeating: "🐳", count: 63) + "xyz") == nil)
        #expect(fault(String(repeating: "🐳", count: 64)) == .tooLong(256))
    }

    @Test func mebibyteIsRefused() {
        #expect(fault(String(repeating: "x", count: 1 << 20)) == .tooLong(1 << 20))
        #expect(fault(utf8: [UInt8](repeating: 0x78, count: 1 << 20)) == .tooLong(1 << 20))
    }

    @Test(arguments: ["\0", "a\0", "\0a", "a\0b"])
    func nulIsRefused(name: String) { #expect(fault(name) == .containsNUL) }

    @Test(
        arguments: [
            [0xFF], [0x61, 0xC3], [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xE2, 0x82],
        ] as [[UInt8]])
    func illFormedUTF8IsRefused(bytes: [UInt8]) { #expect(fault(utf8: bytes) == .notUTF8) }

    @Test(arguments: ["../../etc", ".", "..", ".hidden", "/", "🐳", " ", "\n", "a/b", "%2E", "~"])
    func oddNamesAreNames(name: String) throws {
        let tenant = try TenantName(name)
        #expect(tenant.utf8 == Array(name.utf8))
        #expect(tenant.description == name)
        #expect(try TenantName(utf8: tenant.utf8) == tenant)
    }

    /// Swift's strings compare by canonical equivalence, tenants by bytes: two customers must not become one.
    @Test func composedAndDecomposedAreTwoTenants() throws {
        let (composed, decomposed) = ("caf\u{E9}", "cafe\u{301}")
        #expect(composed == decomposed)
        let (first, second) = (try TenantName(composed), try TenantName(decomposed))
        #expect(first != second)
        #expect(Set([first, second]).count == 2)
        #expect(first.pathComponents != second.pathComponents)
    }

    @Test func namesAreOrderedByTheirBytes() throws {
        let names: [TenantName] = ["b", "é", "a", "B", "ab", "z"]
        #expect(names.sorted() == ["B", "a", "ab", "b", "z", "é"])
    }

    @Test func errorsSayWhatToDo() {
        #expect(TenantNameError.tooLong(300).description == "the name has 300 bytes; at most 255 are allowed")
        #expect(TenantNameError.empty.description.contains("1 to 255"))
    }
}
