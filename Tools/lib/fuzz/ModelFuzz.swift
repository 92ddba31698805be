// What libFuzzer calls with each input; see Tools/fuzz. Any answer to a model is right. A crash, a hang or too much memory
// is not, nor is a model that is taken and comes to another score than its trees do when they are walked here as they stand
// in the text.
//
// The first byte chooses the features; the rest is the model.

import Formats

@testable import Activation

nonisolated(unsafe) private var document = JSONDocument()

@_cdecl("LLVMFuzzerTestOneInput")
public func testOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    let input = Array(UnsafeBufferPointer(start: start, count: count))
    let text = Array(input[1...])
    do throws(JSONError) { try document.parse(text.span) } catch { return 0 }
    var reader = PlanReader()
    guard let read = TreeModelReader.read(document, document.root, nodesLeft: 65_536, &reader) else {
        if !reader.hasErrors { stop(text, "is refused for no reason") }
        return 0
    }
    if reader.hasErrors { stop(text, "is taken and refused") }
    let model = read.model
    if model.nodes.count > document.nodeCount { stop(text, "has more nodes than values") }
    for round in 0..<4 {
        let features = (0..<model.featureCount).map { feature($0, Int(input[0]) + 64 * round) }
        let margin = model.margin(features.span)
        let expected = walk(features, from: model.base)
        if margin.bitPattern != expected.bitPattern, !(margin.isNaN && expected.isNaN) {
            stop(text, "comes to \(margin), and its trees to \(expected)")
        }
        let value = model.value(features.span)
        let objective = member(member(document.root, "learner"), "objective")
        if !document.equals(member(objective, "name"), "reg:squarederror"), !(value >= 0 && value <= 1), !margin.isNaN {
            stop(text, "has a probability of \(value)")
        }
    }
    for number in 0..<min(model.featureCount, 20) {
        let name = read.name(document, ofFeature: number)
        if Array(String(decoding: Array(name.utf8), as: UTF8.self).utf8) != Array(name.utf8) {
            stop(text, "has a name that is no text")
        }
    }
    return 0
}

/// Missing, small, large and equal to thresholds by turns.
private func feature(_ number: Int, _ seed: Int) -> Float {
    let values: [Float] = [.nan, 0, -0.0, 0.5, 1, -1, 2, 1e30, -1e30, .infinity, 29.5, 100]
    return values[(number &* 7 &+ seed) % values.count]
}

// MARK: The trees as they stand

private func walk(_ features: [Float], from base: Float) -> Float {
    var sum = base
    let booster = member(member(document.root, "learner"), "gradient_booster")
    var tree = document.firstChild(member(member(booster, "model"), "trees"))
    while let node = tree {
        sum += leaf(of: node, features)
        tree = document.next(node)
    }
    return sum
}

private func leaf(of tree: JSONNode, _ features: [Float]) -> Float {
    let left = numbers(tree, "left_children")
    let right = numbers(tree, "right_children")
    let threshold = numbers(tree, "split_conditions").map { Float($0) }
    let split = numbers(tree, "split_indices")
    let isMissingLeft = numbers(tree, "default_left")
    var place = 0
    // As deep as there are nodes; a tree that was taken has no circle.
    for _ in 0...left.count {
        if left[place] == -1 { return threshold[place] }
        let value = features[Int(split[place])]
        let goesLeft = value.isNaN ? isMissingLeft[place] != 0 : value < threshold[place]
        place = Int(goesLeft ? left[place] : right[place])
    }
    fatalError("a tree that was taken has a circle")
}

private func numbers(_ tree: JSONNode, _ name: StaticString) -> [Double] {
    var numbers: [Double] = []
    var element = document.firstChild(member(tree, name))
    while let node = element {
        numbers.append(number(node))
        element = document.next(node)
    }
    return numbers
}

private func number(_ node: JSONNode) -> Double {
    if let number = document.double(node) { return number }
    if let flag = document.bool(node) { return flag ? 1 : 0 }
    let text = String(decoding: Array(copying: document.bytes(node)), as: UTF8.self)
    guard let number = Double(text.hasPrefix("[") && text.hasSuffix("]") ? String(text.dropFirst().dropLast()) : text) else {
        fatalError("a model was taken that has \(text) for a number")
    }
    return number
}

private func member(_ parent: JSONNode, _ name: StaticString) -> JSONNode {
    guard let node = document.member(parent, name) else { fatalError("a model was taken that has no \(name)") }
    return node
}

private func stop(_ text: [UInt8], _ what: String) -> Never {
    fatalError("the model \(what): \(String(decoding: text, as: UTF8.self))")
}
