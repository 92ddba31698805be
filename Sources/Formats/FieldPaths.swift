// Lists of fields in what people write, by their dotted paths: `[context.ip, properties.notes]`. It need not know what is
// done with the fields.

extension PlanReader {
    /// A member that must be a list of paths; each is split at its dots: `context.ip` is [context, ip]. Empty when absent or
    /// something else (a problem).
    /// - Parameter atMost: paths.
    public mutating func fieldPaths(
        _ document: borrowing JSONDocument, _ settings: JSONNode, _ name: StaticString, atMost: Int
    ) -> [[[UInt8]]] {
        guard let list = document.member(settings, name), !document.isNull(list) else { return [] }
        guard document.kind(list) == .array, document.count(list) <= atMost else {
            report(document, list, "\(name) must be a list of at most \(atMost) names")
            return []
        }
        var found: [[[UInt8]]] = []
        var element = document.firstChild(list)
        while let node = element {
            element = document.next(node)
            var path: [[UInt8]] = [[]]
            if document.kind(node) == .string {
                let text = document.bytes(node)
                for index in 0..<text.count {
                    if text[index] == UInt8(ascii: ".") { path.append([]) } else { path[path.count - 1].append(text[index]) }
                }
            }
            if path.contains([]) {
                report(document, node, "\(name) lists fields by their paths, such as context.ip")
            } else {
                found.append(path)
            }
        }
        return found
    }
}
