// Shows that texts of any size and shape end in a document or in an error that says which limit it was, and where.
import Testing

@testable import Formats

@Suite struct FormatsLimitsTests {
    private func failure(_ text: [UInt8]) -> JSONError? {
        var document = JSONDocument()
        do { try document.parse(text.span) } catch { return error }
        return nil
    }

    private func yamlFailure(_ text: String) -> YAMLError? {
        let bytes = Array(text.utf8)
        do { _ = try YAML.parse(bytes.span) } catch { return error }
        return nil
    }

    private func nested(_ depth: Int) -> String {
        String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
    }

    // limit: Formats.jsonDepth
    @Test func bothReadersGoOnlySoDeep() {
        #expect(failure(Array(nested(Limits.jsonDepth).utf8)) == nil)
        let error = failure(Array(nested(Limits.jsonDepth + 1).utf8))
        #expect(error?.kind == .tooDeep && error?.offset == Limits.jsonDepth)
        #expect(yamlFailure(nested(Limits.jsonDepth)) == nil)
        let deeper = yamlFailure(nested(Limits.jsonDepth + 1))
        #expect(deeper?.kind == .tooDeep && deeper?.position.description == "1:\(Limits.jsonDepth + 1)")
    }

    // limit: Formats.jsonTextBytes
    @Test func aTextIsOnlySoLong() {
        let error = failure([UInt8](repeating: 0x20, count: Limits.jsonTextBytes + 1))
        #expect(error?.kind == .tooLong)
    }

    /// Of JSON, and of YAML that is none.
    // limit: Formats.yamlNodes
    @Test(arguments: ["", "# "]) func aFileHoldsOnlySoManyValues(_ comment: String) {
        func list(_ count: Int) -> String {
            (comment.isEmpty ? "" : comment + "\n") + "[" + String(repeating: "1,", count: count - 1) + "1]"
        }
        #expect(yamlFailure(list(Limits.yamlNodes - 1)) == nil)
        let error = yamlFailure(list(Limits.yamlNodes))
        #expect(error?.kind == .tooManyValues && (error?.position.column ?? 0) > 500_000)
        #expect(error?.message == "the file holds too many values (aliases count as what they stand for)")
    }
}
