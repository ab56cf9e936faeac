import WALFormat
import WALStorage

/// A tenant's name and its path: the path stays below the directory that it is put in, and gives the name back, so that
/// no two names share one.
func checkName(_ bytes: [UInt8]) throws(FuzzViolation) {
    guard let name = try? TenantName(utf8: bytes) else {
        if let text = String(validating: bytes, as: UTF8.self) {
            try require((try? TenantName(text)) == nil, "a name is refused as text if it is as bytes")
        }
        return
    }
    try require(name.utf8 == bytes, "a name is its bytes")
    try require((1...FormatLimits.maximumNameLength).contains(bytes.count), "a name's length is bounded")
    try require((try? TenantName(name.description)) == name, "a name comes back from its text")
    let components = name.pathComponents
    for component in components {
        try require(!["", ".", ".."].contains(component), "no component is empty or goes up")
        try require(component.utf8.count <= 210, "a component is a legal file name")
        try require(component.utf8.allSatisfy(isSafeInPath), "a component holds nothing but safe characters")
    }
    for component in components.dropLast() { try require(component.hasSuffix("~"), "an inner component ends in ~") }
    let last = components.last ?? ""
    try require(!last.hasSuffix("~") && !last.hasPrefix("."), "the last component does not, and is not hidden")
    let escaped = components.dropLast().map { $0.dropLast() }.joined() + (components.last ?? "")
    try require(unescaped(Array(escaped.utf8)) == bytes, "a path gives its name back")
}

private func isSafeInPath(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"):
        true
    default: "-_.%~".utf8.contains(byte)
    }
}

private func unescaped(_ text: [UInt8]) -> [UInt8]? {
    var bytes: [UInt8] = []
    var index = 0
    while index < text.count {
        if text[index] != UInt8(ascii: "%") {
            bytes.append(text[index])
            index += 1
            continue
        }
        guard index + 2 < text.count,
            let byte = UInt8(String(decoding: text[index + 1...index + 2], as: UTF8.self), radix: 16)
        else { return nil }
        bytes.append(byte)
        index += 3
    }
    return bytes
}

/// The kernel's table of mounts, which holds paths that any user may have chosen.
func checkMountTable(_ bytes: [UInt8]) throws(FuzzViolation) {
    let table = MountTable(String(decoding: bytes, as: UTF8.self))
    try require(table.mounts.count <= bytes.count, "a mount takes a line")
    for mount in table.mounts {
        try require(table.mount(identifier: mount.identifier) != nil, "a mount is found by its number")
        _ = table.mount(of: mount.mountPoint)
        _ = mount.value(ofOption: "lowerdir")
    }
    _ = table.mount(of: "/var/lib/telemetry")
}
