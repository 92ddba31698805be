// The limits of this room, each with its unit and its reason. Whoever calls may ask for less, never for more.

public enum Limits {
    /// Containers inside each other in a JSON or YAML text. Events and bundles need about ten; each level costs a
    /// reader nothing here, but recursive readers further down (CEL, consoles, other people's hubs) must survive it.
    public static let jsonDepth = 128

    /// The longest text that is parsed. Offsets are 32 bits; the decoded strings may double it, and still fit.
    public static let jsonTextBytes = 64 << 20

    /// The most elements of one array or members of one object: a node keeps its count in 24 bits.
    public static let jsonChildren = (1 << 24) - 1

    /// The longest YAML text: bundles of thousands of rules are a tenth of this.
    public static let yamlTextBytes = 4 << 20

    /// Values and keys of one YAML text, with what aliases stand for: 4 MiB of nodes, so that a file of a few lines
    /// cannot become a gigabyte.
    public static let yamlNodes = 1 << 18

    /// The same of a text in JSON, which has no aliases: 16 MiB of nodes while it is read, so that it may bring models of
    /// machine learning, which are mostly numbers.
    public static let planValues = 1 << 20

    /// Anchors of one YAML text; each alias looks through all of them.
    public static let yamlAnchors = 256

    /// Up to here duplicate keys are sought by comparing pairs; above, by sorting, so that no input costs its square.
    static let pairwiseKeys = 16
    /// Values and keys of one text: 16 bytes each, as many as the longest text can hold. Callers that know better say less.
    public static let jsonValues = 64 << 20
}
