// Models in XGBoost's JSON format (`Booster.save_model("model.json")`; documented in its `doc/tutorials/saving_model.rst`
// and `doc/model.schema`), checked and made flat. It need not know what a model is asked for.
//
// Whatever stands there, a tree is followed from its root and no node is met twice: what is flat has no circles, no place
// outside of itself, and as many nodes at most as the text.

import Formats

/// A model, and the names that its features have in the document.
struct TreeModelReader {
    let model: TreeModel
    /// A list of texts; nil: they are f0, f1, …
    private let names: JSONNode?

    // MARK: Features

    /// The number of the feature that a key of the document names.
    func feature(_ document: borrowing JSONDocument, _ key: JSONNode) -> Int? {
        let name = document.bytes(key)
        guard let names else {
            guard name.count > 1, name[0] == UInt8(ascii: "f"), let number = parseInt64(name.extracting(1..<name.count)),
                number >= 0, number < Int64(model.featureCount)
            else { return nil }
            return Int(number)
        }
        var number = 0
        var next = document.firstChild(names)
        while let node = next {
            if document.equals(node, name) { return number }
            number += 1
            next = document.next(node)
        }
        return nil
    }

    func name(_ document: borrowing JSONDocument, ofFeature number: Int) -> String {
        var text: [UInt8] = []
        if let names {
            var next = document.firstChild(names)
            for _ in 0..<number { next = next.flatMap { document.next($0) } }
            if let node = next { text.append(contentsOf: document.bytes(node)) }
        } else {
            text.append(UInt8(ascii: "f"))
            appendInteger(UInt64(number), to: &text)
        }
        return String(copying: text.span)
    }

    // MARK: Reading

    /// - Parameter nodesLeft: how many nodes there may be.
    /// - Returns: nil when the model cannot be evaluated; `reader` then knows why.
    static func read(
        _ document: borrowing JSONDocument, _ model: JSONNode, nodesLeft: Int, _ reader: inout PlanReader
    ) -> TreeModelReader? {
        do throws(ModelFault) {
            let learner = try member(document, model, "learner")
            let parameters = try member(document, learner, "learner_model_param")
            let objective = try member(document, try member(document, learner, "objective"), "name")
            let isLogistic = document.equals(objective, "binary:logistic") || document.equals(objective, "reg:logistic")
            if !isLogistic, !document.equals(objective, "reg:squarederror") {
                throw ModelFault(objective, "models are binary:logistic, reg:logistic or reg:squarederror, not this")
            }
            let booster = try member(document, learner, "gradient_booster")
            let kind = try member(document, booster, "name")
            if !document.equals(kind, "gbtree") { throw ModelFault(kind, "only boosters of gbtree are supported") }
            let count = try number(document, try member(document, parameters, "num_feature"))
            guard count >= 1, count <= Double(Limits.modelFeatures), count == count.rounded() else {
                throw ModelFault(parameters, "a model has 1 to 4096 features")
            }
            if let targets = document.member(parameters, "num_target"), try number(document, targets) > 1 {
                throw ModelFault(targets, "a score is one number, and this model has several")
            }
            let score = try member(document, parameters, "base_score")
            let base = Float(try number(document, score))
            guard let start = isLogistic ? Logistic.odds(base) : base, start.isFinite else {
                throw ModelFault(score, "base_score must be a finite number, and of a logistic model one between 0 and 1")
            }
            let trees = try member(document, try member(document, booster, "model"), "trees")
            var flat = FlatTrees(featureCount: Int(count), nodesLeft: nodesLeft)
            var tree = document.firstChild(trees)
            while let node = tree {
                try flat.append(document, node)
                tree = document.next(node)
            }
            let names = try names(document, learner, Int(count))
            return TreeModelReader(
                model: TreeModel(
                    nodes: flat.nodes, roots: flat.roots, featureCount: Int(count), base: start, isLogistic: isLogistic),
                names: names)
        } catch {
            reader.report(document, error.node, "\(error.name)\(error.message)")
            return nil
        }
    }

    private static func names(
        _ document: borrowing JSONDocument, _ learner: JSONNode, _ count: Int
    ) throws(ModelFault) -> JSONNode? {
        guard let list = document.member(learner, "feature_names"), document.count(list) > 0 else { return nil }
        if document.kind(list) == .array, document.count(list) == count { return list }
        throw ModelFault(list, "feature_names must be a list of as many names as num_feature says")
    }

