import Testing

@Suite struct CELTests {
}
