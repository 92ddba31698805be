// Shows what is said about the section `tables` of a bundle: wrong shapes and names by line and column, limits, and that
// nothing restricted becomes known by way of a table.

import Formats
import Testing

@testable import Activation
@testable import Agent

@Suite struct TablesTests {
    private static let head = """
        version: 1
        purposes: [analytics, personalization]
        identifiers: { user_id: { from: [userId], send: hmac } }
        events: { "*": { purpose: analytics } }

        """

    @Test func rulesOfEveryKindMayUseTables() {
        #expect(problems(Self.head + """
            tables:
              products: { p-1: { category: shoes, margin: 0.4 }, p-2: { category: bags } }
              stores: { "17": Berlin, 18: Wien }
              "third-party": {}
            attributes:
              city: { type: string, value: event.properties.city }
              categories: { type: tally, value: 'tables.products[event.properties.product_id].category' }
              looked: { type: counter, when: 'tables.products[event.properties.product_id].category == "shoes"' }
            audiences:
              berliner: 'tables.stores[profile.city] == "Berlin" || tables["third-party"].size() > 0'
            decisions:
              offer:
                purpose: personalization
                variants: { a: 1, b: 2 }
                default: a
                rules: [{ name: r, when: 'tables.products[context.id].margin > 0.3 && audience.berliner', serve: b }]
              shelf:
                variants: { a: 1, b: 2 }
                default: a
                rules: [{ name: r, when: '"17" in tables.stores && context.store in tables.stores', serve: b }]
            destinations:
              hub: { url: "https://hub.example/v1/batch", purpose: analytics, when: '!(event.event in tables.stores)' }
            """) == [])
    }

    @Test(arguments: [
        ("tables: [a]", "5:9: tables must be a map of names and settings"),
        ("tables:\n  products: [p-1, p-2]", "6:13: a table must be a map of rows"),
        ("tables:\n  products: {}\n  stores: Berlin", "7:11: a table must be a map of rows"),
        ("tables:\n  products: { p-1: 1,\n    p-1: 2 }", "7:5: this key stands in the mapping already"),
        (
            "tables: { products: {} }\naudiences:\n  a: tables.prodcts[profile.x] == 1",
            "7:6: in this condition, 1:8: 'tables' has no field 'prodcts'; did you mean 'products'?"
        ),
        ("tables: { products: {} }\naudiences:\n  a: tables == 1", "7:6: in this condition, 1:1: 'tables' is a record"),
        ("audiences:\n  a: 'size(tables.products) == 1'", "6:6: in this condition, 1:6: undeclared name 'tables'"),
    ])
    func whatIsWrongIsSaidWithItsPlace(section: String, expected: String) {
        let found = problems(Self.head + section)
        #expect(found.count == 1 && found[0].hasPrefix(expected), "\(found)")
    }

    private static func table(_ name: String, rows: Range<Int>, _ row: (Int) -> String) -> String {
        var text = "  \(name):\n"
        for number in rows { text += "    \(number): \(row(number))\n" }
        return text
    }

    // limit: Activation.tables, Activation.tableRows, Activation.tableBytes
    @Test func tablesHaveLimits() {
        let full = Self.head + "tables:\n" + Self.table("a", rows: 0..<Activation.Limits.tableRows - 10) { "\($0)" }
        #expect(problems(full + Self.table("b", rows: 0..<10) { _ in "x" }) == [])
        let more = problems(full + Self.table("b", rows: 0..<11) { _ in "x" })
        let place = "\(Activation.Limits.tableRows + 7 - 10):3: "
        #expect(more == [place + "there can be at most 64 tables with 20000 rows together, and these are more"])
        // Unlike texts of a hundred bytes.
        let padding = String(repeating: "x", count: 100)
        let long = problems(Self.head + "tables:\n" + Self.table("a", rows: 0..<8000) { "\(padding)\($0)" })
        #expect(long.count == 1 && long[0].hasPrefix("6:3: with this table, the tables take more than 1024 KiB"), "\(long)")
        var many = Self.head + "tables:\n"
        for number in 0..<64 { many += "  t\(number): {}\n" }
        #expect(problems(many) == [])
        #expect(problems(many + "  more: {}\n").first?.hasPrefix("70:3: there can be at most 64 tables") == true)
    }

    @Test func whatIsRestrictedDoesNotBecomeKnownByATable() {
        let restricted = Self.head + """
            tables: { bands: { low: { offer: 1 } } }
            attributes:
              band: { type: string, value: event.properties.band, restricted: true }
              city: { type: string, value: event.properties.city }

            """
        let hub = "destinations:\n  hub: { url: \"https://hub.example/v1/batch\", purpose: analytics, when: "
        let found = problems(restricted + hub + "'tables.bands[profile.band].offer == 1' }")
        #expect(found.count == 1 && found[0].contains("profile.band is restricted"), "\(found)")
        let copied = problems(restricted + "  copy: { type: last, value: 'tables.bands[profile.band].offer' }\n")
        #expect(copied.count == 1 && copied[0].contains("restricted"), "\(copied)")
        #expect(problems(restricted + hub + "'tables.bands[profile.city].offer == 1 && \"low\" in tables.bands' }") == [])
        // A decision without a purpose sees tables, and no person by way of them.
        let offer = "decisions:\n  offer: { variants: { a: 1 }, default: a, rules: [{ name: r, serve: a, when: "
        #expect(problems(restricted + offer + "'tables.bands[context.band].offer == 1' }] }") == [])
        let person = problems(restricted + offer + "'tables.bands[profile.city].offer == 1' }] }")
        #expect(person.count == 1 && person[0].contains("profile"), "\(person)")
    }
}
