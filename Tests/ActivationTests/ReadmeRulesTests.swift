// Shows that the rules in the README are rules: each compiles for the sample bundle, and none fails for want of anything but
// what a person or question does not have.

import CEL
import Formats
import Foundation
import Testing
import Unification

@testable import Activation

@Suite struct ReadmeRulesTests {
    private static let top = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    private static var rules: [String] {
        let readme = try! String(contentsOf: top.appendingPathComponent("README.md"), encoding: .utf8)
        guard let begin = readme.range(of: "```cel\n"),
            let end = readme.range(of: "\n```", range: begin.upperBound..<readme.endIndex)
        else { return [] }
        return readme[begin.upperBound..<end.lowerBound].split(separator: "\n").map(String.init)
            .filter { !$0.hasPrefix("//") }
    }

    @Test func everyRuleCompilesAndFailsOnlyForWantOfSomething() throws {
        let rules = Self.rules
        #expect(rules.count >= 20)
        let bundle = try Data(contentsOf: Self.top.appendingPathComponent("Firmware-Config/bundles/shop.yaml"))
        let bytes = Array(bundle)
        let document = try YAML.parse(bytes.span)
        var reader = PlanReader()
        var mistakes: [String] = []
        var numbers: [Int] = []
        let policy = Policy(document, loadedAt: 0, &reader) { _, _, environment, compiler, _ in
            for rule in rules {
                do throws(CompileError) {
                    numbers.append(try compiler.add(rule, in: environment, expecting: .condition).number)
                } catch { mistakes.append(error.description) }
            }
        }
        #expect(reader.problems.isEmpty && mistakes.isEmpty, "\(mistakes)")
        var evaluator = Evaluator()
        var index = ProfileIndex()
        index.clear(policy.attributes)
        let surroundings = Surroundings(now: 1_700_000_000_000, audienceCount: policy.decisions.audiences.count)
        evaluator.begin()
        var failures = 0
        for number in numbers {
            _ = evaluator.isTrue(
                policy.program, number,
                DecisionBindings(
                    record: Span(), index: index, plan: policy.attributes, slots: policy.slots, surroundings: surroundings),
                failures: &failures)
        }
        // The two about Berlin ask for a zone of the device's, which this evaluator does not read.
        #expect(failures <= 2)
    }

    /// The part of a bundle that shows tables, with what every bundle has.
    @Test func theExampleOfTablesIsOne() throws {
        let readme = try String(contentsOf: Self.top.appendingPathComponent("README.md"), encoding: .utf8)
        let begin = try #require(readme.range(of: "```yaml\ntables:\n"))
        let end = try #require(readme.range(of: "\n```", range: begin.upperBound..<readme.endIndex))
        let example = String(readme[begin.lowerBound..<end.lowerBound].dropFirst("```yaml\n".count))
        let bytes = Array(("version: 1\npurposes: [personalization]\n" + example).utf8)
        let document = try YAML.parse(bytes.span)
        var reader = PlanReader()
        let policy = Policy(document, loadedAt: 0, &reader) { _, _, _, _, _ in }
        #expect(reader.problems.isEmpty, "\(reader.problems)")
        #expect(policy.attributes.attributes.count == 1 && policy.decisions.decisions.count == 1)
    }
}
