import CWALLinux
import Glibc
import SystemPackage

/// The one file that a probe makes. It goes when `remove` is called, when the value goes, and when a signal ends the
/// process; only SIGKILL leaves it behind.
///
/// It keeps its name while it is measured: btrfs and f2fs sync a file without a name less thoroughly, so that one
/// which is removed while it is open would look faster than a journal file is.
final class ProbeFile {
    let path: String
    let file: DirectFile
    /// Whether the file inherited the attribute C from its directory, which turns copy on write off.
    let hasNoCopyOnWrite: Bool
    private var isPresent = true

    /// Creates the file, empty. Direct I/O if there is any.
    init(in directory: String) throws(DoctorError) {
        path = FilePath(directory).appending("doctor-probe-\(getpid())" + DirectStorage.temporarySuffix).string
        let guarded = unsafe cwal_remove_on_signal(path)
        guard guarded == 0 else { throw .storage(Self.failure(guarded, path)) }
        do throws(StorageError) {
            // Created without O_DIRECT: where that is refused, the refusing open leaves the file behind.
            let flags = CWAL_OPEN_READ | CWAL_OPEN_WRITE | CWAL_OPEN_CREATE | CWAL_OPEN_EXCLUSIVE
            var created = SystemCalls.open(path, flags)
            if created == -EEXIST {
                // A killed doctor with the same process number left it; a living one in another container, which
                // counts processes anew, goes on without the name.
                SystemCalls.unlink(path)
                created = SystemCalls.open(path, flags)
            }
            guard created >= 0 else { throw Self.failure(created, path) }
            hasNoCopyOnWrite = cwal_has_no_copy_on_write(created) == 1
            _ = cwal_close(created)
            file = try DirectFile(path: path, flags: CWAL_OPEN_READ | CWAL_OPEN_WRITE, direct: .preferred)
        } catch {
            Self.remove(path)
            throw .storage(error)
        }
    }

    deinit { remove() }

    private static func failure(_ result: CInt, _ path: String) -> StorageError {
        StorageError(negatedErrno: Int(result), operation: "create the probe file", path: path)
    }

    /// Removes the file. Nothing is thrown: a writer that opened the log meanwhile may have removed it already.
    func remove() {
        guard isPresent else { return }
        isPresent = false
        Self.remove(path)
    }

    private static func remove(_ path: String) {
        SystemCalls.unlink(path)
        _ = cwal_remove_on_signal(nil)
    }
}
