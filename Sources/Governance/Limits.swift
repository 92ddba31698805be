// Every limit of governance, with its unit in its name and its reason beside it.

public enum Limits {
    /// Purposes of a bundle: one bit each of a 32-bit mask that every decision tests.
    public static let purposes = 32
    /// A purpose's name, as long as the IAB's longest.
    public static let purposeNameBytes = 64
}
