// The routes that only a hub has: what has arrived, and the devices that it came from.

import Formats
import HTTP
import Platform
import Store

extension Routes {
    /// `GET /v1/arrivals?after=N&limit=M`: what agents have delivered, in the order of arrival: for checking a fleet.
    mutating func answerArrivals(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        guard mayGoOn(request, .operate, .get, &response) else { return .answered }
        guard let page = page(request, usually: 1000, atMost: 10_000, &response) else { return .answered }
        let (after, limit) = page
        var output = JSONWriter(reserving: 4096)
        output.beginObject()
        output.key("arrivals")
        output.beginArray()
        var written: UInt64 = 0
        var last = after
        do throws(StoreError) {
            let start = NumberKey(following(after))
            try reader.scan(reader.tables.log, from: start.bytes.span) { key, value in
                if written == limit { return false }
                last = NumberKey.decode(key) ?? last
                // In the place of some there is only why they have gone.
                guard let entry = LogEntryView(value), entry.header.isArrival else { return true }
                output.raw(entry.body)
                written += 1
                return true
            }
        } catch {
            response.sendProblem(500, "The store cannot be read.")
            return .answered
        }
        output.endArray()
        output.key("last")
        output.uint(last)
        output.endObject()
        response.send(200, "application/json", output.bytes)
        return .answered
    }

    /// `POST /v1/sync`: a device tells what has changed there and hears what has changed elsewhere.
    mutating func takeSync(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        guard mayGoOn(request, .sync, .post, &response) else { return .answered }
        var text: [UInt8] = []
        switch unpack(request, limit: Limits.bodyBytes, &response) {
        case .refused: return .answered
        case .asItCame: text.append(contentsOf: request.body)
        case .unpacked: text = takeUnpacked()
        }
        let submission = table.intake.obtain()
        submission.work = .sync
        submission.weight = text.count
        submission.question = text
        return submit(submission, request, &response)
    }

    /// `GET /v1/devices?after=DEVICE&limit=M`: who delivers here, in the order of their names: which are late, and what of
    /// theirs is missing.
    mutating func answerDevices(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        guard mayGoOn(request, .operate, .get, &response) else { return .answered }
        var limit = Limits.devicesAtOnce
        if let range = queryValue("limit", in: request.query) {
            limit = min(limit, parseUInt64(request.query.bytes(range)).map { Int(clamping: $0) } ?? 0)
        }
        scratch.removeAll(keepingCapacity: true)
        if let range = queryValue("after", in: request.query) {
            let name = request.query.bytes(range)
            if name.count > DeviceRecord.nameBytes || !percentDecode(name, into: &scratch) { limit = 0 }
        }
        guard limit > 0 else {
            response.sendProblem(400, "after must be a device's name, and limit a whole number: ?after=till-7&limit=100.")
            return .answered
        }
        guard beginReading() else {
            response.sendProblem(503, "The store cannot be read just now.")
            return .answered
        }
        let (after, now) = (scratch, clock.wallMilliseconds())
        var last = after
        var written = 0
        var output = JSONWriter(reserving: 4096)
        output.beginObject()
        output.key("devices")
        output.beginArray()
        do throws(StoreError) {
            try reader.scan(reader.tables.devices, from: after.span) { name, value in
                if written == limit { return false }
                guard !equal(name, after.span), let device = DeviceRecord(value) else { return true }
                output.beginObject()
                device.write(name, now: now, to: &output)
                DeviceCommands(of: name, reader).write(to: &output)
                output.endObject()
                last = [UInt8](copying: name)
                written += 1
                return true
            }
        } catch {
            response.sendProblem(500, "The store cannot be read.")
            return .answered
        }
        output.endArray()
        output.key("last")
        output.string(last)
        output.endObject()
        response.send(200, "application/json", output.bytes)
        return .answered
    }
    /// `POST /v1/devices/{name}/{command}` asks a device for something; `GET /v1/devices/{name}/report` is what it has told last.
    mutating func answerDevice(_ request: borrowing Request, _ response: inout Response) -> Disposition {
        let rest = request.path.extracting(12..<request.path.count)
        var slash = 0
        while slash < rest.count, rest[slash] != UInt8(ascii: "/") { slash += 1 }
        let isRead = request.method == .get || request.method == .head
        guard mayGoOn(request, .operate, isRead ? .get : .post, &response) else { return .answered }
        guard slash < rest.count, decode(rest.extracting(0..<slash)), 1...DeviceRecord.nameBytes ~= scratch.count,
            let command = DeviceCommand(rest.extracting(slash + 1..<rest.count)), !isRead || command == .report
        else {
            response.sendProblem(404, "POST /v1/devices/DEVICE/flush, compact or report; GET its report.")
            return .answered
        }
        let name = scratch
        if isRead {
            answerReport(name, &response)
            return .answered
        }
        let submission = table.intake.obtain()
        submission.work = .command
        submission.number = UInt64(command.rawValue)
        submission.question = name
        submission.weight = name.count
        return submit(submission, request, &response)
    }

    private mutating func answerReport(_ name: [UInt8], _ response: inout Response) {
        guard beginReading() else { return response.sendProblem(503, "The store cannot be read just now.") }
        guard let report = DeviceReport(of: name.span, reader) else {
            return response.sendProblem(404, "There is no report of it yet. Ask: POST /v1/devices/DEVICE/report.")
        }
        response.send(200, "application/json", report.json(name))
    }
}
