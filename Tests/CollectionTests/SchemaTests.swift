// Shows that compiled schemas enforce each keyword of JSON Schema 2020-12 and say where it is broken, that what cannot be
// enforced is refused, and that neither a hostile schema nor a hostile event makes a validation long or deep.

import Formats
import Testing

@testable import Collection

/// What was thought of a schema when it was compiled.
func problems(_ schema: String, isLenient: Bool = false) throws -> [PlanProblem] {
    var document = JSONDocument()
    let bytes = Array(schema.utf8)
    try document.parse(bytes.span)
    var reader = PlanReader()
    _ = CompiledSchema(document, document.root, &reader, isLenient: isLenient)
    return reader.problems
}

func compiled(_ schema: String, isLenient: Bool = false) throws -> CompiledSchema {
    var document = JSONDocument()
    let bytes = Array(schema.utf8)
    try document.parse(bytes.span)
    var reader = PlanReader()
    let schema = CompiledSchema(document, document.root, &reader, isLenient: isLenient)
    if let problem = reader.problems.first(where: { !$0.isWarning }) { throw problem }
    return schema
}

func parsed(_ text: String) throws -> JSONDocument {
    var document = JSONDocument()
    let bytes = Array(text.utf8)
    try document.parse(bytes.span)
    return document
}

/// `valid`, or the keyword and the two pointers: `minimum /price /properties/price/minimum`.
func verdict(_ schema: CompiledSchema, _ value: String) throws -> String {
    let document = try parsed(value)
    guard let violation = schema.violation(by: document.root, in: document) else { return "valid" }
    var text = Array("\(violation.keyword) ".utf8)
    schema.appendValuePointer(violation, in: document, to: &text)
    text.append(UInt8(ascii: " "))
    schema.appendRulePointer(violation, to: &text)
    return String(decoding: text, as: UTF8.self)
}

func verdict(_ schema: String, _ value: String) throws -> String { try verdict(compiled(schema), value) }

