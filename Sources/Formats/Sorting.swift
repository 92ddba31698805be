// Sorting where speed does not matter: one routine for all types. Each of Swift's own takes two kilobytes of the binary.

extension Array {
    /// Puts the elements in order; equal ones keep theirs.
    public mutating func putInOrder(_ isBefore: (Element, Element) -> Bool) {
        let order = sortedPlaces(count) { isBefore(self[$0], self[$1]) }
        var sorted: [Element] = []
        sorted.reserveCapacity(count)
        for place in order { sorted.append(self[place]) }
        self = sorted
    }
}

/// The numbers below `count` in order, by merging ever longer runs.
@inline(never)
func sortedPlaces(_ count: Int, _ isBefore: (Int, Int) -> Bool) -> [Int] {
    var places: [Int] = []
    for place in 0..<count { places.append(place) }
    var merged = places
    var length = 1
    while length < count {
        var start = 0
        while start < count {
            var (left, right, target) = (start, Swift.min(start + length, count), start)
            let (middle, end) = (right, Swift.min(start + 2 * length, count))
            while target < end {
                if right == end || left < middle && !isBefore(places[right], places[left]) {
                    merged[target] = places[left]
                    left += 1
                } else {
                    merged[target] = places[right]
                    right += 1
                }
                target += 1
            }
            start = end
        }
        swap(&places, &merged)
        length *= 2
    }
    return places
}
