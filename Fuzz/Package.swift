// swift-tools-version: 6.2
import PackageDescription

// The fuzzer, in a package of its own: it needs libFuzzer's flags for every module, and nobody who depends on
// telemetry-wal needs it. What it checks is in Checks/, a target of telemetry-wal, since tests replay the corpora through
// it. Built and run by tools/fuzz; a plain `swift build` here would link no `main`.
//
// The engine is built as for the simulator: it then reads files in small pieces, which are quick to allocate, and whose
// joints are where mistakes would be.

let package = Package(
    name: "fuzz",
    dependencies: [.package(name: "telemetry-wal", path: "..", traits: ["Simulation"])],
    targets: [
        .executableTarget(
            name: "Fuzz",
            dependencies: [
                .product(name: "FuzzChecks", package: "telemetry-wal"),
                .product(name: "WALFormat", package: "telemetry-wal"),
            ],
            swiftSettings: [
                .swiftLanguageMode(.v6),
                .treatAllWarnings(as: .error),
                .enableUpcomingFeature("ExistentialAny"),
                // libFuzzer brings `main`: without this flag the compiler would make one of a target's only file.
                .unsafeFlags(["-parse-as-library"]),
            ])
    ]
)
