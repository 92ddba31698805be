import Testing

@Suite struct UnificationTests {
}
