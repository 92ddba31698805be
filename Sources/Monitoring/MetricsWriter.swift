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
        append(name); append("{")
        label(first, firstValue)
        append(","); append(second); append("=\""); append(secondValue)
        append("\"")
        end(value)
    }

    /// A sample whose labels are all names from elsewhere.
    public mutating func sample(_ name: StaticString, _ labels: [(StaticString, [UInt8])], _ value: UInt64) {
        append(name)
        for index in labels.indices {
            append(index == 0 ? "{" : ",")
            label(labels[index].0, labels[index].1)
        }
        end(value)
    }

    private mutating func label(_ name: StaticString, _ value: [UInt8]) {
        append(name); append("=\"")
        for byte in value {
            switch byte {
            case 0x5C: append("\\\\")
            case 0x22: append("\\\"")
            case 0x0A: append("\\n")
            default: text.append(byte)
            }
        }
        append("\"")
    }

    private mutating func end(_ value: UInt64) {
        append("} ")
        appendInteger(value, to: &text)
        append("\n")
    }

    /// A histogram in seconds.
    public mutating func histogram(_ name: StaticString, _ help: StaticString, _ histogram: Histogram) {
        describe(name, help, "histogram")
        var total: UInt64 = 0
        for index in 0..<Histogram.bucketCount {
            total += histogram.count(index)
            append(name); append("_bucket{le=\"")
            if index == Histogram.bucketCount - 1 {
                append("+Inf")
            } else {
                appendDouble(Double(UInt64(1) << UInt64(index)) / 1_000_000, to: &text)
            }
            append("\"} ")
            appendInteger(total, to: &text)
            append("\n")
        }
        append(name); append("_sum ")
        appendDouble(Double(histogram.sumNanoseconds) / 1_000_000_000, to: &text)
        append("\n")
        append(name); append("_count ")
        appendInteger(total, to: &text)
        append("\n")
    }
}
