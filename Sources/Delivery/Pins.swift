// `pins:` of a destination and of a device's `tls:`: the public keys that a server may have.

import Cryptography
import Formats

extension PlanReader {
    /// Reads a list of SHA-256 of public keys (SubjectPublicKeyInfo), 64 hexadecimal digits each.
    public mutating func pins(_ document: borrowing JSONDocument, _ settings: JSONNode) -> [Digest256] {
        guard let list = document.member(settings, "pins"), !document.isNull(list) else { return [] }
        var pins: [Digest256] = []
        var element = document.kind(list) == .array ? document.firstChild(list) : nil
        while let node = element, document.kind(node) == .string, let pin = Digest256(hexadecimal: document.bytes(node)) {
            pins.append(pin)
            element = document.next(node)
        }
        if element != nil || pins.isEmpty || pins.count > TLSClientConfiguration.maximumPins {
            report(document, element ?? list, "pins is a list of 1 to 8 SHA-256 of public keys, 64 hex digits each")
        }
        return pins
    }
}
