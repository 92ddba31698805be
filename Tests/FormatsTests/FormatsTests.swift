import Testing

@Suite struct FormatsTests {
}
