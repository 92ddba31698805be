// `gatehouse hash`: what an identifier becomes, for whoever typed it.

import Agent
import Cryptography
import Formats
import Platform
import Unification

enum HashCommand {
    static let help = """
        gatehouse hash KIND VALUE [--bundle F]

        Normalises one identifier and prints its normalised form and its SHA-256 in hex and base 64. KIND is email,
        e164, lower, digits or none; with a bundle, one of its kinds. Profiles: email:uid2, email:google, email:meta.

        """

    static func run(_ arguments: [String]) -> Int32 {
        if arguments.contains(where: { $0 == "--help" }) {
            Process.standardOutput(help)
            return 0
        }
        var words: [String] = []
        var bundle: String?
        var index = 0
        while index < arguments.count {
            if arguments[index] == "--bundle", index + 1 < arguments.count {
                bundle = arguments[index + 1]
                index += 2
            } else {
                words.append(arguments[index])
                index += 1
            }
        }
        guard words.count == 2 else { return Command.misuse("hash needs a kind and a value", help) }
        guard let normalizer = normalizer(words[0], bundle) else { return 1 }
        var room = NormalizedIdentifier()
        let value = Array(words[1].utf8)
        guard room.take(RawIdentifier(value.span), normalizer) else {
            Process.complain("this value is no identifier of that kind")
            return 1
        }
        let digest = room.plainHash()
        let base64 = digest.withSpan { Base64.encode($0) }
        var writer = JSONWriter()
        writer.beginObject()
        writer.key("normalized")
        writer.string(room.disclosedToItsOwner())
        writer.key("sha256")
        writer.string(digest.hexadecimal)
        writer.key("sha256_base64")
        writer.string(base64)
        writer.endObject()
        writer.bytes.append(0x0A)
        Process.standardOutput(String(decoding: writer.bytes, as: UTF8.self))
        room.wipe()
        return 0
    }

    private static func normalizer(_ kind: String, _ bundle: String?) -> Normalizer? {
        if let path = bundle {
            let text: [UInt8]
            do throws(SystemError) { text = try Files.read(path, limitBytes: Limits.fileBytes) } catch {
                Process.complain(path, ": ", error.message)
                return nil
            }
            let (read, problems) = Bundle.read(text.span, loadedAt: 0)
            if CheckCommand.report(problems, path) { return nil }
            let name = Array(kind.utf8)
            if let identifiers = read?.identifiers, let index = identifiers.kindIndex(named: name.span) {
                return identifiers.kinds[index].normalizer
            }
            Process.complain("the bundle has no identifier ", kind)
            return nil
        }
        var parts: [[UInt8]] = [[]]
        for byte in kind.utf8 {
            if byte == UInt8(ascii: ":") { parts.append([]) } else { parts[parts.count - 1].append(byte) }
        }
        let name = parts[0]
        guard let form = Normalizer.form(named: name.span) else {
            Process.complain("a kind is email, e164, lower, digits or none")
            return nil
        }
        if parts.count == 1 { return Normalizer(form) }
        let profileName = parts[1]
        if let profile = Normalizer.profile(named: profileName.span) { return Normalizer(form, profile: profile) }
        if let region = PhoneRegion(profileName.span) { return Normalizer(form, region: region) }
        Process.complain("after the colon stands uid2, google, meta, or a country such as DE")
        return nil
    }
}
