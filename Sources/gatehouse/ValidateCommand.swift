// `gatehouse validate`: an event's properties against a JSON Schema, for a person, or many from a stream for programs.

import Collection
import Formats
import Platform

enum ValidateCommand {
    static let help = """
        gatehouse validate --schema F [EVENT.json|-]
        gatehouse validate --batch [--lenient]

        Holds a JSON value (from standard input without a file) against a JSON Schema of draft 2020-12, in JSON or YAML, as
        the tracking plan of a bundle holds an event's properties. Prints "valid", or what is broken: the keyword, the JSON
        Pointer of the value, with * for names that are not in the schema, and that of the rule in the schema. Exit code 1
        when the value is invalid or the schema wrong.

        With --batch, reads one {"id", "schema", "instance"} a line from standard input and answers each line in order with
        {"id", "valid": true}, {"id", "valid": false, "keyword", "instancePath", "schemaPath"}, or {"id", "error"} for a
        schema that is refused. With --lenient, unknown keywords are ignored instead of refused.

        """

    static func run(_ arguments: [String]) -> Int32 {
        var schema: String?
        var event: String?
        var isBatch = false
        var isLenient = false
        var index = 0
        while index < arguments.count {
            switch arguments[index] {
            case "--help":
                Process.standardOutput(help)
                return 0
            case "--batch": isBatch = true
            case "--lenient": isLenient = true
            case "--schema" where index + 1 < arguments.count:
                index += 1
                schema = arguments[index]
            default:
                if event != nil { return Command.misuse("one event only", help) }
                event = arguments[index]
            }
            index += 1
        }
        if isBatch {
            if schema != nil || event != nil { return Command.misuse("--batch takes no files", help) }
            return runBatch(isLenient)
        }
        guard let schema else { return Command.misuse("validate needs --schema F, or --batch", help) }
        return validate(event ?? "-", schema, isLenient)
    }

    // MARK: One

    private static func validate(_ event: String, _ path: String, _ isLenient: Bool) -> Int32 {
        do throws(SystemError) {
            let text = try Files.read(path, limitBytes: Limits.fileBytes)
            guard let schema = compile(text.span, path, isLenient) else { return 1 }
            return validate(try read(event), event, schema)
        } catch {
            Process.complain(error.message)
            return 3
        }
    }

    private static func compile(_ text: Span<UInt8>, _ path: String, _ isLenient: Bool) -> CompiledSchema? {
        do throws(YAMLError) {
            let document = try YAML.parse(text)
            var reader = PlanReader()
            let schema = CompiledSchema(document, document.root, &reader, isLenient: isLenient)
            return CheckCommand.report(reader.problems, path) ? nil : schema
        } catch {
            CheckCommand.show(path, error.position, error.message)
            return nil
        }
    }

    private static func read(_ path: String) throws(SystemError) -> [UInt8] {
        if path != "-" { return try Files.read(path, limitBytes: Limits.fileBytes) }
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = try readSome(0, into: &buffer)
            if count == 0 { return text }
            text += buffer[0..<count]
        }
    }

    private static func validate(_ text: [UInt8], _ path: String, _ schema: CompiledSchema) -> Int32 {
        var document = JSONDocument()
        do throws(JSONError) { try document.parse(text.span) } catch {
            CheckCommand.show(path, error.position, error.message)
            return 1
        }
        guard let violation = schema.violation(by: document.root, in: document) else {
            Process.standardOutput("valid\n")
            return 0
        }
        var line = Array("invalid: \(violation.keyword) at \"".utf8)
        schema.appendValuePointer(violation, in: document, to: &line)
        line += Array("\" by \"".utf8)
        schema.appendRulePointer(violation, to: &line)
        line += Array("\"\n".utf8)
        Process.standardOutput(String(copying: line.span))
        return 1
    }

    // MARK: Many

    private static func runBatch(_ isLenient: Bool) -> Int32 {
        var document = JSONDocument()
        return BatchLines.run { line, output in answer(line, &document, isLenient, &output) }
    }

    private static func answer(
        _ line: Span<UInt8>, _ document: inout JSONDocument, _ isLenient: Bool, _ output: inout JSONWriter
    ) {
        output.beginObject()
        defer { output.endObject() }
        do throws(JSONError) { try document.parse(line) } catch {
            output.key("id")
            output.null()
            output.key("error")
            return output.string(error.message)
        }
        output.key("id")
        if let id = document.member(document.root, "id") { output.value(document, id) } else { output.null() }
        guard let rules = document.member(document.root, "schema"), let instance = document.member(document.root, "instance")
        else {
            output.key("error")
            return output.string("a line needs \"schema\" and \"instance\"")
        }
        var reader = PlanReader()
        let schema = CompiledSchema(document, rules, &reader, isLenient: isLenient)
        for problem in reader.problems where !problem.isWarning {
            output.key("error")
            return output.string(problem.message)
        }
        let violation = schema.violation(by: instance, in: document)
        output.key("valid")
        output.bool(violation == nil)
        guard let violation else { return }
        output.key("keyword")
        output.string(violation.keyword)
        var pointer: [UInt8] = []
        schema.appendValuePointer(violation, in: document, to: &pointer)
        output.key("instancePath")
        output.string(pointer)
        pointer.removeAll()
        schema.appendRulePointer(violation, to: &pointer)
        output.key("schemaPath")
        output.string(pointer)
    }
}
