// The names that rules may use, and the numbers under which `DecisionBindings` finds their values. One place for both,
// so that what is compiled and what is looked up cannot drift apart. It need not know any rule.

import CEL
import Governance

/// The numbers of all variables of one bundle.
public struct Slots: Sendable {
    /// `now`
    static let now = 0
    /// `event.timestamp`: a moment, corrected by the sender's clock, where the document has a text.
    static let eventTimestamp = 1
    /// `age.profile`, `age.bundle`
    static let profileAge = 2
    static let bundleAge = 3
    static let firstDevice = 4

    /// The numbers of the documents `event` and `context`.
    public static let eventDocument = 0
    public static let contextDocument = 1

    let firstConsent: Int
    let firstAudience: Int
    let firstScore: Int
    let firstAttribute: Int

    /// - Parameters:
    ///   - deviceFields: how many members `device` has.
    ///   - purposes: purposes of the bundle.
    ///   - audiences: audiences of the bundle.
    ///   - scores: scores of the bundle.
    public init(deviceFields: Int, purposes: Int, audiences: Int, scores: Int = 0) {
        firstConsent = Slots.firstDevice + deviceFields
        firstAudience = firstConsent + purposes
        firstScore = firstAudience + audiences
        firstAttribute = firstScore + scores
    }

    /// The names of every rule except `profile` and `audience`: `event`, `context`, `consent`, `device`, `now`, `age`.
    ///
    /// Give this environment to `AttributePlan`, which adds `profile`; then add `audience` with `declareAudiences` for
    /// the rules that may use audiences.
    /// - Parameters:
    ///   - deviceFields: the members of `device`, in the order of `Surroundings.device`.
    ///   - seesPerson: false for what must not tell anything of a person, such as how long ago they were seen.
    public func environment(deviceFields: [String], purposes: PurposePlan, seesPerson: Bool = true) -> Environment {
        var environment = Environment()
        environment.declareDocument("event", number: Slots.eventDocument)
        environment.declareDocument("context", number: Slots.contextDocument)
        environment.declare("event.timestamp", .timestamp, slot: Slots.eventTimestamp)
        environment.declare("now", .timestamp, slot: Slots.now)
        var fields = [Environment.Field("bundle", .duration, slot: Slots.bundleAge)]
        if seesPerson { fields.append(Environment.Field("profile", .duration, slot: Slots.profileAge)) }
        environment.declareRecord("age", fields)
        fields = []
        for index in deviceFields.indices {
            fields.append(Environment.Field(deviceFields[index], .string, slot: Slots.firstDevice + index))
        }
        environment.declareRecord("device", fields)
        fields = []
        for index in purposes.names.indices {
            let name = String(decoding: purposes.names[index], as: UTF8.self)
            fields.append(Environment.Field(name, .bool, slot: firstConsent + index))
        }
        environment.declareRecord("consent", fields)
        return environment
    }

    /// The audiences among the slots that an expression reads, a bit each.
    public func audiences(_ slots: [Int]) -> UInt64 { set(of: slots, firstAudience, firstScore) }

    /// The scores among the slots that an expression reads, a bit each.
    public func scores(_ slots: [Int]) -> UInt64 { set(of: slots, firstScore, firstAttribute) }

    private func set(of slots: [Int], _ first: Int, _ end: Int) -> UInt64 {
        var set: UInt64 = 0
        for slot in slots where slot >= first && slot < end { set |= 1 << UInt64(slot - first) }
        return set
    }

    /// The slot of an audience.
    public func slot(ofAudience number: Int) -> Int { firstAudience + number }

    /// Whether an expression that reads these slots asks for something about a person.
    public func readPerson(_ slots: [Int]) -> Bool {
        for slot in slots where slot == Slots.profileAge || slot >= firstAudience { return true }
        return false
    }

    /// Whether what an expression reads tells nothing of a person: the time, the device, the bundle's age.
    public func areImpersonal(_ slots: [Int]) -> Bool {
        for slot in slots where slot == Slots.profileAge || slot >= firstConsent { return false }
        return true
    }

    /// The attribute that a slot stands for, or whose favourite; nil: for something else.
    func attribute(_ slot: Int, of count: Int, favorites: [Int]) -> Int? {
        let number = slot - firstAttribute
        if number < 0 { return nil }
        if number < count { return number }
        return number - count < favorites.count ? favorites[number - count] : nil
    }

    /// Adds `audience`, whose members are true or false, by the order of `names`.
    public func declareAudiences(_ names: [String], in environment: inout Environment) {
        environment.declareRecord("audience", fields(names, .bool, from: firstAudience))
    }

    /// Adds `score("name")`, a double, by the order of `names`.
    public func declareScores(_ names: [String], in environment: inout Environment) {
        environment.declareLookUp("score", fields(names, .double, from: firstScore))
    }

    private func fields(_ names: [String], _ type: Type, from first: Int) -> [Environment.Field] {
        var fields: [Environment.Field] = []
        for index in names.indices { fields.append(Environment.Field(names[index], type, slot: first + index)) }
        return fields
    }
}