    /// A member that a model must have.
    @inline(never)
    static func member(
        _ document: borrowing JSONDocument, _ parent: JSONNode, _ name: StaticString
    ) throws(ModelFault) -> JSONNode {
        if let node = document.member(parent, name) { return node }
        throw ModelFault(
            parent, name, " is missing here: this is no model of XGBoost as save_model(\"model.json\") writes it")
    }

    /// A number; XGBoost writes parameters as texts, newer versions some with brackets: "30", "[5E-1]".
    @inline(never)
    static func number(_ document: borrowing JSONDocument, _ node: JSONNode) throws(ModelFault) -> Double {
        if let number = document.double(node) { return number }
        if let flag = document.bool(node) { return flag ? 1 : 0 }
        if document.kind(node) == .string {
            let text = document.bytes(node)
            let hasBrackets = text.count > 2 && text[0] == UInt8(ascii: "[") && text[text.count - 1] == UInt8(ascii: "]")
            if let number = parseDouble(hasBrackets ? text.extracting(1..<text.count - 1) : text) { return number }
        }
        throw ModelFault(node, "this must be a number")
    }
}

/// What is wrong with a model, and where.
struct ModelFault: Error {
    let node: JSONNode
    let name: StaticString
    let message: StaticString

    /// - Parameter name: what the message begins with.
    init(_ node: JSONNode, _ name: StaticString, _ message: StaticString) {
        self.node = node
        self.name = name
        self.message = message
    }

    init(_ node: JSONNode, _ message: StaticString) { self.init(node, "", message) }
}

/// Trees while they are made flat.
private struct FlatTrees {
    let featureCount: Int
    let nodesLeft: Int
    var nodes: [UInt64] = []
    var roots: [UInt32] = []
    /// The lists of the tree under way, one after another.
    private var lists: [Double] = []
    /// Of each of its nodes whether it has a place, and of each place its node.
    private var isMet: [UInt8] = []
    private var order: [Int] = []

    init(featureCount: Int, nodesLeft: Int) {
        self.featureCount = featureCount
        self.nodesLeft = nodesLeft
    }

    @inline(never)
    mutating func append(_ document: borrowing JSONDocument, _ tree: JSONNode) throws(ModelFault) {
        lists = []
        let count = document.count(try TreeModelReader.member(document, tree, "left_children"))
        let names: [StaticString] = [
            "left_children", "right_children", "split_indices", "split_conditions", "default_left", "split_type",
        ]
        for name in names {
            // Old versions know no splits by category.
            if lists.count == 5 * count, document.member(tree, name) == nil { break }
            let list = try TreeModelReader.member(document, tree, name)
            guard document.kind(list) == .array, document.count(list) == count, count > 0 else {
                throw ModelFault(list, name, " must be a list of numbers, one for each node of the tree")
            }
            var element = document.firstChild(list)
            while let node = element {
                lists.append(try TreeModelReader.number(document, node))
                element = document.next(node)
            }
        }
        if let message = flatten(count) { throw ModelFault(tree, message) }
    }

    /// Appends the tree level by level, so that siblings stand beside each other and what every walk meets lies together.
    /// - Returns: what is wrong with it.
    private mutating func flatten(_ count: Int) -> StaticString? {
        let root = nodes.count
        roots.append(UInt32(root))
        isMet = [UInt8](repeating: 0, count: count)
        isMet[0] = 1
        order = [0]
        while nodes.count - root < order.count {
            if nodes.count == nodesLeft { return "with this tree, all models together have more than 65536 nodes" }
            let number = order[nodes.count - root]
            let threshold = Float(lists[3 * count + number])
            if !threshold.isFinite { return "a number of split_conditions is not finite" }
            if lists[number] == -1 {
                nodes.append(TreeModel.leaf(threshold))
                continue
            }
            if lists.count > 5 * count, lists[5 * count + number] != 0 {
                return "splits by category are not supported: encode categories as numbers"
            }
            let left = root + order.count
            for side in 0..<2 {
                guard let child = Int(exactly: lists[side * count + number]), child > 0, child < count, isMet[child] == 0
                else {
                    return "a child in this tree is not there, or is a child already"
                }
                isMet[child] = 1
                order.append(child)
            }
            guard let feature = Int(exactly: lists[2 * count + number]), feature >= 0, feature < featureCount else {
                return "a number of split_indices is not that of a feature"
            }
            nodes.append(
                TreeModel.split(
                    threshold, feature: feature, left: left, isMissingLeft: lists[4 * count + number] != 0))
        }
        return nil
    }
}
