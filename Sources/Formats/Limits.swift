// The limits of this room, each with its unit and its reason. Whoever calls may ask for less, never for more.

public enum Limits {
    /// Containers inside each other in a JSON or YAML text. Events and bundles need about ten; each level costs a
    /// reader nothing here, but recursive readers further down (CEL, consoles, other people's hubs) must survive it.
    public static let jsonDepth = 128

    /// The longest text that is parsed. Offsets are 32 bits; the decoded strings may double it, and still fit.
    public static let jsonTextBytes = 64 << 20

    /// The most elements of one array or members of one object: a node keeps its count in 24 bits.
    public static let jsonChildren = (1 << 24) - 1

    /// Up to here duplicate keys are sought by comparing pairs; above, by sorting, so that no input costs its square.
    static let pairwiseKeys = 16
}
