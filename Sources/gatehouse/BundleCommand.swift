// `gatehouse bundle`: signs bundles, says whether one is signed, and tells two apart. It need not know how bundles reach a
// device.

import Agent
import Cryptography
import Formats
import Platform

enum BundleCommand {
    static let help = """
        gatehouse bundle sign F --key PRIVATE.pem [--signature S]
        gatehouse bundle verify F --key PUBLIC.pem [--signature S]
        gatehouse bundle diff OLD NEW

        sign checks a bundle and writes its signature to F.sig, or to S: ECDSA P-256 over SHA-256, in DER. These make it and
        verify it as well:

          openssl dgst -sha256 -sign private.pem -out shop.yaml.sig shop.yaml
          openssl dgst -sha256 -verify public.pem -signature shop.yaml.sig shop.yaml

        Keys: openssl ecparam -name prime256v1 -genkey -noout -out private.pem
              openssl ec -in private.pem -pubout -out public.pem

        verify does what a device does with the bundle: it checks signature and content. The file of public keys may hold
        several, of which any counts. diff says what was added, removed and changed.
        Exit code 1 when a bundle is wrong or badly signed, or a key is none.

        """

    static func run(_ arguments: [String]) -> Int32 {
        var code: Int32 = 2
        guard let given = AgentArguments(arguments, help, [.key, .signature], isAsking: false, &code) else { return code }
        let action = given.action(["sign", "verify", "diff"]) ?? 3
        let (isDiff, key) = (action == 2, given[.key])
        guard action < 3, !given.has(.json), given.words.count == (isDiff ? 3 : 2), (key == nil) == isDiff else {
            return Command.misuse("bundle needs sign or verify, a bundle and --key F, or diff and two bundles", help)
        }
        var place = String(decoding: given.words[1], as: UTF8.self)
        do throws(SystemError) {
            let text = try Files.read(place, limitBytes: Limits.fileBytes)
            if isWrong(text, place) { return 1 }
            if isDiff {
                place = String(decoding: given.words[2], as: UTF8.self)
                let other = try Files.read(place, limitBytes: Limits.fileBytes)
                if isWrong(other, place) { return 1 }
                show(text, other)
                return 0
            }
            let signaturePath = given[.signature] ?? joined(place, ".sig")
            place = key ?? ""
            let pem = try Files.read(place, limitBytes: Limits.fileBytes)
            place = signaturePath
            var signature: [UInt8] = []
            if action != 0 { signature = try Files.read(place, limitBytes: Limits.fileBytes) }
            if let problem = hold(text, &signature, pem, isSigning: action == 0) {
                Process.complain(key ?? "", ": ", String(copying: problem.bytes))
                return 1
            }
            if action == 0 { try Files.replace(place, with: signature, mode: 0o644) }
            Process.standardOutput(joined(action == 0 ? "signed: " : "good: ", place, "\n"))
            return 0
        } catch {
            Process.complain(place, ": ", error.message)
            return 3
        }
    }

    @inline(never)
    private static func isWrong(_ text: [UInt8], _ path: String) -> Bool {
        CheckCommand.report(Bundle.read(text.span, loadedAt: 0).1, path)
    }

    /// Signs, or looks whether it is signed.
    /// - Returns: what is wrong with the key, or with the signature by it.
    private static func hold(
        _ text: [UInt8], _ signature: inout [UInt8], _ key: [UInt8], isSigning: Bool
    ) -> StaticString? {
        do throws(SignatureError) {
            if isSigning {
                signature = try sign(text.span, key: key)
                return nil
            }
            let isGood = try VerificationKeys(key).haveSigned(text.span, signature)
            return isGood ? nil : "this key did not make the signature of these bytes"
        } catch {
            return error.message
        }
    }

    // MARK: Two bundles

    private static func show(_ old: [UInt8], _ new: [UInt8]) {
        var output: [UInt8] = []
        do throws(YAMLError) {
            let (before, after) = (try YAML.parse(old.span), try YAML.parse(new.span))
            compare(before, before.root, after, after.root, [], 0, &output)
        } catch { return }
        if output.isEmpty { output = Array("the same\n".utf8) }
        try? writeAll(1, output.span)
    }

    /// Appends a line for each section, name and setting that is in one only, or another.
    private static func compare(
        _ before: JSONDocument, _ old: JSONNode, _ after: JSONDocument, _ new: JSONNode, _ path: [UInt8], _ depth: Int,
        _ output: inout [UInt8]
    ) {
        let start = output.count
        let isDeep = depth < 3 && before.kind(old) == .object && after.kind(new) == .object
        for isNew in [false, true] where isDeep {
            let (mine, others) = isNew ? (after, before) : (before, after)
            var key = mine.firstChild(isNew ? new : old)
            while let name = key, let value = mine.next(name) {
                key = mine.next(value)
                let bytes = [UInt8](copying: mine.bytes(name))
                var place = path
                if depth > 0 { place.append(UInt8(ascii: ".")) }
                PlainText.text(bytes.span, to: &place)
                if let other = others.member(isNew ? old : new, bytes) {
                    if !isNew { compare(before, value, after, other, place, depth + 1, &output) }
                } else {
                    line(isNew ? "added " : "removed ", place, &output)
                }
            }
        }
        if output.count > start { return }
        // As they would be written, in their order: attributes and rules are taken in it.
        var (first, second) = (JSONWriter(), JSONWriter())
        first.value(before, old)
        second.value(after, new)
        if first.bytes == second.bytes { return }
        line("changed ", path, &output)
        if first.bytes.count + second.bytes.count > Limits.shownBytes { return }
        output.removeLast()
        output += Array(": ".utf8)
        PlainText.text(first.bytes.span, to: &output)
        output += Array(" → ".utf8)
        PlainText.text(second.bytes.span, to: &output)
        output.append(0x0A)
    }

    @inline(never)
    private static func line(_ what: StaticString, _ path: [UInt8], _ output: inout [UInt8]) {
        output.append(contentsOf: what.bytes)
        output += path
        output.append(0x0A)
    }
}
