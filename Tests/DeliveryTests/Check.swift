// `#expect` for conditions that change a value while they are asked: its macro takes such a call apart and cannot.

import Testing

func check(_ condition: Bool, _ comment: Comment? = nil, sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(condition, comment, sourceLocation: sourceLocation)
}
