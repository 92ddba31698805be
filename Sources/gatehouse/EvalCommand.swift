// `gatehouse eval`: one expression for a person, or many from a stream for programs (DESIGN section 6).

import CEL
import Formats
import Platform

enum EvalCommand {
    static let help = """
        gatehouse eval EXPR [--with JSON|@F]
        gatehouse eval --batch

        Evaluates a CEL expression and prints its value as JSON. The members of the JSON object are the names in scope.
        With --batch, reads one {"id", "expr", "container", "bindings", "disable_macros"} a line from standard input and
        answers each line in order, values in cel-spec's JSON form.

        """

    static func run(_ arguments: [String]) -> Int32 {
        if arguments.count == 1, arguments[0] == "--batch" { return runBatch() }
        var expression: String?
        var variables: [UInt8] = Array("{}".utf8)
        var index = 0
        while index < arguments.count {
            let argument = arguments[index]
            if argument == "--help" {
                Process.standardOutput(help)
                return 0
            }
            if argument == "--with", index + 1 < arguments.count {
                let value = arguments[index + 1]
                if value.utf8.first == UInt8(ascii: "@") {
                    let path = String(decoding: Array(value.utf8.dropFirst()), as: UTF8.self)
                    do throws(SystemError) { variables = try Files.read(path, limitBytes: Limits.fileBytes) } catch {
                        Process.complain(path, ": ", error.message)
                        return 3
                    }
                } else {
                    variables = Array(value.utf8)
                }
                index += 2
            } else if expression == nil {
                expression = argument
                index += 1
            } else {
                return Command.misuse("one expression only; quote it for the shell", help)
            }
        }
        guard let expression else { return Command.misuse("eval needs an expression", help) }
        return evaluate(expression, variables)
    }

    private static func evaluate(_ source: String, _ variables: [UInt8]) -> Int32 {
        var document = JSONDocument()
        do throws(JSONError) { try document.parse(variables.span) } catch {
            Process.complain("--with is not JSON: ", error.position.description, ": ", error.message)
            return 1
        }
        guard document.kind(document.root) == .object else {
            Process.complain("--with must be a JSON object, such as {\"x\": 1}")
            return 1
        }
        var environment = Environment()
        var values: [JSONDocument] = []
        var key = document.firstChild(document.root)
        while let name = key, let value = document.next(name) {
            key = document.next(value)
            var member = JSONDocument()
            var writer = JSONWriter()
            writer.value(document, value)
            do throws(JSONError) { try member.parse(writer.bytes.span) } catch { continue }
            environment.declare(document.string(name) ?? "", .dyn, slot: values.count)
            values.append(member)
        }
        let program: Program
        do throws(CompileError) { program = try Compiler.compile(source, in: environment) } catch {
            Process.standardError(error.description + "\n")
            return 1
        }
        let bindings = JSONBindings(values: values)
        var evaluator = Evaluator(zones: TimeZones { Files.timeZone($0) })
        evaluator.begin()
        do throws(EvaluationError) {
            let value = try evaluator.evaluate(program, 0, bindings)
            var writer = JSONWriter()
            evaluator.write(value, to: &writer, program, bindings)
            writer.bytes.append(0x0A)
            Process.standardOutput(String(decoding: writer.bytes, as: UTF8.self))
            return 0
        } catch {
            Process.complain(error.description)
            return 1
        }
    }

    private static func runBatch() -> Int32 {
        var evaluator = BatchEvaluator(zones: TimeZones { Files.timeZone($0) })
        return BatchLines.run { line, output in evaluator.evaluate(line, into: &output) }
    }
}

/// The members of a JSON object as variables.
private struct JSONBindings: Bindings {
    let values: [JSONDocument]

    func load(_ slot: Int, into heap: inout Heap) -> Value? {
        let document = values[slot]
        return value(document, document.root, &heap)
    }

    private func value(_ document: JSONDocument, _ node: JSONNode, _ heap: inout Heap) -> Value {
        switch document.kind(node) {
        case .null: return .null
        case .bool: return .bool(document.bool(node) ?? false)
        case .integer:
            if let number = document.int64(node) { return .int(number) }
            return .double(document.double(node) ?? 0)
        case .number: return .double(document.double(node) ?? 0)
        case .string: return heap.string(document.bytes(node))
        case .array:
            heap.beginList()
            var element = document.firstChild(node)
            while let child = element {
                heap.append(value(document, child, &heap))
                element = document.next(child)
            }
            return heap.endList()
        case .object:
            heap.beginMap()
            var key = document.firstChild(node)
            while let name = key, let member = document.next(name) {
                heap.append(heap.string(document.bytes(name)))
                heap.append(value(document, member, &heap))
                key = document.next(member)
            }
            return heap.endMap()
        }
    }

    var region: Span<UInt8> { @_lifetime(borrow self) get { Span() } }
    func document(_ number: Int) -> JSONDocument? { nil }
}