@Suite struct SchemaTests {
    /// Each keyword with a value that passes, one that does not, and what is said about that.
    static let cases: [(schema: String, good: String, bad: String, verdict: String)] = [
        ("true", "1", "1", "valid"),
        ("false", "", "1", "false  "),
        (#"{"type":"object"}"#, "{}", "[]", "type  /type"),
        (#"{"type":["string","null"]}"#, "null", "true", "type  /type"),
        (#"{"type":"integer"}"#, "1.0", "1.5", "type  /type"),
        (#"{"type":"integer"}"#, "1e300", "1e-1", "type  /type"),
        (#"{"type":"number"}"#, "1.5", #""1""#, "type  /type"),
        (#"{"enum":["a",1,null,{"x":[1]}]}"#, #"{"x":[1.0]}"#, #""b""#, "enum  /enum"),
        (#"{"enum":["a",1]}"#, "1.0", "2", "enum  /enum"),
        (#"{"const":{"a":1,"b":2}}"#, #"{"b":2,"a":1.0}"#, #"{"a":1}"#, "const  /const"),
        (#"{"const":9007199254740993}"#, "9007199254740993", "9007199254740992", "const  /const"),
        (#"{"multipleOf":0.01}"#, "0.07", "0.075", "multipleOf  /multipleOf"),
        (#"{"multipleOf":2.5}"#, "1e2", "1e0", "multipleOf  /multipleOf"),
        (#"{"multipleOf":3}"#,
            "9223372036854775806000000000000000000000", "10000000000000000000000000", "multipleOf  /multipleOf"),
        (#"{"maximum":3}"#, "3.0", "3.01", "maximum  /maximum"),
        (#"{"maximum":9223372036854775807}"#, "9223372036854775807", "9223372036854775808", "maximum  /maximum"),
        (#"{"exclusiveMaximum":3}"#, "2.9", "3", "exclusiveMaximum  /exclusiveMaximum"),
        (#"{"minimum":-1.5}"#, "-1.5", "-2", "minimum  /minimum"),
        (#"{"exclusiveMinimum":9007199254740992.0}"#,
            "9007199254740993", "9007199254740992", "exclusiveMinimum  /exclusiveMinimum"),
        (#"{"maxLength":2}"#, #""€😀""#, #""abc""#, "maxLength  /maxLength"),
        (#"{"minLength":2.0}"#, #""ab""#, #""😀""#, "minLength  /minLength"),
        (#"{"pattern":"^[A-Z]{3}$"}"#, #""EUR""#, #""EURO""#, "pattern  /pattern"),
        (#"{"pattern":"^\\p{Letter}\\s\\u00e9\\S$"}"#, #""é é!""#, #""1 é!""#, "pattern  /pattern"),
        (#"{"maxItems":1}"#, "[1]", "[1,2]", "maxItems  /maxItems"),
        (#"{"minItems":1}"#, "[1]", "[]", "minItems  /minItems"),
        (#"{"uniqueItems":true}"#,
            #"[1,"1",true,[1],{"a":1}]"#, #"[{"a":1,"b":2},{"b":2,"a":1}]"#, "uniqueItems  /uniqueItems"),
        (#"{"contains":{"const":1}}"#, "[0,1]", "[0]", "contains  /contains"),
        (#"{"contains":{"const":1},"minContains":2}"#, "[1,1]", "[1,0]", "minContains  /minContains"),
        (#"{"contains":{"const":1},"maxContains":1}"#, "[1,0]", "[1,1]", "maxContains  /maxContains"),
        (#"{"contains":false,"minContains":0}"#, "[]", "0", "valid"),
        (#"{"prefixItems":[{"type":"string"}]}"#, #"["a",1]"#, "[1]", "type /0 /prefixItems/0/type"),
        (#"{"prefixItems":[true],"items":false}"#, "[1]", "[1,2]", "items /1 /items"),
        (#"{"items":{"minimum":3}}"#, "[3]", "[3,2]", "minimum /1 /items/minimum"),
        (#"{"prefixItems":[true],"unevaluatedItems":false}"#, "[1]", "[1,2]", "unevaluatedItems /1 /unevaluatedItems"),
        (#"{"anyOf":[{"contains":{"const":7}}],"unevaluatedItems":{"type":"null"}}"#, "[7,null]", "[7,8]",
            "type /1 /unevaluatedItems/type"),
        (#"{"maxProperties":1}"#, #"{"a":1}"#, #"{"a":1,"b":2}"#, "maxProperties  /maxProperties"),
        (#"{"minProperties":1}"#, #"{"a":1}"#, "{}", "minProperties  /minProperties"),
        (#"{"required":["a","b","a"]}"#, #"{"b":1,"a":1}"#, #"{"a":1}"#, "required  /required/1"),
        (#"{"required":["a","b","c","d","e","f","g","h","i"]}"#, #"{"i":1,"h":1,"g":1,"f":1,"e":1,"d":1,"c":1,"b":1,"a":1}"#,
            #"{"i":1,"h":1,"g":1,"f":1,"e":1,"d":1,"c":1,"a":1}"#, "required  /required/1"),
        (#"{"dependentRequired":{"a/b":["x","y"]}}"#,
            #"{"x":1}"#, #"{"a/b":1,"x":1}"#, "dependentRequired  /dependentRequired/a~1b/1"),
        (#"{"dependentSchemas":{"a":{"minProperties":2}}}"#,
            #"{"b":1}"#, #"{"a":1}"#, "minProperties  /dependentSchemas/a/minProperties"),
        (#"{"properties":{"a~b":{"type":"string"}}}"#,
            #"{"a~b":"x","c":1}"#, #"{"a~b":1}"#, "type /a~0b /properties/a~0b/type"),
        (#"{"properties":{"a":false}}"#, "{}", #"{"a":1}"#, "properties /a /properties/a"),
        (#"{"patternProperties":{"^n_":{"type":"number"}}}"#,
            #"{"n_a":1}"#, #"{"n_a":"x"}"#, "type /* /patternProperties/^n_/type"),
        (#"{"properties":{"a":true},"patternProperties":{"^n_":true},"additionalProperties":false}"#, #"{"a":1,"n_":1}"#,
            #"{"anna@example.com":1}"#, "additionalProperties /* /additionalProperties"),
        (#"{"propertyNames":{"maxLength":3}}"#, #"{"abc":1}"#, #"{"abcd":1}"#, "maxLength /* /propertyNames/maxLength"),
        (#"{"allOf":[{"properties":{"a":true}}],"unevaluatedProperties":false}"#, #"{"a":1}"#, #"{"a":1,"b":1}"#,
            "unevaluatedProperties /* /unevaluatedProperties"),
        (#"{"if":{"properties":{"k":{"const":1}}},"then":{"properties":{"a":true}},"unevaluatedProperties":false}"#,
            #"{"k":1,"a":1}"#, #"{"k":2}"#, "unevaluatedProperties /k /unevaluatedProperties"),
        (#"{"allOf":[{"minimum":1},{"maximum":2}]}"#, "2", "3", "maximum  /allOf/1/maximum"),
        (#"{"anyOf":[{"minimum":3},{"type":"string"}]}"#, #""a""#, "2", "anyOf  /anyOf"),
        (#"{"oneOf":[{"minimum":3},{"maximum":5}]}"#, "6", "4", "oneOf  /oneOf"),
        (#"{"not":{"type":"string"}}"#, "1", #""a""#, "not  /not"),
        (#"{"if":{"minimum":10},"then":{"multipleOf":10},"else":{"multipleOf":2}}"#,
            "20", "11", "multipleOf  /then/multipleOf"),
        (#"{"if":{"minimum":10},"then":{"multipleOf":10},"else":{"multipleOf":2}}"#,
            "4", "5", "multipleOf  /else/multipleOf"),
        (##"{"$defs":{"n":{"type":"number"}},"items":{"$ref":"#/$defs/n"}}"##, "[1]", #"["a"]"#, "type /0 /$defs/n/type"),
        (##"{"$defs":{"x":{"$anchor":"n","type":"number"}},"items":{"$ref":"#n"}}"##,
            "[1]", #"["a"]"#, "type /0 /$defs/x/type"),
        (#"{"$id":"https://a.example/b/c","$defs":{"x":{"$id":"../d","type":"number"}},"items":{"$ref":"/d"}}"#, "[1]",
            #"["a"]"#, "type /0 /$defs/x/type"),
        (##"{"properties":{"child":{"$ref":"#"},"n":{"type":"number"}}}"##, ##"{"child":{"child":{"n":1}}}"##,
            #"{"child":{"child":{"n":"x"}}}"#, "type /child/child/n /properties/n/type"),
        (#"{"title":"t","description":"d","default":1,"examples":[],"deprecated":true,"readOnly":true,"$comment":"c"}"#,
            "1", "2", "valid"),
        (#"{"$schema":"https://json-schema.org/draft/2020-12/schema","contentEncoding":"base64","contentSchema":false}"#,
            "1", "2", "valid"),
    ]

    @Test(arguments: 0..<cases.count) func eachKeyword(_ number: Int) throws {
        let (schema, good, bad, expected) = Self.cases[number]
        if !good.isEmpty { #expect(try verdict(schema, good) == "valid", "\(schema) \(good)") }
        #expect(try verdict(schema, bad) == expected, "\(schema) \(bad)")
    }

    // MARK: What is refused

    static let refused: [(schema: String, message: String)] = [
        (#"{"minimun":1}"#, "did you mean minimum?"),
        (#"{"additionalproperties":false}"#, "did you mean additionalProperties?"),
        (#"{"definitions":{}}"#, "did you mean $defs?"),
        (#"{"x-owner":"shop"}"#, "it would have no effect"),
        (##"{"$dynamicRef":"#a"}"##, "$dynamicRef is not supported"),
        (#"{"$dynamicAnchor":"a"}"#, "$dynamicAnchor is not supported"),
        (#"{"$vocabulary":{}}"#, "$vocabulary is not supported"),
        (##"{"$schema":"http://json-schema.org/draft-07/schema#"}"##, "$schema must be"),
        (#"{"$ref":"https://example.com/other.json"}"#, "leads out of the schema"),
        (##"{"$ref":"#/$defs/none"}"##, "nothing at the place"),
        (##"{"$ref":"#none"}"##, "no $anchor"),
        (##"{"$ref":"#"}"##, "never end"),
        (##"{"$ref":"#/$defs/a","$defs":{"a":{"anyOf":[true,{"$ref":"#"}]}}}"##, "never end"),
        (##"{"$ref":"#/enum","enum":[1]}"##, "is no schema"),
        (#"{"$defs":{"a":{"$anchor":"x"},"b":{"$anchor":"x"}}}"#, "another schema has this $anchor"),
        (#"{"pattern":"(?=a)"}"#, "look-ahead"),
        (#"{"pattern":"(a)\\1"}"#, "back references"),
        (#"{"pattern":"(?i)a"}"#, "ECMA-262"),
        (#"{"pattern":"[]a]"}"#, "empty class"),
        (#"{"pattern":"("}"#, "no regular expression"),
        (#"{"type":"int"}"#, "type must be"),
        (#"{"type":[]}"#, "type must be"),
        (#"{"minLength":-1}"#, "minLength must be a whole number"),
        (#"{"maxItems":1.5}"#, "maxItems must be a whole number"),
        (#"{"minimum":"1"}"#, "minimum must be a number"),
        (#"{"multipleOf":0}"#, "multipleOf must be"),
        (#"{"multipleOf":-2}"#, "multipleOf must be"),
        (#"{"required":"a"}"#, "required must be a list"),
        (#"{"required":[1]}"#, "required must be a list"),
        (#"{"enum":1}"#, "enum must be a list"),
        (#"{"anyOf":[]}"#, "anyOf must be a list"),
        (#"{"properties":[]}"#, "properties must be a map"),
        (#"{"items":1}"#, "a schema must be a map"),
        (#"{"uniqueItems":1}"#, "uniqueItems must be"),
        (#"{"dependentRequired":{"a":1}}"#, "dependentRequired must hold"),
    ]

    @Test(arguments: 0..<refused.count) func whatCannotBeEnforcedIsRefused(_ number: Int) throws {
        let (schema, message) = Self.refused[number]
        let found = try problems(schema)
        #expect(found.contains { !$0.isWarning && $0.message.contains(message) }, "\(schema): \(found.map(\.message))")
        // A schema with a problem accepts nothing, should anybody use it all the same.
        let document = try parsed(schema)
        var reader = PlanReader()
        let unusable = CompiledSchema(document, document.root, &reader)
        #expect(try verdict(unusable, "{}") == "false  ")
    }

    /// The specification asks for unknown keywords to be ignored; `format` is an annotation unless a vocabulary says else.
    @Test func leniencyAndFormat() throws {
        #expect(try problems(#"{"x-owner":"shop"}"#, isLenient: true).isEmpty)
        let found = try problems(#"{"format":"email"}"#)
        #expect(found.count == 1 && found[0].isWarning && found[0].message.contains("not enforced"))
        #expect(found[0].position == TextPosition(line: 1, column: 11))
        #expect(try verdict(#"{"format":"email"}"#, #""x""#) == "valid")
    }

    // MARK: What of an event is shown

    @Test func namesThatTheSchemaDoesNotHaveAreNotShown() throws {
        let schema = #"{"properties":{"items":{"items":{"additionalProperties":{"type":"number"}}}}}"#
        #expect(
            try verdict(schema, #"{"x":1,"items":[{"q":1},{"Anna Meier":[]}]}"#)
                == "type /items/1/* /properties/items/items/additionalProperties/type")
    }

    @Test func anEventWithoutPropertiesCountsAsEmpty() throws {
        let event = try parsed("{}")
        let strict = try compiled(#"{"required":["a"]}"#)
        let violation = strict.violationWithoutProperties(at: event.root)
        var pointer: [UInt8] = []
        if let violation { strict.appendRulePointer(violation, to: &pointer) }
        #expect(String(decoding: pointer, as: UTF8.self) == "/required/0")
        let open = try compiled(#"{"properties":{"a":{"type":"string"}}}"#)
        let nothing = open.violationWithoutProperties(at: event.root)
        #expect(nothing == nil)
    }

    // MARK: Limits

    /// 2^40 ways to fail: the steps run out, whatever stands around.
    // limit: Collection.schemaSteps
    @Test func branchesDoNotMultiply() throws {
        var schema = #"{"type":"string"}"#
        for _ in 0..<15 { schema = #"{"anyOf":[\#(schema),\#(schema)]}"# }
        #expect(throws: PlanProblem.self) { try compiled(schema) }
        var definitions = #""a0":{"type":"string"}"#
        for level in 1...40 {
            let one = ##"{"$ref":"#/$defs/a\##(level - 1)"}"##
            definitions += #","a\#(level)":{"anyOf":[\#(one),\#(one)]}"#
        }
        let bomb = ##"{"$defs":{\##(definitions)},"$ref":"#/$defs/a40"}"##
        #expect(try verdict(bomb, "1").hasPrefix("limit  /$defs/"))
        #expect(try verdict(bomb, #""a""#) == "valid")
        // Nothing may be concluded from a validation that was broken off.
        let negated = ##"{"$defs":{\##(definitions)},"not":{"$ref":"#/$defs/a40"}}"##
        #expect(try verdict(negated, "1").hasPrefix("limit "))
    }

    // limit: Collection.schemaEvaluationDepth
    @Test func deepValuesOfARecursiveSchemaReachTheLimit() throws {
        let schema = try compiled(##"{"properties":{"a":{"allOf":[{"$ref":"#"}]}}}"##)
        func nested(_ depth: Int) -> String {
            String(repeating: #"{"a":"#, count: depth) + "1" + String(repeating: "}", count: depth)
        }
        #expect(try verdict(schema, nested(30)) == "valid")
        #expect(try verdict(schema, nested(100)).hasPrefix("limit /a/a"))
    }

    // limit: Collection.schemaDepth, Collection.schemaParts, Collection.schemaPatterns
    @Test func schemasThatAreTooDeepOrTooLargeAreRefused() throws {
        var deep = "true"
        for _ in 0..<40 { deep = #"{"items":\#(deep)}"# }
        #expect(try problems(deep).contains { $0.message.contains("nested 32 deep") })
        let names = (0..<9000).map { #""n\#($0)""# }.joined(separator: ",")
        #expect(try problems(#"{"required":[\#(names)]}"#).contains { $0.message.contains("8192 parts") })
        let patterns = (0..<40).map { #""^p\#($0)":true"# }.joined(separator: ",")
        #expect(try problems(#"{"patternProperties":{\#(patterns)}}"#).contains { $0.message.contains("32 different") })
    }

    @Test func manyItemsAreFoundUniqueOrNot() throws {
        let numbers = (0..<3000).map { "\($0)" }.joined(separator: ",")
        #expect(try verdict(#"{"uniqueItems":true}"#, "[\(numbers)]") == "valid")
        #expect(try verdict(#"{"uniqueItems":true}"#, "[\(numbers),2999.0]") == "uniqueItems  /uniqueItems")
        let objects = (0..<40).map { #"{"a":\#($0),"b":[1]}"# }.joined(separator: ",")
        #expect(try verdict(#"{"uniqueItems":true}"#, "[\(objects)]") == "valid")
        #expect(
            try verdict(#"{"uniqueItems":true}"#, #"[\#(objects),{"b":[1.0],"a":7}]"#) == "uniqueItems  /uniqueItems")
    }

    /// More members than are asked about at a time.
    @Test func manyMembersAreEvaluatedOrNot() throws {
        let schema = #"{"anyOf":[{"patternProperties":{"^n":true}}],"unevaluatedProperties":false}"#
        let members = (0..<200).map { #""n\#($0)":1"# }.joined(separator: ",")
        #expect(try verdict(schema, "{\(members)}") == "valid")
        #expect(try verdict(schema, #"{\#(members),"x":1}"#) == "unevaluatedProperties /* /unevaluatedProperties")
        let items = (0..<200).map { "\($0)" }.joined(separator: ",")
        let prefix = (0..<100).map { _ in "true" }.joined(separator: ",")
        let array = #"{"prefixItems":[\#(prefix)],"contains":{"minimum":100},"unevaluatedItems":false}"#
        #expect(try verdict(array, "[\(items)]") == "valid")
        #expect(try verdict(array, "[\(items),-1]") == "unevaluatedItems /200 /unevaluatedItems")
    }

    // MARK: strip

    /// The pointers of what must be left out; nil where that does not help.
    static func stripped(_ schema: String, _ value: String) throws -> [String]? {
        let schema = try compiled(schema)
        let document = try parsed(value)
        return schema.strip(document.root, in: document)?.map { document.pointer(to: $0) }
    }

    @Test func whatIsNotAllowedIsLeftOut() throws {
        let order = """
            {"type":"object","required":["total"],"additionalProperties":false,"properties":{
              "total":{"type":"number","minimum":0},"currency":{"pattern":"^[A-Z]{3}$"},
              "address":{"required":["city"],"properties":{"city":{"type":"string"},"zip":{"type":"string"}}},
              "lines":{"type":"array","items":{"type":"object","properties":{"sku":{"type":"string"}}}}}}
            """
        #expect(try Self.stripped(order, #"{"total":1}"#) == [])
        #expect(try Self.stripped(order, #"{"total":1,"extra":2,"currency":"eur"}"#) == ["/extra", "/currency"])
        // Of an object only the member goes; an object that lacks what it needs goes whole, an array too.
        #expect(try Self.stripped(order, #"{"total":1,"address":{"city":"Bonn","zip":53111}}"#) == ["/address/zip"])
        #expect(try Self.stripped(order, #"{"total":1,"address":{"zip":53111,"city":7}}"#) == ["/address"])
        #expect(try Self.stripped(order, #"{"total":1,"lines":[{"sku":"a"},{"sku":1}]}"#) == ["/lines/1/sku"])
        #expect(try Self.stripped(order, #"{"total":1,"lines":[{"sku":"a"},7]}"#) == ["/lines"])
        // What is required cannot go.
        #expect(try Self.stripped(order, #"{"total":-1}"#) == nil)
        #expect(try Self.stripped(order, #"{"currency":"EUR"}"#) == nil)
        #expect(try Self.stripped(order, "[]") == nil)
    }

    @Test func theRestIsReallyValid() throws {
        // Without b, x is what it must not be.
        let schema = #"{"properties":{"x":{"not":{"const":{"a":1}},"properties":{"b":false}}}}"#
        #expect(try Self.stripped(schema, #"{"x":{"a":1,"b":2}}"#) == ["/x"])
        let counted = #"{"minProperties":2,"properties":{"b":false}}"#
        #expect(try Self.stripped(counted, #"{"a":1,"b":2}"#) == nil)
        #expect(try Self.stripped(counted, #"{"a":1,"b":2,"c":3}"#) == ["/b"])
        #expect(try Self.stripped(#"{"propertyNames":{"maxLength":2}}"#, #"{"a":1,"bcd":2}"#) == ["/bcd"])
        #expect(try Self.stripped(#"{"unevaluatedProperties":false}"#, #"{"a":1,"b":2}"#) == ["/a", "/b"])
    }

    // limit: Collection.schemaStripRounds
    @Test func strippingEnds() throws {
        let many = (0..<200).map { #""n\#($0)":1"# }.joined(separator: ",")
        #expect(try Self.stripped(#"{"additionalProperties":false}"#, "{\(many)}") == nil)
    }
}
