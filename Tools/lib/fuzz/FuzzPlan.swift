// The bundle by which the fuzzers of events, records and exchanges go: one of every kind of attribute and identifier.

import Agent
import Glibc

let planText = """
    version: 1
    purposes: [analytics, personalization]
    identifiers:
      email: { from: [traits.email, properties.email], normalize: email, send: sha256 }
      phone: { from: [traits.phone], normalize: e164, region: DE, send: sha256 }
      user_id: { from: [userId, context.targetingKey], send: hmac, unique: true }
      device: { from: [anonymousId, context.device.id], send: hmac }
      till: { from: [context.till.number], send: hmac, shared: true }
    events:
      Order Completed:
        purpose: analytics
        tier: realtime
        invalid: quarantine
        schema: { type: object, required: [revenue], properties: { revenue: { type: number, minimum: 0 } } }
      Product Viewed:
        purpose: analytics
        invalid: strip
        fields: { product_id: { was: product } }
        schema: { type: object, properties: { product_id: { type: string, maxLength: 20 }, email: {} },
          additionalProperties: false }
      "*": { purpose: analytics }
    attributes:
      orders: { type: counter, when: 'event.event == "Order Completed"' }
      spent: { type: sum, when: 'event.event == "Order Completed"', value: event.properties.revenue }
      mean: { type: mean, value: event.properties.revenue }
      least: { type: min, value: event.properties.revenue }
      most: { type: max, value: event.properties.revenue }
      views: { type: counter, when: 'event.event == "Product Viewed"', window: 10m }
      spent_1d: { type: sum, value: event.properties.revenue, window: 1d }
      mean_1d: { type: mean, value: event.properties.revenue, window: 1d }
      least_1d: { type: min, value: event.properties.revenue, window: 1d }
      categories: { type: tally, value: event.properties.category, limit: 5 }
      viewed: { type: set, value: event.properties.product_id, limit: 5 }
      line: { type: timeline, limit: 5 }
      first: { type: first, value: event.properties.category }
      last: { type: last, value: event.timestamp }
      vip: { type: badge, when: profile.spent > 1000.0, ttl: 90d }
      visits: { type: counter, scope: visit }
    audiences:
      buyers: profile.orders > 0 && profile.vip
    decisions:
      offer:
        purpose: personalization
        variants: { none: {}, ten: { discount: 10 } }
        default: none
        rules:
          - { when: audience.buyers, serve: ten }
          - { when: profile.views > 2, split: { ten: 50, none: 50 }, holdout: 5 }
        cap: { serves: 3, per: 24h }
    """

let plan: Bundle = {
    let text = Array(planText.utf8)
    let (bundle, problems) = Bundle.read(text.span, loadedAt: noon)
    guard let bundle else { fatalError("the fuzzers' bundle is wrong: \(problems)") }
    return bundle
}()

/// Where stores are made: in memory, if there is such a place.
let folder = "/dev/shm"

/// Tells libFuzzer what to begin with: where FUZZ_SEEDS names a folder, the inputs go there, and the program ends.
func writeSeeds(_ inputs: () -> [[UInt8]]) {
    guard let folder = getenv("FUZZ_SEEDS") else { return }
    for (number, input) in inputs().enumerated() {
        guard let file = fopen("\(String(cString: folder))/\(number)", "w") else {
            fatalError("the seeds cannot be written")
        }
        fwrite(input, 1, input.count, file)
        fclose(file)
    }
    exit(0)
}

/// A device that has seen some people: one of every kind of record is in its store.
func busyDevice() -> Device {
    let device = Device(planText)
    for (user, revenue) in [("u-12345", 12.5), ("u-23456", 1200), ("u-12345", 7)] {
        device.take(
            user, "Order Completed", "{\"revenue\": \(revenue), \"category\": \"shoes\", \"email\": \"\(user)@example.org\"}"
        )
        device.take(user, "Product Viewed", "{\"product_id\": \"p-1\", \"category\": \"hats\"}", denies: ["personalization"])
        device.now += 60_000
    }
    return device
}
