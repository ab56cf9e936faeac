import WALFormat

/// Must crash. A run of fuzzers that finds nothing says something only while this one is found out: were coverage lost
/// to the order of some flags, four bytes would take 2^32 guesses, and with it they take a second.
@c(LLVMFuzzerTestOneInput)
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    // Through WALFormat, so that a module built without coverage shows here too.
    guard let name = try? TenantName(utf8: Array(UnsafeBufferPointer(start: start, count: count))) else { return 0 }
    let bytes = name.utf8
    if bytes.count >= 4, bytes[0] == UInt8(ascii: "W") {
        if bytes[1] == UInt8(ascii: "A"), bytes[2] == UInt8(ascii: "L") {
            if bytes[3] == UInt8(ascii: "!") { fatalError("the canary was found, as it should be") }
        }
    }
    return 0
}
