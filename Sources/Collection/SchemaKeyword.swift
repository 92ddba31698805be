// The words of JSON Schema 2020-12: what each is called and what is done about it. What they mean is not known here.

import Formats

/// A keyword of JSON Schema Core and Validation 2020-12, and two reasons for a violation that are no keywords.
enum SchemaKeyword: UInt8, CaseIterable, Sendable {
    // Assertions and applicators.
    case type, `enum`, const, multipleOf, maximum, exclusiveMaximum, minimum, exclusiveMinimum
    case maxLength, minLength, pattern
    case maxItems, minItems, uniqueItems, maxContains, minContains, contains, prefixItems, items, unevaluatedItems
    case maxProperties, minProperties, required, dependentRequired, dependentSchemas, properties, patternProperties
    case additionalProperties, propertyNames, unevaluatedProperties
    case allOf, anyOf, oneOf, not, `if`, then, `else`
    case reference, definitions, anchor, identifier
    // Annotations, which ask nothing of a value (Validation, sections 7 to 9).
    case schema, comment, title, description, `default`, examples, deprecated, readOnly, writeOnly
    case contentEncoding, contentMediaType, contentSchema, format
    // Refused.
    case dynamicReference, dynamicAnchor, vocabulary
    // No keywords: the schema `false` at the root, and a validation that would have taken too many steps.
    case never, limit

    /// As it is written.
    var name: StaticString {
        switch self {
        case .type: "type"
        case .enum: "enum"
        case .const: "const"
        case .multipleOf: "multipleOf"
        case .maximum: "maximum"
        case .exclusiveMaximum: "exclusiveMaximum"
        case .minimum: "minimum"
        case .exclusiveMinimum: "exclusiveMinimum"
        case .maxLength: "maxLength"
        case .minLength: "minLength"
        case .pattern: "pattern"
        case .maxItems: "maxItems"
        case .minItems: "minItems"
        case .uniqueItems: "uniqueItems"
        case .maxContains: "maxContains"
        case .minContains: "minContains"
        case .contains: "contains"
        case .prefixItems: "prefixItems"
        case .items: "items"
        case .unevaluatedItems: "unevaluatedItems"
        case .maxProperties: "maxProperties"
        case .minProperties: "minProperties"
        case .required: "required"
        case .dependentRequired: "dependentRequired"
        case .dependentSchemas: "dependentSchemas"
        case .properties: "properties"
        case .patternProperties: "patternProperties"
        case .additionalProperties: "additionalProperties"
        case .propertyNames: "propertyNames"
        case .unevaluatedProperties: "unevaluatedProperties"
        case .allOf: "allOf"
        case .anyOf: "anyOf"
        case .oneOf: "oneOf"
        case .not: "not"
        case .if: "if"
        case .then: "then"
        case .else: "else"
        case .reference: "$ref"
        case .definitions: "$defs"
        case .anchor: "$anchor"
        case .identifier: "$id"
        case .schema: "$schema"
        case .comment: "$comment"
        case .title: "title"
        case .description: "description"
        case .default: "default"
        case .examples: "examples"
        case .deprecated: "deprecated"
        case .readOnly: "readOnly"
        case .writeOnly: "writeOnly"
        case .contentEncoding: "contentEncoding"
        case .contentMediaType: "contentMediaType"
        case .contentSchema: "contentSchema"
        case .format: "format"
        case .dynamicReference: "$dynamicRef"
        case .dynamicAnchor: "$dynamicAnchor"
        case .vocabulary: "$vocabulary"
        case .never: "false"
        case .limit: "limit"
        }
    }

    /// The keyword written like this; nil for any other word.
    init?(_ word: Span<UInt8>) {
        for keyword in SchemaKeyword.allCases where keyword.rawValue < SchemaKeyword.never.rawValue {
            if equal(keyword.name.bytes, word) {
                self = keyword
                return
            }
        }
        return nil
    }

    /// What somebody who wrote an unknown word may have meant, with what to say between the two; nil if nobody can tell.
    static func suggestion(for word: Span<UInt8>) -> StaticString? {
        let former: [(StaticString, StaticString)] = [
            ("definitions", "$defs"), ("dependencies", "dependentRequired or dependentSchemas"), ("id", "$id"),
            ("additionalItems", "items beside prefixItems"), ("$recursiveRef", "$ref"), ("ref", "$ref"),
            ("extends", "allOf"), ("divisibleBy", "multipleOf"), ("optional", "required"), ("regex", "pattern"),
        ]
        for (old, new) in former where equal(old.bytes, word) { return new }
        var best: StaticString?
        var bestDistance = word.count < 5 ? 2 : 3
        for keyword in SchemaKeyword.allCases where keyword.rawValue < SchemaKeyword.dynamicReference.rawValue {
            let distance = SchemaKeyword.distance(word, keyword.name.bytes)
            if distance < bestDistance {
                bestDistance = distance
                best = keyword.name
            }
        }
        return best
    }

    /// How many letters must be put in, left out or changed to make one word the other, cases being the same
    /// (Levenshtein); large for words that are much longer than keywords.
    private static func distance(_ word: Span<UInt8>, _ keyword: Span<UInt8>) -> Int {
        if word.count > 32 { return word.count }
        var row: [Int] = []
        for column in 0...keyword.count { row.append(column) }
        for line in word.indices {
            var diagonal = row[0]
            row[0] = line + 1
            for column in keyword.indices {
                let isSame = word[line] | 0x20 == keyword[column] | 0x20
                let best = min(diagonal + (isSame ? 0 : 1), row[column] + 1, row[column + 1] + 1)
                diagonal = row[column + 1]
                row[column + 1] = best
            }
        }
        return row[keyword.count]
    }
}
