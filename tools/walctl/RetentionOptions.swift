import ArgumentParser
import TelemetryWAL
import WALFormat

extension RetentionPolicy.WhenFull: ExpressibleByArgument {}

/// What is kept of a tenant's undelivered records: the options of the commands that write, and of those that say what
/// would be.
struct RetentionOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Most bytes of undelivered records of each tenant, in MiB. Without it there is no bound for a tenant.",
            valueName: "MiB"))
    var tenantBudgetMib: UInt64?

    @Option(
        help: ArgumentHelp(
            "Drop records that are older, delivered or not: a number and s, m, h or d. Without it, none.",
            valueName: "age"))
    var tenantAge: Age?

    @Option(
        help: """
            What happens when a tenant's budget is used up: back-pressure (refuse its appends until it has room), drop-oldest, \
            which also makes room where the log is full, drop-newest.
            """)
    var whenFull: RetentionPolicy.WhenFull = .backPressure

    @Option(
        parsing: .singleValue,
        help: ArgumentHelp(
            "The same for one tenant: its name, a colon, and any of MiB, age and policy, with commas between.",
            valueName: "tenant:…"))
    var tenantPolicy: [String] = []

    /// An age as people write it.
    struct Age: ExpressibleByArgument {
        var nanoseconds: UInt64

        init?(argument: String) {
            let units: [Character: UInt64] = ["s": 1, "m": 60, "h": 3600, "d": 86400]
            guard let last = argument.last, let unit = units[last], let number = UInt64(argument.dropLast()) else {
                return nil
            }
            let (seconds, overflows) = number.multipliedReportingOverflow(by: unit)
            let (nanoseconds, overflowsToo) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
            guard !overflows, !overflowsToo else { return nil }
            self.nanoseconds = nanoseconds
        }
    }

    /// Whether any is given.
    var areGiven: Bool { tenantBudgetMib != nil || tenantAge != nil || !tenantPolicy.isEmpty }

    /// The policy of tenants that have none of their own.
    func standard() throws(CommandFailure) -> RetentionPolicy {
        RetentionPolicy(budget: try tenantBudgetMib.map(Self.bytes), age: tenantAge?.nanoseconds, whenFull: whenFull)
    }

    /// The policies of single tenants. What they do not say is as for all.
    func own() throws(CommandFailure) -> [TenantName: RetentionPolicy] {
        var policies: [TenantName: RetentionPolicy] = [:]
        for text in tenantPolicy {
            // The last colon: a name may have some.
            guard let colon = text.lastIndex(of: ":") else {
                throw CommandFailure("--tenant-policy \(text): there is no colon behind the tenant's name", .usage)
            }
            let tenant = try tenantName(String(text[..<colon]), option: "--tenant-policy")
            var policy = try standard()
            for part in text[text.index(after: colon)...].split(separator: ",") {
                if let mebibytes = UInt64(part) {
                    policy.budget = try Self.bytes(mebibytes)
                } else if let age = Age(argument: String(part)) {
                    policy.age = age.nanoseconds
                } else if let whenFull = RetentionPolicy.WhenFull(rawValue: String(part)) {
                    policy.whenFull = whenFull
                } else {
                    let what =
                        "neither a number of MiB, nor an age like 7d, nor back-pressure, drop-oldest, drop-newest"
                    throw CommandFailure("--tenant-policy \(text): \(part) is \(what)", .usage)
                }
            }
            policies[tenant] = policy
        }
        return policies
    }

    private static func bytes(_ mebibytes: UInt64) throws(CommandFailure) -> UInt64 {
        let (bytes, overflows) = mebibytes.multipliedReportingOverflow(by: 1 << 20)
        if overflows { throw CommandFailure("\(mebibytes) MiB are more than can be counted", .usage) }
        return bytes
    }
}
