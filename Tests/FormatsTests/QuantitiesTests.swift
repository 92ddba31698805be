// Lengths of time and amounts of bytes: what people may write, and everything near it that they may not.
import Formats
import Testing

@Suite struct QuantitiesTests {
    @Test(arguments: [
        ("0s", 0), ("500ms", 500), ("30s", 30_000), ("10m", 600_000), ("24h", 86_400_000), ("90d", 7_776_000_000),
        ("2w", 1_209_600_000), ("1h30m", 5_400_000), ("1m500ms", 60_500), ("9223372036854775807ms", Int64.max),
    ] as [(String, Int64)])
    func readsDurations(text: String, milliseconds: Int64) {
        #expect(DurationText.parse(text) == milliseconds)
    }

    @Test(arguments: [
        "", "10", "m", "10 m", "-10m", "1.5h", "10x", "10M", "10min", "9223372036854775808ms", "9223372036854775807s",
        " 10m", "10m ", "9223372036854775807ms1ms",
    ])
    func refusesWhatIsNotADuration(text: String) {
        #expect(DurationText.parse(text) == nil)
    }

    @Test(arguments: [
        ("0", 0), ("512", 512), ("512B", 512), ("400KiB", 409_600), ("400KB", 400_000), ("400kB", 400_000),
        ("64MiB", 67_108_864), ("2 GB", 2_000_000_000), ("1TiB", 1_099_511_627_776), ("8388607TiB", 9_223_370_937_343_148_032),
    ] as [(String, Int64)])
    func readsSizes(text: String, bytes: Int64) {
        #expect(ByteSizeText.parse(text) == bytes)
    }

    @Test(arguments: [
        "", "KiB", "12K", "12Ki", "12iB", "12Bi", "-1", "1.5MiB", "12  B", "12 ", "8388608TiB", "12KiBs", "12QB", "1m",
    ])
    func refusesWhatIsNotASize(text: String) {
        #expect(ByteSizeText.parse(text) == nil)
    }
}
