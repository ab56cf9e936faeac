import ArgumentParser
import TelemetryReplay
import WALFormat

extension ReplayOptions.Order: ExpressibleByArgument {}

/// How records are sent: the options of the commands that deliver.
struct DeliveryOptions: ParsableArguments {
    @Option(
        name: .customLong("tenant"), help: "Only this tenant's records; may be repeated. All tenants' unless told.")
    var tenants: [String] = []
    @Option(
        parsing: .singleValue,
        help: ArgumentHelp(
            "A tenant's share where the receiver takes less than there is: its name, a colon, and 1 to 1000; 1 for others.",
            valueName: "tenant:weight"))
    var weight: [String] = []
    @Option(help: "Most records in a request.")
    var batchRecords = 1000
    @Option(help: "Most payload bytes in a request.")
    var batchBytes = 1 << 20
    @Option(help: "Most requests under way at a time.")
    var requests = 8
    @Option(help: "Most batches of a tenant under way: as many may come twice after a crash.")
    var requestsPerTenant = 4
    @Option(help: "Most MiB of records in memory.")
    var memoryMib = 40
    @Option(help: ArgumentHelp("Most payload a second, in bytes, or with KiB, MiB or GiB behind.", valueName: "bytes"))
    var rate: ByteRate?
    @Option(help: ArgumentHelp("Most records a second.", valueName: "records"))
    var recordRate: Double?
    @Option(help: "Seconds after which a tenant whose requests fail is left for another time.")
    var giveUpAfter: Double = 60

    /// A rate as people write it.
    struct ByteRate: ExpressibleByArgument {
        var bytesPerSecond: Double

        init?(argument: String) {
            let units: [(String, Double)] = [
                ("GiB", 1_073_741_824), ("MiB", 1_048_576), ("KiB", 1024), ("B", 1), ("", 1),
            ]
            var text = argument
            if text.hasSuffix("/s") { text.removeLast(2) }
            guard let (unit, factor) = units.first(where: { text.hasSuffix($0.0) }),
                let number = Double(text.dropLast(unit.count)), number.isFinite, number > 0
            else { return nil }
            bytesPerSecond = number * factor
        }
    }

    func validate() throws {
        guard (1...1_000_000).contains(batchRecords) else {
            throw ValidationError("--batch-records takes 1 to 1000000")
        }
        guard (1...(16 << 20)).contains(batchBytes) else { throw ValidationError("--batch-bytes takes 1 to 16777216") }
        guard (1...1024).contains(requests) else { throw ValidationError("--requests takes 1 to 1024") }
        guard (1...1024).contains(requestsPerTenant) else {
            throw ValidationError("--requests-per-tenant takes 1 to 1024")
        }
        guard (1...65536).contains(memoryMib) else { throw ValidationError("--memory-mib takes 1 to 65536") }
        guard giveUpAfter >= 0, giveUpAfter <= 1e9 else { throw ValidationError("--give-up-after takes seconds") }
        guard recordRate.map({ $0 > 0 && $0.isFinite }) ?? true else {
            throw ValidationError("--record-rate takes a number above 0")
        }
    }

    func options() throws(CommandFailure) -> ReplayOptions {
        var options = ReplayOptions()
        options.maximumBatchRecords = batchRecords
        options.maximumBatchBytes = batchBytes
        options.maximumConcurrentRequests = requests
        options.maximumRequestsPerTenant = requestsPerTenant
        options.maximumBufferedBytes = memoryMib << 20
        options.maximumBytesPerSecond = rate?.bytesPerSecond
        options.maximumRecordsPerSecond = recordRate
        options.giveUpAfter = .seconds(giveUpAfter)
        if !tenants.isEmpty {
            var names: Set<TenantName> = []
            for tenant in tenants { names.insert(try tenantName(tenant, option: "--tenant")) }
            options.tenants = names
        }
        for entry in weight {
            guard let separator = entry.lastIndex(of: ":"), let weight = Int(entry[entry.index(after: separator)...]),
                (1...1000).contains(weight)
            else { throw CommandFailure("--weight \(entry): give TENANT:WEIGHT, a weight of 1 to 1000", .usage) }
            options.tenantWeights[try tenantName(String(entry[..<separator]), option: "--weight")] = weight
        }
        return options
    }
}
