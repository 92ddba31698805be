// The math extension. It need not know memory: numbers only.

extension Machine {
    mutating func extreme(_ function: Function, _ count: Int, _ c: Context) -> Value {
        if count == 1, stack[sp].kind == .list {
            let list = stack[sp]
            let elements = self.count(list)
            charge(elements)
            if elements == 0 { return fail(.invalidArgument) }
            var best = element(list, 0, c)
            for index in 0..<elements {
                let next = element(list, index, c)
                guard next.isNumber else { return fail(.noOverload) }
                if isBetter(next, best, function) { best = next }
            }
            return best
        }
        if count == 0 { return fail(.noOverload) }
        var best = stack[sp]
        for index in 0..<count {
            let next = stack[sp + index]
            guard next.isNumber else { return fail(.noOverload) }
            if isBetter(next, best, function) { best = next }
        }
        return best
    }

    private func isBetter(_ next: Value, _ best: Value, _ function: Function) -> Bool {
        compareNumbers(next, best) == (function == .greatest ? .after : .before)
    }

    func mathematics(_ function: Function, _ first: Value, _ second: Value, _ count: Int) -> Value {
        switch function {
        case .bitAnd, .bitOr, .bitXor, .bitShiftLeft, .bitShiftRight:
            return count == 2 ? bits(function, first, second) : fail(.noOverload)
        default: break
        }
        guard count == 1 else { return fail(.noOverload) }
        switch (function, first.kind) {
        case (.bitNot, .int), (.bitNot, .uint): return Value(first.kind, bits: ~first.bits)
        case (.abs, .int): return first.int == .min ? fail(.overflow) : .int(Swift.abs(first.int))
        case (.abs, .uint): return first
        case (.abs, .double): return .double(first.real.magnitude)
        case (.sign, .int): return .int(first.int.signum())
        case (.sign, .uint): return .uint(first.bits == 0 ? 0 : 1)
        case (.sign, .double):
            let real = first.real
            return .double(real.isNaN ? real : real > 0 ? 1 : real < 0 ? -1 : 0)
        case (.sqrt, .int), (.sqrt, .uint), (.sqrt, .double): return .double((first.number ?? 0).squareRoot())
        case (_, .double): return onDouble(function, first.real)
        case (_, .int) where first.isSoft: return onDouble(function, first.number ?? 0)
        default: return fail(.noOverload)
        }
    }

    private func onDouble(_ function: Function, _ real: Double) -> Value {
        switch function {
        case .ceil: .double(real.rounded(.up))
        case .floor: .double(real.rounded(.down))
        case .round: .double(real.rounded(.toNearestOrAwayFromZero))
        case .trunc: .double(real.rounded(.towardZero))
        case .isNaN: .bool(real.isNaN)
        case .isInf: .bool(real.isInfinite)
        case .isFinite: .bool(real.isFinite)
        default: fail(.noOverload)
        }
    }

    private func bits(_ function: Function, _ first: Value, _ second: Value) -> Value {
        guard first.kind == .int || first.kind == .uint else { return fail(.noOverload) }
        if function == .bitShiftLeft || function == .bitShiftRight {
            guard second.kind == .int else { return fail(.noOverload) }
            guard second.int >= 0 else { return fail(.invalidArgument) }
            if second.int > 63 { return Value(first.kind) }
            // Shifts to the right fill with zeros, for negative ints too (cel-go ext/math.go).
            return Value(
                first.kind, bits: function == .bitShiftLeft ? first.bits << second.bits : first.bits >> second.bits)
        }
        guard second.kind == first.kind else { return fail(.noOverload) }
        switch function {
        case .bitAnd: return Value(first.kind, bits: first.bits & second.bits)
        case .bitOr: return Value(first.kind, bits: first.bits | second.bits)
        default: return Value(first.kind, bits: first.bits ^ second.bits)
        }
    }
}
