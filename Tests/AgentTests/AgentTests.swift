import Testing

@Suite struct AgentTests {
}
