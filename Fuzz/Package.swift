// swift-tools-version: 6.2
import PackageDescription

// Fuzzers, in a package of their own: they need libFuzzer's flags for every module, and nobody who depends on
// telemetry-wal needs them. Built and run by Fuzz/run; a plain `swift build` here would link no `main`.

/// libFuzzer brings `main`: without this flag the compiler would make one of a target's only file.
let fuzzer: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .unsafeFlags(["-parse-as-library"]),
]

let package = Package(
    name: "fuzz",
    dependencies: [.package(name: "telemetry-wal", path: "..")],
    targets: [
        .executableTarget(
            name: "FuzzCanary", dependencies: [.product(name: "WALFormat", package: "telemetry-wal")],
            swiftSettings: fuzzer),
        .executableTarget(
            name: "FuzzCommitDecoder", dependencies: [.product(name: "WALFormat", package: "telemetry-wal")],
            swiftSettings: fuzzer),
    ]
)
