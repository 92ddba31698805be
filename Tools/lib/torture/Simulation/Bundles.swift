// The bundles that a simulated device is offered: some good, in several versions of the same policy, and some that must not
// be taken.

enum Bundles {
    static let count = 8

    /// The one that a device begins with.
    static let first = good(1, wait: "10m", offer: "ten", more: "")

    /// - Parameter version: that a good one has.
    /// - Returns: whether it may come into force, and its text.
    static func text(_ number: Int, version: Int) -> (isGood: Bool, text: String) {
        switch number {
        case 0: (true, good(version, wait: "10m", offer: "ten", more: ""))
        case 1: (true, good(version, wait: "0s", offer: "none", more: ""))
        case 2:
            (true, good(
                version, wait: "1h", offer: "ten",
                more: "  views: { type: counter, when: 'event.event == \"Product Viewed\"' }\n"))
        case 3:
            (true, good(
                version, wait: "10m", offer: "none",
                more: "  last_value: { type: last, value: event.properties.value }\n"))
        // A condition that cannot be read.
        case 4: (false, good(version, wait: "10m", offer: "ten", more: "").replacing("> 100.0", "> > 100.0"))
        // A text that ends in the middle.
        case 5: (false, String(good(version, wait: "10m", offer: "ten", more: "").prefix(700)))
        // A name that is none.
        case 6: (false, good(version, wait: "10m", offer: "twelve", more: ""))
        // An older one.
        default: (false, good(0, wait: "10m", offer: "ten", more: ""))
        }
    }

    private static func good(_ version: Int, wait: String, offer: String, more: String) -> String {
        """
        version: \(version)
        purposes: [analytics, personalization, advertising]
        consent: { wait: \(wait) }
        identifiers:
          email: { from: [traits.email], normalize: email, send: sha256 }
          user_id: { from: [userId, context.targetingKey], send: hmac, unique: true }
          device: { from: [anonymousId], send: hmac, shared: true }
        events:
          Order Completed:
            purpose: analytics
            tier: realtime
            priority: 9
            invalid: quarantine
            schema: { type: object, required: [revenue], properties: { revenue: { type: number, minimum: 0 } } }
          Product Added: { purpose: analytics, tier: batch, priority: 6 }
          Product Viewed: { purpose: analytics, tier: batch, priority: 1 }
          "*": { purpose: analytics, tier: batch, priority: 5 }
        attributes:
          orders: { type: counter, when: 'event.event == "Order Completed"' }
          spent: { type: sum, when: 'event.event == "Order Completed"', value: event.properties.revenue }
          added: { type: counter, when: 'event.event == "Product Added"' }
        \(more)decisions:
          offer:
            purpose: personalization
            variants: { none: { discount: 0 }, ten: { discount: 10 } }
            default: none
            rules:
              - { name: good customer, when: profile.spent > 100.0, serve: \(offer) }
              - { name: test, split: { ten: 50, none: 50 } }
        triggers:
          abandoned:
            on: 'event.event == "Product Added"'
            after: 30m
            unless: 'event.event == "Order Completed"'
            send: crm
        destinations:
          hub:
            url: "https://hub.example:8443/v1/batch"
            purpose: analytics
            identifiers: [email, user_id]
            batch: { events: 50, bytes: 100KiB, delay: 5s }
          crm:
            url: "https://crm.example:8443/v1/batch"
            purpose: advertising
            when: 'event.event == "Order Completed"'
            identifiers: [user_id]

        """
    }
}

extension String {
    /// The text with the first of a part replaced by another.
    fileprivate func replacing(_ part: String, _ other: String) -> String {
        let (bytes, sought) = (Array(utf8), Array(part.utf8))
        for start in 0...(bytes.count - sought.count) where Array(bytes[start..<start + sought.count]) == sought {
            return String(decoding: bytes[..<start] + Array(other.utf8) + bytes[(start + sought.count)...], as: UTF8.self)
        }
        return self
    }
}
