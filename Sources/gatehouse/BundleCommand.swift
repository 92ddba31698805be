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
        several, of which any counts. diff says what was added, removed and changed by section and name.
        Exit code 1 when a bundle is wrong or badly signed, or a key is none.

        """

    static func run(_ arguments: [String]) -> Int32 {
        var code: Int32 = 2
        guard let given = AgentArguments(arguments, help, [.key, .signature], isAsking: false, &code) else { return code }
        guard let action = given.action(["sign", "verify", "diff"]), !given.has(.json) else {
            return Command.misuse("bundle needs sign, verify or diff", help)
        }
        let names = given.words.dropFirst().map { String(decoding: $0, as: UTF8.self) }
        if action == 2 {
            guard names.count == 2, !given.has(.key), !given.has(.signature) else {
                return Command.misuse("bundle diff needs two bundles", help)
            }
            return diff(names[0], names[1])
        }
        guard names.count == 1, let key = given[.key] else {
            return Command.misuse("bundle sign and verify need one bundle, and --key F", help)
        }
        return use(key, names[0], given[.signature] ?? joined(names[0], ".sig"), isSigning: action == 0)
    }

    private static func use(_ keyPath: String, _ path: String, _ signaturePath: String, isSigning: Bool) -> Int32 {
        var place = keyPath
        do throws(SystemError) {
            let key = try Files.read(keyPath, limitBytes: Agent.Limits.keyFileBytes)
            place = path
            let text = try Files.read(path, limitBytes: Limits.fileBytes)
            let (bundle, problems) = Bundle.read(text.span, loadedAt: 0)
            let isWrong = CheckCommand.report(problems, path)
            guard let bundle, !isWrong else { return 1 }
            place = signaturePath
            var signature: [UInt8] = []
            if !isSigning { signature = try Files.read(signaturePath, limitBytes: Limits.fileBytes) }
            guard hold(text, &signature, key, keyPath, isSigning, signaturePath) else { return 1 }
            if isSigning { try Files.replace(signaturePath, with: signature, mode: 0o644) }
            Process.standardOutput(
                joined(isSigning ? "signed" : "good", ": version ", String(bundle.version), "\n"))
            return 0
        } catch {
            Process.complain(place, ": ", error.message)
            return 3
        }
    }

    /// Signs, or looks whether it is signed.
    /// - Returns: false after saying what is wrong.
    private static func hold(
        _ text: [UInt8], _ signature: inout [UInt8], _ key: [UInt8], _ keyPath: String, _ isSigning: Bool, _ place: String
    ) -> Bool {
        do throws(SignatureError) {
            if isSigning {
                signature = try sign(text.span, key: key)
                return true
            }
            if try VerificationKeys(key).haveSigned(text.span, signature) { return true }
            Process.complain(place, " is not the signature of these bytes by a key in ", keyPath)
        } catch {
            Process.complain(keyPath, ": ", String(copying: error.message.bytes))
        }
        return false
    }

    // MARK: Two bundles

    private static func read(_ path: String, _ code: inout Int32) -> JSONDocument? {
        do throws(SystemError) {
            let text = try Files.read(path, limitBytes: Limits.fileBytes)
            let isWrong = CheckCommand.report(Bundle.read(text.span, loadedAt: 0).1, path)
            code = 1
            return isWrong ? nil : try? YAML.parse(text.span)
        } catch {
            Process.complain(path, ": ", error.message)
            code = 3
            return nil
        }
    }

    private static func diff(_ old: String, _ new: String) -> Int32 {
        var code: Int32 = 1
        guard let before = read(old, &code), let after = read(new, &code) else { return code }
        var output: [UInt8] = []
        BundleChanges.append(before, after, to: &output)
        if output.isEmpty { output = Array("the same\n".utf8) }
        try? writeAll(1, output.span)
        return 0
    }
}

/// What is other in a bundle, in words: a line for each name.
private enum BundleChanges {
    static func append(_ before: JSONDocument, _ after: JSONDocument, to output: inout [UInt8]) {
        forEachPair(before, before.root, after, after.root) { section, old, new in
            guard let old, let new else { return line(section, old == nil ? "added" : "removed", nil, to: &output) }
            if isSame(before, old, after, new) { return }
            guard before.kind(old) == .object, after.kind(new) == .object else {
                line(section, "changed", nil, to: &output)
                if isScalar(before, old), isScalar(after, new) {
                    output.removeLast()
                    output += Array(": ".utf8)
                    PlainText.scalar(before, old, to: &output)
                    output += Array(" → ".utf8)
                    PlainText.scalar(after, new, to: &output)
                    output.append(0x0A)
                }
                return
            }
            let start = output.count
            forEachPair(before, old, after, new) { name, old, new in
                guard let old, let new else { return line(section, old == nil ? "added" : "removed", name, to: &output) }
                if isSame(before, old, after, new) { return }
                line(section, "changed", name, to: &output)
                appendMembers(before, old, after, new, to: &output)
            }
            if output.count == start { line(section, "in another order", nil, to: &output) }
        }
    }

    /// Behind a name that changed: which of its settings did.
    private static func appendMembers(
        _ before: JSONDocument, _ old: JSONNode, _ after: JSONDocument, _ new: JSONNode, to output: inout [UInt8]
    ) {
        guard before.kind(old) == .object, after.kind(new) == .object else { return }
        output.removeLast()
        let start = output.count
        forEachPair(before, old, after, new) { name, old, new in
            if let old, let new, isSame(before, old, after, new) { return }
            output += Array((output.count == start ? " (" : ", ").utf8)
            if old == nil { output.append(UInt8(ascii: "+")) }
            if new == nil { output.append(UInt8(ascii: "-")) }
            PlainText.text(name.span, to: &output)
        }
        output += Array((output.count == start ? " (order)\n" : ")\n").utf8)
    }

    private static func line(_ section: [UInt8], _ what: StaticString, _ name: [UInt8]?, to output: inout [UInt8]) {
        PlainText.text(section.span, to: &output)
        output.append(UInt8(ascii: " "))
        output.append(contentsOf: what.bytes)
        if let name {
            output += Array(": ".utf8)
            PlainText.text(name.span, to: &output)
        }
        output.append(0x0A)
    }

    /// Calls `body` with each name of one object or the other, and its values.
    private static func forEachPair(
        _ before: JSONDocument, _ old: JSONNode, _ after: JSONDocument, _ new: JSONNode,
        _ body: ([UInt8], JSONNode?, JSONNode?) -> Void
    ) {
        before.forEachMember(old) { key, value in
            let name = [UInt8](copying: before.bytes(key))
            body(name, value, after.member(new, name))
        }
        after.forEachMember(new) { key, value in
            let name = [UInt8](copying: after.bytes(key))
            if before.member(old, name) == nil { body(name, nil, value) }
        }
    }

    private static func isScalar(_ document: JSONDocument, _ node: JSONNode) -> Bool {
        document.kind(node) != .object && document.kind(node) != .array
    }

    /// As they would be written, in their order: attributes and rules are taken in it.
    private static func isSame(_ before: JSONDocument, _ old: JSONNode, _ after: JSONDocument, _ new: JSONNode) -> Bool {
        var (mine, theirs) = (JSONWriter(), JSONWriter())
        mine.value(before, old)
        theirs.value(after, new)
        return mine.bytes == theirs.bytes
    }
}
