/// A mount, as a line of `/proc/self/mountinfo` describes it (proc(5)).
package struct Mount: Hashable, Sendable {
    package var identifier: UInt64
    package var device: DeviceNumber
    /// The directory of the file system that is mounted: not `/` for a bind mount.
    package var root: String
    package var mountPoint: String
    /// The mount's own options and then the file system's, in the kernel's order, each once.
    package var options: [String]
    /// As `ext4`, `nfs4` or `fuse.sshfs`.
    package var type: String
    /// What is mounted: a device's path, `server:/export`, or a word that means nothing.
    package var source: String

    /// The value of an option `name=value`.
    package func value(ofOption name: String) -> String? {
        options.first { $0.hasPrefix(name + "=") }.map { String($0.dropFirst(name.count + 1)) }
    }
}

/// The mounts that this process sees, in the kernel's order: of two on the same place, the later one hides the other.
package struct MountTable: Sendable {
    package var mounts: [Mount]

    /// Reads `/proc/self/mountinfo`'s text. Lines that are none are left out.
    package init(_ text: String) {
        mounts = text.split(separator: "\n").compactMap(Self.mount)
    }

    private static func mount(_ line: Substring) -> Mount? {
        // 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
        let fields = line.split(separator: " ", omittingEmptySubsequences: false)
        // Any number of optional fields stands before a lonely dash.
        guard let dash = fields.indices.dropFirst(6).first(where: { fields[$0] == "-" }), fields.count >= dash + 3,
            let identifier = UInt64(fields[0]), let device = DeviceNumber(fields[2])
        else { return nil }
        var options = splitOptions(fields[5])
        // A file system's options are missing where it has none.
        for option in fields.count > dash + 3 ? splitOptions(fields[dash + 3]) : [] where !options.contains(option) {
            options.append(option)
        }
        return Mount(
            identifier: identifier, device: device, root: unescaped(fields[3]), mountPoint: unescaped(fields[4]),
            options: options, type: unescaped(fields[dash + 1]), source: unescaped(fields[dash + 2]))
    }

    /// Commas that belong to a value are written `\,` by overlay.
    private static func splitOptions(_ text: Substring) -> [String] {
        var options: [String] = []
        var option = ""
        var isEscaped = false
        for character in unescaped(text) {
            if character == ",", !isEscaped {
                options.append(option)
                option = ""
            } else if character == ",", isEscaped {
                option.removeLast()
                option.append(character)
            } else {
                option.append(character)
            }
            isEscaped = character == "\\" && !isEscaped
        }
        if !option.isEmpty { options.append(option) }
        return options
    }

    /// Space, tab, newline, backslash and number sign are written as `\040` and the like.
    private static func unescaped(_ text: Substring) -> String {
        let bytes = Array(text.utf8)
        var result: [UInt8] = []
        var index = 0
        while index < bytes.count {
            if bytes[index] == UInt8(ascii: "\\"), index + 3 < bytes.count,
                let value = UInt8(String(decoding: bytes[index + 1...index + 3], as: UTF8.self), radix: 8)
            {
                result.append(value)
                index += 4
            } else {
                result.append(bytes[index])
                index += 1
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// The mount with the identifier that `/proc/self/fdinfo` names.
    package func mount(identifier: UInt64) -> Mount? { mounts.last { $0.identifier == identifier } }

    /// The mount that an absolute path without symbolic links lies on: the longest mount point that leads to it, and
    /// of several on the same place the last.
    package func mount(of path: String) -> Mount? {
        var best: Mount?
        for mount in mounts {
            let prefix = mount.mountPoint == "/" ? "/" : mount.mountPoint + "/"
            guard path == mount.mountPoint || path.hasPrefix(prefix) else { continue }
            if mount.mountPoint.utf8.count >= best?.mountPoint.utf8.count ?? 0 { best = mount }
        }
        return best
    }
}
