// What goes wrong, in words for the person who wrote the expression. It need not know how anything is evaluated.

import Formats

/// An expression that does not compile: where, what, and what was probably meant.
public struct CompileError: Error {
    /// Line of the expression's source, from 1.
    public let line: Int
    /// Column in code points, from 1.
    public let column: Int
    /// What is wrong, one sentence without position.
    public let message: String
    /// The name that was probably meant, or nil.
    public let suggestion: String?
    /// The source line, or of a long one what is around the place, and a caret under it: two lines without a final newline.
    public let caret: String

    init(_ source: [UInt8], at offset: Int, _ message: String, suggestion: String? = nil) {
        let place = Swift.min(Swift.max(offset, 0), source.count)
        var line = 1
        var start = 0
        var index = 0
        while index < place {
            if source[index] == 10 {
                line += 1
                start = index + 1
            }
            index += 1
        }
        var end = place
        while end < source.count, source[end] != 10, end - place < Limits.excerptBytes { end += 1 }
        while end < source.count, end > place, source[end] & 0xC0 == 0x80 { end -= 1 }
        var shown = Swift.max(start, place - Limits.excerptBytes)
        while shown < place, source[shown] & 0xC0 == 0x80 { shown += 1 }
        var column = 1
        var marks: [UInt8] = []
        index = start
        while index < place {
            if source[index] & 0xC0 != 0x80 {
                column += 1
                if index >= shown { marks.append(source[index] == 9 ? 9 : 32) }
            }
            index += 1
        }
        self.line = line
        self.column = column
        self.message = message
        self.suggestion = suggestion
        var text = Array(source[shown..<end])
        text.append(10)
        text.append(contentsOf: marks)
        text.append(94)
        caret = String(decoding: text, as: UTF8.self)
    }

    /// `line:column: message; did you mean 'x'?`, then the source line with its caret.
    public var description: String {
        var text = "\(line):\(column): " + message
        if let suggestion { text += "; did you mean '" + suggestion + "'?" }
        return text + "\n" + caret
    }
}

/// Why an evaluation has no value.
public struct EvaluationError: Error, Equatable {
    /// The kinds of failure that a caller may tell apart.
    public enum Reason: UInt8, Sendable {
        /// A function or operator was given kinds of values that it has no overload for.
        case noOverload
        /// A name that the environment does not have (only in expressions compiled without checking).
        case unknownName
        /// A function that does not exist (only in expressions compiled without checking).
        case unknownFunction
        /// A field, map key or attribute that is not there; `has()` or `.?` ask first.
        case noSuchKey
        /// A list index outside the list.
        case indexOutOfRange
        /// Integer, timestamp or duration arithmetic outside the range of its type.
        case overflow
        /// Division or remainder of integers by zero.
        case divisionByZero
        /// A text that is not what the conversion or function expects.
        case invalidArgument
        /// Two equal keys in one map.
        case duplicateKey
        /// `value()` of an empty optional.
        case emptyOptional
        /// A regular expression that does not compile.
        case invalidPattern
        /// A time zone that is neither an offset nor known to the system.
        case unknownTimeZone
        /// The evaluation went over `Limits.evaluationSteps`.
        case costLimit
        /// The evaluation made more strings or lists than `Limits.arenaBytes` and `arenaValues` allow.
        case memoryLimit
        /// Values nested more deeply than `Limits.valueNesting`.
        case nestingLimit
    }

    /// The kind of failure.
    public let reason: Reason
    /// Byte offset in the expression's source where it happened; `Program.position(of:)` makes line and column of it.
    public let offset: UInt32

    /// An error at a byte offset of the expression's source.
    public init(_ reason: Reason, offset: UInt32 = 0) {
        self.reason = reason
        self.offset = offset
    }

    /// One sentence, without personal data: never a value, only what was asked of it.
    public var description: String {
        switch reason {
        case .noOverload: "no such overload: the operator or function does not take values of these types"
        case .unknownName: "undeclared reference"
        case .unknownFunction: "unknown function"
        case .noSuchKey: "no such key or unset attribute; ask with has() first"
        case .indexOutOfRange: "index out of range"
        case .overflow: "overflow: the result is outside the range of its type"
        case .divisionByZero: "division by zero"
        case .invalidArgument: "invalid argument: the text does not have the expected form or range"
        case .duplicateKey: "duplicate key in map"
        case .emptyOptional: "value() of an empty optional"
        case .invalidPattern: "invalid regular expression"
        case .unknownTimeZone: "unknown time zone: not an offset, and the system's zoneinfo does not have it"
        case .costLimit: "cost limit reached: the expression does too much work"
        case .memoryLimit: "memory limit reached: the expression makes too many or too long values"
        case .nestingLimit: "values nested too deeply"
        }
    }
}
