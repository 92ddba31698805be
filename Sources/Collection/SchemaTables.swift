// A compiled schema as flat tables: what refers to what by number. Written by the compiler, read by the evaluation.

import CEL
import Formats

/// One schema: an object or boolean at one place.
struct SchemaNode: Sendable {
    /// Bit n: values of the `JSONKind` with raw value n are allowed; `wholeNumbers`: of `number` those that are integers.
    var types: UInt8 = SchemaNode.everything
    /// The schema `false`.
    var isNever = false
    /// The keyword that it stands under; `never` for the root.
    var place = SchemaKeyword.never
    /// Its rules begin here in `rules`: first those for any value, then those for numbers, then those for texts.
    var firstRule: Int32 = 0
    var generalRules: UInt8 = 0
    var numberRules: UInt8 = 0
    var textRules: UInt8 = 0
    /// Its rules for arrays and objects in `arrays` and `objects`, or -1.
    var array: Int32 = -1
    var object: Int32 = -1
    /// The schema that it is part of, -1 for the root, and how to get from that to here: `SchemaTables.text`.
    var parent: Int32 = -1
    var pathOffset: Int32 = 0
    var pathLength: Int32 = 0

    static let everything: UInt8 = 0x7F
    static let wholeNumbers: UInt8 = 0x80
}

/// One keyword; what the operands are depends on it.
struct SchemaRule: Sendable {
    var keyword: SchemaKeyword
    var first: Int32 = 0
    var second: Int32 = 0
}

/// A piece of a table.
struct SchemaRange: Sendable {
    var first: Int32 = 0
    var count: Int32 = 0

    var isEmpty: Bool { count == 0 }
    var indices: Range<Int> { Int(first)..<Int(first + count) }
}

/// The keywords of arrays (Core, section 10.3.1; Validation, section 6.4). Schemas are numbers, -1 for none.
struct SchemaArrayRules: Sendable {
    var minimum: Int32 = 0
    var maximum = Int32.max
    var isUnique = false
    /// Schemas in `lists`.
    var prefix = SchemaRange()
    var items: Int32 = -1
    var contains: Int32 = -1
    var minimumContained: Int32 = 1
    var maximumContained = Int32.max
    /// Whether `minContains` says so; what is then broken is that.
    var hasMinimumContained = false
    var unevaluated: Int32 = -1
}

/// The keywords of objects (Core, section 10.3.2; Validation, section 6.5). Schemas are numbers, -1 for none.
struct SchemaObjectRules: Sendable {
    var minimum: Int32 = 0
    var maximum = Int32.max
    /// The names of `properties` and `required`.
    var table = SchemaNameTable()
    /// How many different names must be there; in `names`, in the order of the list, repetitions included.
    var requiredCount: Int32 = 0
    var required = SchemaRange()
    /// There are no `properties` beside a short `required`: its names are looked up instead of each member.
    var isRequiredAlone = false
    /// Pairs of pattern and schema in `lists`.
    var patterns = SchemaRange()
    var additional: Int32 = -1
    var names: Int32 = -1
    /// In `dependents`.
    var dependents = SchemaRange()
    var unevaluated: Int32 = -1

    /// Whether each member is to be looked at.
    var looksAtMembers: Bool { table.mask >= 0 || !patterns.isEmpty || additional >= 0 || names >= 0 }
}

/// `dependentRequired` or `dependentSchemas` for one name.
struct SchemaDependent: Sendable {
    /// The name that brings it about, in `names`.
    var name: Int32
    /// The names that must be there then, in `names`.
    var required = SchemaRange()
    /// The schema that must hold then, or -1.
    var schema: Int32 = -1
}

/// A hash table of names: `mask` + 1 slots from `first`; `mask` -1 for none.
struct SchemaNameTable: Sendable {
    var first: Int32 = 0
    var mask: Int32 = -1

