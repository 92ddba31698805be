// The Prometheus text format, version 0.0.4. Label values here are names out of the configuration, never of a person.

import Formats

public struct MetricsWriter {
    public private(set) var text: [UInt8] = []

    public init() { text.reserveCapacity(8192) }

    private mutating func append(_ words: StaticString) { text.append(contentsOf: words.bytes) }

    private mutating func describe(_ name: StaticString, _ help: StaticString, _ type: StaticString) {
        append("# HELP "); append(name); append(" "); append(help)
        append("\n# TYPE "); append(name); append(" "); append(type); append("\n")
    }

    public mutating func counter(_ name: StaticString, _ help: StaticString, _ value: UInt64) {
        describe(name, help, "counter")
        sample(name, value)
    }

    public mutating func gauge(_ name: StaticString, _ help: StaticString, _ value: Int64) {
        describe(name, help, "gauge")
        append(name); append(" ")
        appendInteger(value, to: &text)
        append("\n")
    }

    /// Begins a family whose samples carry labels.
    public mutating func family(_ name: StaticString, _ help: StaticString, _ type: StaticString) {
        describe(name, help, type)
    }

    public mutating func sample(_ name: StaticString, _ value: UInt64) {
        append(name); append(" ")
        appendInteger(value, to: &text)
        append("\n")
    }

    public mutating func sample(_ name: StaticString, _ label: StaticString, _ labelValue: StaticString, _ value: UInt64) {
        append(name); append("{"); append(label); append("=\""); append(labelValue); append("\"} ")
        appendInteger(value, to: &text)
        append("\n")
    }

    /// A sample with two labels; the values are escaped as the format asks.
    public mutating func sample(
        _ name: StaticString, _ first: StaticString, _ firstValue: [UInt8], _ second: StaticString,
        _ secondValue: StaticString, _ value: UInt64
    ) {
        var labels: [UInt8] = []
        MetricsWriter.appendLabel(first, firstValue, to: &labels)
        MetricsWriter.appendLabel(second, [UInt8](copying: secondValue.bytes), to: &labels)
        sample(name, labels: labels, value)
    }

    /// A sample with labels that `appendLabel` has written.
    public mutating func sample(_ name: StaticString, labels: [UInt8], _ value: UInt64) {
        append(name); append("{")
        text += labels
        append("} ")
        appendInteger(value, to: &text)
        append("\n")
    }

    /// Appends a label, after a comma where it is not the first; its value is escaped as the format asks.
    public static func appendLabel(_ name: StaticString, _ value: [UInt8], to labels: inout [UInt8]) {
        if !labels.isEmpty { labels.append(UInt8(ascii: ",")) }
        labels.append(contentsOf: name.bytes)
        labels.append(contentsOf: ("=\"" as StaticString).bytes)
        for index in value.indices {
            let byte = value[index]
            if byte == 0x5C || byte == 0x22 || byte == 0x0A { labels.append(0x5C) }
            labels.append(byte == 0x0A ? UInt8(ascii: "n") : byte)
        }
        labels.append(UInt8(ascii: "\""))
    }

    /// A histogram in seconds.
    public mutating func histogram(_ name: StaticString, _ help: StaticString, _ histogram: Histogram) {
        describe(name, help, "histogram")
        samples(name, histogram)
    }

    /// The samples of one histogram of a family.
    /// - Parameter labels: written by `appendLabel`.
    public mutating func samples(_ name: StaticString, labels: [UInt8] = [], _ histogram: Histogram) {
        var total: UInt64 = 0
        for index in 0..<Histogram.bucketCount {
            total += histogram.count(index)
            append(name); append("_bucket{")
            text += labels
            append(labels.isEmpty ? "le=\"" : ",le=\"")
            if index == Histogram.bucketCount - 1 {
                append("+Inf")
            } else {
                appendDouble(Double(UInt64(1) << UInt64(index)) / 1_000_000, to: &text)
            }
            append("\"} ")
            appendInteger(total, to: &text)
            append("\n")
        }
        append(name); append("_sum")
        appendBraces(labels)
        appendDouble(Double(histogram.sumNanoseconds) / 1_000_000_000, to: &text)
        append("\n")
        append(name); append("_count")
        appendBraces(labels)
        appendInteger(total, to: &text)
        append("\n")
    }

    private mutating func appendBraces(_ labels: [UInt8]) {
        if !labels.isEmpty {
            append("{")
            text += labels
            append("}")
        }
        append(" ")
    }
}
