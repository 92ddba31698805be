// Shows that what a sender may send has limits, each of which is answered with what was too much and how much there may be.
import Cryptography
import Formats
import Platform
import Store
import Testing

@testable import Collection

private typealias Limits = CollectionLimits

@Suite struct CollectionLimitsTests {
    private func letters(_ count: Int) -> String { String(repeating: "a", count: count) }

    /// The refusal of an event; nil for one that is taken.
    private func refusal(_ text: String) throws -> String? {
        do { _ = try EventTests.event(text) } catch let refusal as EventRefusal {
            return "\(refusal.code) \(refusal.member): \(refusal.message)"
        }
        return nil
    }

    // limit: Collection.messageIDBytes
    @Test func aMessageIdIsOnlySoLong() throws {
        func event(_ length: Int) -> String { #"{"type":"page","userId":"1","messageId":"\#(letters(length))"}"# }
        #expect(try refusal(event(Limits.messageIDBytes)) == nil)
        #expect(
            try refusal(event(Limits.messageIDBytes + 1)) == "bad_message_id /messageId: messageId must have 1 to 255 bytes")
    }

    /// What a batch says for all of its events is written into each: 2,500 events must not become gigabytes.
    // limit: Collection.outerBytes
    @Test func whatABatchSaysForItsEventsIsOnlySoLong() throws {
        func join(_ length: Int) throws -> String? {
            // Of the context its braces, the name and quotes count.
            let document = try parsed(#"{"context":{"a":"\#(letters(length - 8))"},"batch":[{"type":"page"}]}"#)
            let outer = OuterMembers(document, batch: document.root)
            var joiner = OuterMembersJoiner()
            let list = try #require(document.member(document.root, "batch"))
            let message = try #require(document.firstChild(list))
            do { _ = try joiner.join(document, message, outer) } catch { return "\(error.code): \(error.message)" }
            return nil
        }
        #expect(try join(Limits.outerBytes) == nil)
        #expect(try join(Limits.outerBytes + 1) == "too_large: context and integrations of a batch may have 8 KiB together")
    }

    // limit: Collection.attributeNameBytes
    @Test func theNameOfACloudEventsAttributeIsOnlySoLong() throws {
        func event(_ length: Int) throws -> CloudEventsTests.Result {
            try CloudEventsTests.structured(
                #"{"specversion":"1.0","id":"1","source":"s","type":"t","userid":"u","\#(letters(length))":"x"}"#)
        }
        #expect(try event(Limits.attributeNameBytes).refused.isEmpty)
        let refused = try event(Limits.attributeNameBytes + 1)
        #expect(refused.code == "bad_attribute_name")
    }

    // limit: Collection.schemaConstantDepth
    @Test func aSchemasConstantIsOnlySoDeep() throws {
        func schema(_ depth: Int) -> String {
            #"{"const":\#(String(repeating: "[", count: depth))\#(String(repeating: "]", count: depth))}"#
        }
        #expect(try problems(schema(Limits.eventDepth)).isEmpty)
        let found = try problems(schema(Limits.eventDepth + 1))
        #expect(found.count == 1 && found[0].message.hasPrefix("the schema's constants cannot be kept: "), "\(found)")
    }

    /// A window of three stands for the half a million of a device: the oldest is forgotten first, the store does not grow.
    // limit: Collection.rememberedMessages
    @Test func onlySoManyMessagesAreRemembered() throws {
        var random = SystemRandom()
        let folder = "/tmp/gatehouse-recent-test-\(random.next())"
        let database = try Database(folder: folder, mapBytes: 1 << 20, synchronous: false)
        defer {
            for name in ["data.mdb", "lock.mdb", "gatehouse.lock"] { Files.remove(folder + "/" + name) }
            Files.removeDirectory(folder)
        }
        var transaction = try database.beginWrite()
        var recent = try RecentMessages(transaction, limit: 3)
        func key(_ number: Int) -> MessageKey {
            let bytes = Array("m-\(number)".utf8)
            return MessageKey(bytes.span, HMACSHA256(key: [7]))
        }
        for number in 1...5 {
            let isNew = try recent.remember(key(number), in: &transaction)
            #expect(isNew)
        }
        var known: [Int] = []
        for number in 1...5 where try recent.isKnown(key(number), transaction) { known.append(number) }
        #expect(known == [3, 4, 5])
        let tables = transaction.tables
        let (messages, order) = (transaction.count(tables.messages), transaction.count(tables.messageOrder))
        #expect(messages == 3 && order == 3)
        #expect(Limits.rememberedMessages == 500_000)
    }
}