    /// Where the search for a name begins. The tag has the length in its low byte and three letters above.
    @inline(__always)
    func start(_ tag: UInt32) -> Int { Int((tag &* 0x9E37_79B1) >> 16) & Int(mask) }

    /// The number of the slot of a name, or nil.
    /// - Parameters:
    ///   - tag: of the word, see `JSONDocument.tag`.
    ///   - slots: those of `SchemaTables`, as `text` is: a call on all of the tables would retain each.
    ///   - probes: is raised by the number of other names that were in the way.
    @inline(__always)
    func find(
        _ word: Span<UInt8>, _ tag: UInt32, _ slots: Span<SchemaSlot>, _ text: Span<UInt8>, _ probes: inout Int64
    ) -> Int? {
        if mask < 0 { return nil }
        var place = start(tag)
        while true {
            let index = Int(first) + place
            let name = slots[index].name
            if name.length < 0 { return nil }
            if name.isSame(word, tag, text) { return index }
            place = (place + 1) & Int(mask)
            probes += 1
        }
    }
}

/// A name in `SchemaTables.text`.
struct SchemaName: Sendable {
    /// Of `JSONDocument.tag`.
    var tag: UInt32
    var offset: Int32
    /// -1: an empty slot of a hash table.
    var length: Int32

    static let none = SchemaName(tag: 0, offset: 0, length: -1)

    @inline(__always)
    func isSame(_ word: Span<UInt8>, _ tag: UInt32, _ text: Span<UInt8>) -> Bool {
        self.tag == tag && Int(length) == word.count
            && equal(text.extracting(Int(offset)..<Int(offset + length)), word)
    }
}

/// An entry of a hash table of names.
struct SchemaSlot: Sendable {
    var name = SchemaName.none
    /// The schema of the member, or -1.
    var schema: Int32 = -1
    var isRequired = false
}

/// The values of `enum`: texts in a hash table, others in `constantNodes`.
struct SchemaChoices: Sendable {
    var texts = SchemaNameTable()
    var others = SchemaRange()
}

struct SchemaTables: Sendable {
    /// The first is the root.
    var nodes: [SchemaNode] = []
    var rules: [SchemaRule] = []
    /// Lists of schemas, and of pairs of pattern and schema.
    var lists: [Int32] = []
    var arrays: [SchemaArrayRules] = []
    var objects: [SchemaObjectRules] = []
    var dependents: [SchemaDependent] = []
    var choices: [SchemaChoices] = []
    var numbers: [SchemaNumber] = []
    var divisors: [SchemaDivisor] = []
    var patterns: [TextPattern] = []
    var names: [SchemaName] = []
    var slots: [SchemaSlot] = []
    /// The bytes of names and paths.
    var text: [UInt8] = []
    /// The values of `const` and `enum`, elements of one array.
    var constants = JSONDocument()
    var constantNodes: [JSONNode] = []

    /// Appends where a schema is.
    func appendPointer(_ index: Int32, to pointer: inout [UInt8]) {
        var path: [Int32] = []
        var current = index
        while current > 0 {
            path.append(current)
            current = nodes[Int(current)].parent
        }
        for step in path.reversed() {
            let node = nodes[Int(step)]
            pointer.append(UInt8(ascii: "/"))
            for place in Int(node.pathOffset)..<Int(node.pathOffset + node.pathLength) { pointer.append(text[place]) }
        }
    }

    func nameBytes(_ index: Int32) -> [UInt8] {
        let name = names[Int(index)]
        return Array(text[Int(name.offset)..<Int(name.offset + name.length)])
    }

    /// Whether a text is a name that the schema has: for messages.
    func mentions(_ word: Span<UInt8>) -> Bool {
        let tag = JSONDocument.tag(word)
        let text = self.text
        for name in names where name.isSame(word, tag, text.span) { return true }
        for slot in slots where slot.name.isSame(word, tag, text.span) { return true }
        return false
    }
}
