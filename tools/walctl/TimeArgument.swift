import ArgumentParser
import Foundation

/// A moment as people write it: `2026-11-28T09:30:00Z`, with a fraction of the second or without, `2026-11-28`, or how long
/// ago, as `90s`, `15m`, `2h`, `7d`.
struct TimeArgument: ExpressibleByArgument {
    /// Since 1970 (UTC).
    var nanoseconds: UInt64

    init?(argument: String) { self.init(argument, now: Date()) }

    init?(_ text: String, now: Date) {
        let current = UInt64(max(0, now.timeIntervalSince1970) * 1e9)
        if let age = RetentionOptions.Age(argument: text) {
            nanoseconds = current - min(current, age.nanoseconds)
            return
        }
        // What a format reads it may have read in part only, or taken for another day: written again it must be the same.
        let styles = [
            Date.ISO8601FormatStyle(includingFractionalSeconds: true), Date.ISO8601FormatStyle(),
            Date.ISO8601FormatStyle().year().month().day(),
        ]
        let date = styles.lazy.compactMap { style -> Date? in
            guard let date = try? style.parse(text), date.formatted(style) == text else { return nil }
            return date
        }.first
        guard let date, case let seconds = date.timeIntervalSince1970, seconds >= 0, seconds < 1.8e10 else {
            return nil
        }
        // Whole seconds apart: nanoseconds since 1970 are more than a Double holds.
        let whole = seconds.rounded(.down)
        nanoseconds = UInt64(whole) * 1_000_000_000 + UInt64(((seconds - whole) * 1000).rounded()) * 1_000_000
    }
}
