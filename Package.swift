// swift-tools-version: 6.1
// One target is one room of the house; the README's architecture picture shows the arrows, and
// `Tests/HouseTests` holds the `import` lines against it. The same sources are compiled twice: as Embedded
// Swift for what ships (GATEHOUSE_EMBEDDED=1, see Tools/build) and as ordinary Swift for `swift test`.
import PackageDescription

let isEmbedded = Context.environment["GATEHOUSE_EMBEDDED"] == "1"

// Exclusive access is checked while the tests run, in ordinary Swift; what ships does not check it again. With each
// function in a section of its own the linker drops what is not called and keeps one of what is the same.
let shippedFlags = [
    "-wmo", "-enforce-exclusivity=unchecked", "-Xfrontend", "-function-sections", "-gnone",
    // One object a room, in LLVM's assembly: Tools/lib/ship.sh makes code of it.
    "-Xfrontend", "-enable-single-module-llvm-emission", "-Xfrontend", "-emit-ir",
    // A trap tells its function and not its line: then one serves the whole function.
    "-Xfrontend", "-mergeable-traps",
]

/// - Parameter isSmall: optimised for size. That costs a decision 2 percent, and saves 110 KB in the rooms that it is true of.
func settings(isSmall: Bool) -> [SwiftSetting] {
    [.enableExperimentalFeature("Lifetimes"), .swiftLanguageMode(.v5)]
        + (isEmbedded
            ? [.enableExperimentalFeature("Embedded"), .unsafeFlags(shippedFlags + [isSmall ? "-Osize" : "-O"])] : [])
}
let swiftSettings = settings(isSmall: false)
let smallRooms = [
    "Platform", "Formats", "HTTP", "Store", "CEL", "Governance", "Collection", "Unification", "Activation", "Delivery",
    "Monitoring", "Serving", "Agent", "gatehouse",
]

let foreignLibraries = ["lmdb", "mbedtls", "mbedx509", "mbedcrypto", "yaml", "z", "m", "pthread"]

// What ships is linked by Tools/build.
let linkerSettings: [LinkerSetting] = foreignLibraries.map { .linkedLibrary($0) }

/// A room: its name and the rooms that it may import.
func room(_ name: String, _ imports: [String]) -> Target {
    .target(
        name: name, dependencies: imports.map { .byName(name: $0) },
        swiftSettings: settings(isSmall: smallRooms.contains(name)))
}

func tests(_ name: String, _ imports: [String]) -> Target {
    .testTarget(
        name: name + "Tests", dependencies: imports.map { .byName(name: $0) }, swiftSettings: swiftSettings,
        linkerSettings: linkerSettings)
}

let ground = ["Formats", "HTTP", "Cryptography", "Platform"]
let base = ["Store", "CEL"] + ground

let package = Package(
    name: "gatehouse",
    products: [
        .executable(name: "gatehouse", targets: ["gatehouse"]),
        .library(name: "CEL", targets: ["CEL"]),
    ],
    targets: [
        .systemLibrary(name: "CLMDB"),
        .systemLibrary(name: "CZlib"),
        .target(name: "CYAML"),
        .target(name: "CMbedTLS"),
        .target(name: "CPlatform"),
        .target(name: "CConsole", exclude: ["console.css", "console.html", "console.js"]),

        room("Platform", ["CConsole", "CPlatform"]),
        room("Formats", ["CYAML", "CZlib"]),
        room("HTTP", []),
        room("Cryptography", ["CMbedTLS", "Platform"]),

        room("Store", ["CLMDB", "CPlatform"] + ground),
        room("CEL", ["Formats"]),

        room("Monitoring", ["Platform", "Formats"]),
        room("Collection", base + ["Monitoring", "Governance"]),
        room("Governance", base + ["Monitoring"]),
        room("Unification", base + ["Monitoring", "Governance"]),
        room("Activation", base + ["Monitoring", "Governance", "Unification"]),
        room("Delivery", base + ["Monitoring", "Governance"]),

        room("Serving", base + ["Monitoring", "Collection", "Governance", "Unification", "Activation"]),
        room(
            "Agent",
            base + ["Monitoring", "Collection", "Governance", "Unification", "Activation", "Delivery", "Serving"]),
        .executableTarget(
            name: "gatehouse",
            dependencies: ["Agent", "CEL", "Collection", "Formats", "Platform", "Cryptography", "Unification"],
            swiftSettings: settings(isSmall: true), linkerSettings: linkerSettings),
    ]
        + (isEmbedded
            ? [
                // Measured as it ships; see Tools/bench.
                .systemLibrary(name: "CReference", path: "Tools/lib/bench/CReference"),
                .executableTarget(
                    name: "CELBench", dependencies: ["CEL", "CReference", "Formats", "Platform"],
                    path: "Tools/lib/bench/CELBench", swiftSettings: swiftSettings),
                .executableTarget(
                    name: "SchemaBench", dependencies: ["Collection", "CReference", "Formats", "Platform"],
                    path: "Tools/lib/bench/SchemaBench", swiftSettings: swiftSettings),
                .executableTarget(
                    name: "ScoreBench", dependencies: ["Activation", "CReference", "Formats", "Platform", "Unification"],
                    path: "Tools/lib/bench/ScoreBench", swiftSettings: swiftSettings),
                .executableTarget(
                    name: "ProfileBench",
                    dependencies: [
                        "Activation", "CEL", "Cryptography", "Formats", "Governance", "Platform", "Store", "Unification",
                    ],
                    path: "Tools/lib/bench/ProfileBench", swiftSettings: swiftSettings),
            ]
            : [
                // A device in a simulated world; see Tools/torture.
                .target(name: "CSimulation", path: "Tools/lib/torture/CSimulation"),
                .executableTarget(
                    name: "Simulation",
                    dependencies: [
                        "Activation", "Agent", "CSimulation", "Collection", "Cryptography", "Delivery", "Formats", "Governance",
                        "HTTP", "Monitoring", "Platform", "Serving", "Store", "Unification",
                    ],
                    path: "Tools/lib/torture/Simulation", swiftSettings: swiftSettings, linkerSettings: linkerSettings),
                tests("House", []),
                tests("Platform", ["Platform"]),
                tests("Formats", ["Formats"]),
                tests("HTTP", ["HTTP", "Formats"]),
                tests("Cryptography", ["Cryptography", "Platform", "Formats"]),
                tests("Store", ["Store", "Platform", "Cryptography", "Formats"]),
                tests("CEL", ["CEL", "Formats"]),
                tests("Collection", ["Collection", "Governance", "Formats"]),
                tests("Governance", ["Governance", "Store", "Cryptography", "Formats"]),
                tests("Unification", ["Unification", "Formats", "Cryptography"]),
                tests(
                    "Activation",
                    ["Activation", "Store", "Cryptography", "Monitoring", "Formats", "Platform", "Unification"]),
                tests("Delivery", ["Delivery", "Formats", "Cryptography", "HTTP", "Platform"]),
                tests("Serving", ["Serving", "HTTP", "Formats", "Platform"]),
                tests(
                    "Agent",
                    [
                        "Activation", "Agent", "Collection", "Cryptography", "Delivery", "Formats", "Governance", "Monitoring",
                        "Platform",
                        "Serving", "Store", "Unification",
                    ]),
            ])
)
