// swift-tools-version: 6.2
import PackageDescription

/// Every target of ours: Swift 6 language mode, unsafe constructs spelled out, no warning tolerated.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

/// Tests and generated code deal in macros and messages that predate strict memory safety; a simulated kernel takes
/// pointers by nature.
let relaxed: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
]

// The engine and its own tests, without what they do not need: for builds with sanitizers, which would otherwise
// compile an HTTP client, TLS and protobuf each time. The variable names the test targets. See tools/sanitize.
let engineTests = Context.environment["TELEMETRY_WAL_ENGINE_ONLY"]?.split(separator: " ").map(String.init)
let engineTargets: Set<String> = [
    "CLZ4", "CWALLinux", "WALFormat", "WALStorage", "TelemetryWAL", "TelemetryReplay", "SimulatedKeys", "TestSupport",
]
let enginePackages: Set<String> = ["swift-system", "swift-log", "swift-collections", "swift-service-lifecycle"]

let package = Package(
    name: "telemetry-wal",
    products: [
        .library(name: "WALFormat", targets: ["WALFormat"]),
        .library(name: "TelemetryWAL", targets: ["TelemetryWAL"]),
        .library(name: "WALEncryption", targets: ["WALEncryption", "WALKeys"]),
        .library(name: "TelemetryReplay", targets: ["TelemetryReplay"]),
        .library(name: "OTLPExporter", targets: ["OTLPExporter"]),
        .library(name: "FileExporter", targets: ["FileExporter"]),
        .executable(name: "walctl", targets: ["walctl"]),
        .executable(name: "walbench", targets: ["walbench"]),
        .library(name: "WALSimulation", targets: ["WALSimulation"]),
        .executable(name: "walsim", targets: ["walsim"]),
        .library(name: "FuzzChecks", targets: ["FuzzChecks"]),
    ],
    traits: [
        .trait(
            name: "Simulation",
            description: "Files, threads and clocks can be a simulation's. For WALSimulation and walsim only: slower."),
        .trait(
            name: "Encryption",
            description: "walctl reads and writes encrypted records. Without it no cryptography is compiled for walctl."
        ),
        .default(enabledTraits: ["Encryption"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-system.git", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log.git", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-crypto.git", "4.0.0"..<"6.0.0"),
        .package(url: "https://github.com/apple/swift-protobuf.git", from: "1.30.0"),
        .package(url: "https://github.com/apple/swift-nio.git", from: "2.80.0"),
        .package(url: "https://github.com/apple/swift-collections.git", from: "1.2.0"),
        .package(url: "https://github.com/swift-server/async-http-client.git", from: "1.28.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", from: "2.8.0"),
        .package(url: "https://github.com/ordo-one/TextTable.git", from: "0.0.2"),
    ],
    targets: [
        .systemLibrary(name: "CLZ4", pkgConfig: "liblz4", providers: [.apt(["liblz4-dev"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .target(
            name: "CWALLinux",
            cSettings: [
                .enableWarning("all"), .enableWarning("extra"), .treatAllWarnings(as: .error),
                .define("CWAL_SIMULATION", .when(traits: ["Simulation"])),
            ]),
        .target(
            name: "CWALFibers",
            cSettings: [.enableWarning("all"), .enableWarning("extra"), .treatAllWarnings(as: .error)]),
        .target(name: "WALFormat", dependencies: ["CLZ4", "CWALLinux"], swiftSettings: strict),
        .target(
            name: "WALStorage",
            dependencies: ["CWALLinux", .product(name: "SystemPackage", package: "swift-system")],
            swiftSettings: strict),
        .target(
            name: "TelemetryWAL",
            dependencies: [
                "WALFormat", "WALStorage", "CWALLinux",
                .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        .target(name: "WALKeys", dependencies: ["TelemetryWAL", "WALFormat"], swiftSettings: strict),
        .target(
            name: "WALEncryption",
            dependencies: [
                "TelemetryWAL", "WALFormat", "WALKeys",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: strict),
        .target(
            name: "TelemetryReplay",
            dependencies: [
                "TelemetryWAL", "WALFormat", "WALStorage",
                .product(name: "HeapModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            swiftSettings: strict),
        .target(
            name: "OTLPProtocol",
            dependencies: ["WALFormat", .product(name: "SwiftProtobuf", package: "swift-protobuf")],
            exclude: ["Protos"],
            swiftSettings: relaxed),
        .target(
            name: "OTLPExporter",
            dependencies: [
                "TelemetryReplay", "OTLPProtocol", "CZlib",
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
            ],
            swiftSettings: strict),
        .target(
            name: "FileExporter",
            dependencies: [
                "TelemetryReplay", "OTLPProtocol", "WALStorage",
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict),
        .target(name: "SimulatedKeys", dependencies: ["TelemetryWAL", "WALFormat"], swiftSettings: relaxed),
        .target(
            name: "WALSimulation",
            dependencies: [
                "TelemetryWAL", "TelemetryReplay", "WALFormat", "WALStorage", "SimulatedKeys", "CWALLinux",
                "CWALFibers",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: relaxed),
        .executableTarget(
            name: "walsim",
            dependencies: ["WALSimulation", .product(name: "ArgumentParser", package: "swift-argument-parser")],
            path: "tools/simulator",
            swiftSettings: strict),
        .executableTarget(
            name: "walctl",
            dependencies: [
                "TelemetryWAL", "TelemetryReplay", "OTLPProtocol", "OTLPExporter", "FileExporter",
                "WALFormat", "WALStorage", "WALKeys", "CWALLinux",
                .target(name: "WALEncryption", condition: .when(traits: ["Encryption"])),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "TextTable", package: "TextTable"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ],
            path: "tools/walctl",
            swiftSettings: strict),
        .executableTarget(
            name: "walbench",
            dependencies: [
                "TelemetryWAL", "WALFormat",
                .target(name: "WALEncryption", condition: .when(traits: ["Encryption"])),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
            ],
            path: "tools/walbench",
            exclude: ["peers", "counting_malloc.c"],
            swiftSettings: relaxed),
        .target(
            name: "TestSupport", dependencies: ["TelemetryWAL", .product(name: "Logging", package: "swift-log")],
            // Optimised also where all else is not: its scans for bytes on the disk would take most of some tests' time.
            path: "Tests/Support", swiftSettings: relaxed + [.unsafeFlags(["-O"])]),
        .target(
            name: "FuzzChecks",
            dependencies: [
                "TelemetryWAL", "WALFormat", "WALStorage", "WALKeys", "SimulatedKeys", "OTLPProtocol",
                .product(name: "Logging", package: "swift-log"),
            ],
            path: "Fuzz/Checks", swiftSettings: relaxed),
        .testTarget(name: "FuzzTests", dependencies: ["FuzzChecks"], swiftSettings: relaxed),
        .testTarget(
            name: "OTLPProtocolTests",
            dependencies: [
                "OTLPProtocol", "WALFormat", .product(name: "SwiftProtobuf", package: "swift-protobuf"),
            ],
            swiftSettings: relaxed),
        .testTarget(name: "WALFormatTests", dependencies: ["WALFormat", "SimulatedKeys"], swiftSettings: relaxed),
        .testTarget(
            name: "WALStorageTests",
            dependencies: ["WALStorage", "TestSupport", .product(name: "SystemPackage", package: "swift-system")],
            swiftSettings: relaxed),
        .executableTarget(
            name: "CrashWriter",
            dependencies: [
                "TelemetryWAL", "WALFormat", "TestSupport",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            path: "Tests/CrashWriter", swiftSettings: relaxed),
        .testTarget(
            name: "TelemetryWALTests",
            dependencies: [
                "TelemetryWAL", "WALFormat", "WALStorage", "SimulatedKeys", "TestSupport",
                .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: relaxed),
        .testTarget(
            name: "TelemetryReplayTests",
            dependencies: [
                "TelemetryWAL", "TelemetryReplay", "WALFormat", "TestSupport",
                .product(name: "ServiceLifecycleTestKit", package: "swift-service-lifecycle"),
            ],
            swiftSettings: relaxed),
        .testTarget(
            name: "WALEncryptionTests",
            dependencies: [
                "TelemetryWAL", "WALFormat", "WALKeys", "TestSupport",
                .target(name: "WALEncryption", condition: .when(traits: ["Encryption"])),
            ],
            swiftSettings: relaxed),
        .testTarget(
            name: "ProcessTests",
            dependencies: ["TelemetryWAL", "WALFormat", "TestSupport", "CrashWriter", "walctl"],
            swiftSettings: relaxed),
        .testTarget(
            name: "DeliveryTests",
            dependencies: [
                "TelemetryWAL", "WALFormat", "TelemetryReplay", "OTLPExporter", "FileExporter", "OTLPProtocol",
                "TestSupport", "walctl",
            ],
            swiftSettings: relaxed),
    ]
)

if let engineTests {
    package.products = []
    package.targets.removeAll { !engineTargets.contains($0.name) && !engineTests.contains($0.name) }
    package.dependencies.removeAll { dependency in
        guard case .sourceControl(_, let location, _) = dependency.kind else { return false }
        return !enginePackages.contains { location.hasSuffix("/\($0).git") }
    }
}
