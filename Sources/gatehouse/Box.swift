// The smallest edge box: a kernel, and this program as its /init. It does what an operating system would do for the agent,
// runs the agent as a process of its own, and says on the console how things are.
//
//   /etc/gatehouse/gatehouse.yaml   the agent's configuration
//   /lib/modules/list               the kernel's modules beside it, a name a line, in the order in which they are loaded
//   kernel command line             gatehouse.data=/dev/vda ip=192.168.1.9::192.168.1.1:255.255.255.0::eth0::192.168.1.1

import Platform

enum Box {
    private static let program: StaticString = "/init"
    private static let configuration: StaticString = "/etc/gatehouse/gatehouse.yaml"
    private static let dataFolder: StaticString = "/data"

    /// The kernel has started this program as the first of a machine. In a container it is often the first process too, but
    /// with another name.
    static var isThis: Bool {
        guard Process.identifier == 1, let name = Process.arguments.first else { return false }
        return name == "/init"
    }

    static func run() -> Never {
        Machine.takeOver()
        report("/dev", Machine.mount("devtmpfs", on: "/dev"))
        report("/proc", Machine.mount("proc", on: "/proc"))
        report("/sys", Machine.mount("sysfs", on: "/sys"))
        let settings = BootSettings(read("/proc/cmdline"))
        loadModules()
        bringUpNetwork(settings)
        mountData(settings)
        let restarts = lookAfterAgent()
        if settings.disk != nil { report("the data disk", Machine.unmount(dataFolder)) }
        Log.info("the box ends")
        Machine.end(restarts: restarts)
    }

    /// Says what the kernel has refused; nothing when the code is 0.
    @inline(never)
    private static func report(_ what: String, _ code: Int32, do advice: String = "") {
        if code == 0 { return }
        Log.error("the kernel refuses something to the box") {
            $0.field("what", what)
            $0.field("reason", SystemError.text(code))
            if !advice.utf8.isEmpty { $0.field("do", advice) }
        }
    }

    @inline(never)
    private static func read(_ path: String) -> [UInt8] {
        do throws(SystemError) { return try Files.read(path, limitBytes: Limits.fileBytes) } catch { return [] }
    }

    private static func loadModules() {
        let list = read("/lib/modules/list")
        var index = 0
        while let name = piece(index, of: list, by: 0x0A) {
            index += 1
            if name.isEmpty { continue }
            report(String(decoding: name, as: UTF8.self), Machine.loadModule(Array("/lib/modules/".utf8) + name + [0]))
        }
    }

    private static func bringUpNetwork(_ settings: BootSettings) {
        report("lo", Machine.bringUpLoopback())
        guard let network = settings.network else {
            return Log.warning("there is no ip= with address and netmask: only this box itself reaches the agent")
        }
        if !network.resolver.isEmpty {
            let line = Array("nameserver ".utf8) + network.resolver + [0x0A]
            do throws(SystemError) { try Files.replace("/etc/resolv.conf", with: line, mode: 0o644) } catch {
                report("/etc/resolv.conf", error.code)
            }
        }
        let code = persist { Machine.bringUp(network) }
        report("the network", code, do: "is a module for its card in the box?")
    }

    /// Without the disk that the command line names the agent is not started: it would answer for what the next power cut
    /// takes away.
    private static func mountData(_ settings: BootSettings) {
        guard let disk = settings.disk else {
            return Log.warning("there is no gatehouse.data=: what is collected is in memory, and gone with the power")
        }
        while true {
            let code = persist { Machine.mount(disk: disk, on: dataFolder) }
            if code == 0 { break }
            report(
                "the data disk", code,
                do: "make or repair its ext4 on another computer, there is no fsck here; the agent waits for it")
            switch Machine.next(milliseconds: Limits.diskPauseMilliseconds) {
            case .powerOff: Machine.end(restarts: false)
            case .restart: Machine.end(restarts: true)
            case .nothing, .ended: break
            }
        }
        // A mount brings the journal's work to its end. What else is wrong the kernel has counted, now or earlier.
        let name = disk[(disk.lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0)..<disk.count - 1]
        let errors = read(joined("/sys/fs/ext4/", String(decoding: name, as: UTF8.self), "/errors_count"))
        for digit in errors where digit > UInt8(ascii: "0") {
            return Log.warning("the data disk has errors that a mount does not repair: run e2fsck -f on another computer")
        }
    }

    /// Tries again while a device is not there yet: a card or a controller may take its seconds.
    @inline(never)
    private static func persist(_ attempt: () -> Int32) -> Int32 {
        var left = Limits.deviceLooks
        while true {
            let code = attempt()
            left -= 1
            if left == 0 || !SystemError.isNoDevice(code) { return code }
            sleep(milliseconds: Limits.deviceLookMilliseconds)
        }
    }

    /// Runs the agent, again when it ends, until the box is to be switched off.
    /// - Returns: whether it starts again then.
    private static func lookAfterAgent() -> Bool {
        var agent = start()
        var isReported = false
        while true {
            let rest = agent == nil ? Limits.restartPauseMilliseconds : isReported ? -1 : Limits.settledMilliseconds
            let notice = Machine.next(milliseconds: rest)
            switch notice {
            case .nothing where agent == nil: agent = start()
            case .nothing:
                isReported = true
                // All memory, what is free and what could be: three lines of 28 characters.
                let memory = String(decoding: read("/proc/meminfo").prefix(83), as: UTF8.self)
                Log.info("the box is up") { $0.field("memory", memory) }
            case .ended:
                guard let outcome = outcome(of: agent) else { continue }
                agent = nil
                Log.error("the agent has ended, and starts again in two seconds") {
                    $0.field(outcome < 256 ? "exit" : "signal", outcome & 0xFF)
                }
            case .powerOff, .restart:
                stop(agent)
                return notice == .restart
            }
        }
    }

    @inline(never)
    private static func start() -> Int32? {
        Log.info("starting the agent") { $0.field("kernel_ms", SystemClock().monotonicNanoseconds() / 1_000_000) }
        return Machine.start(program, "run", "--config", configuration)
    }

    /// Takes note of every process that has ended; those that have lost their parent are the first process's, too.
    /// - Returns: how the agent ended, if it is among them.
    @inline(never)
    private static func outcome(of agent: Int32?) -> Int? {
        var outcome: Int?
        while let ended = Machine.reap() {
            if ended.process == agent { outcome = ended.outcome }
        }
        return outcome
    }

    private static func stop(_ agent: Int32?) {
        guard let agent else { return }
        Machine.end(agent, atOnce: false)
        for _ in 0..<Limits.stopLooks {
            _ = Machine.next(milliseconds: Limits.stopLookMilliseconds)
            if outcome(of: agent) != nil { return }
        }
        Log.warning("the agent does not stop; it is ended")
        Machine.end(agent, atOnce: true)
        sleep(milliseconds: Limits.stopLookMilliseconds)
    }
}
