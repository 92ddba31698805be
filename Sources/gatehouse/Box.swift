// The smallest edge box: a kernel, and this program as its /init. It does what an operating system would do for the agent,
// runs the agent as a process of its own, and says on the console how things are.
//
//   /etc/gatehouse/gatehouse.yaml   the agent's configuration
//   /lib/modules/list               the kernel's modules beside it, a name a line, in the order in which they are loaded
//   kernel command line             gatehouse.data=/dev/vda ip=192.168.1.9::192.168.1.1:255.255.255.0::eth0::192.168.1.1

import Platform

enum Box {
    private static let program = "/init"
    private static let configuration = "/etc/gatehouse/gatehouse.yaml"
    private static let modules = "/lib/modules/"
    private static let dataFolder = "/data"

    /// The kernel has started this program as the first of a machine. In a container it is often the first process too, but
    /// with another name.
    static var isThis: Bool { Process.identifier == 1 && Process.arguments.first.map { $0 == program } ?? false }

    static func run() -> Never {
        Machine.takeOver()
        mount("devtmpfs", "/dev")
        mount("proc", "/proc")
        mount("sysfs", "/sys")
        let settings = BootSettings(read("/proc/cmdline"))
        loadModules()
        bringUpNetwork(settings)
        mountData(settings)
        let restarts = lookAfterAgent()
        do throws(SystemError) {
            if settings.disk != nil { try Machine.unmount(dataFolder) }
        } catch {
            Log.warning("the data disk is still in use") { $0.field("reason", error.message) }
        }
        if restarts { Log.info("starting again") } else { Log.info("switching off") }
        Machine.end(restarts: restarts)
    }

    private static func mount(_ type: String, _ folder: String) {
        do throws(SystemError) { try Machine.mount(type, on: folder, type: type) } catch {
            Log.warning("the kernel does not give what it should") {
                $0.field("folder", folder)
                $0.field("reason", error.message)
            }
        }
    }

    private static func read(_ path: String) -> [UInt8] {
        do throws(SystemError) { return try Files.read(path, limitBytes: Limits.fileBytes) } catch { return [] }
    }

    /// Loads the modules and removes their files, which are in memory.
    private static func loadModules() {
        let list = read(modules + "list")
        var index = 0
        while let name = piece(index, of: list, by: 0x0A) {
            index += 1
            if name.isEmpty { continue }
            let path = modules + String(decoding: name, as: UTF8.self)
            do throws(SystemError) { try Machine.loadModule(path) } catch {
                Log.error("a module of the kernel cannot be loaded") {
                    $0.field("file", path)
                    $0.field("reason", error.message)
                }
            }
            Files.remove(path)
        }
    }

    private static func bringUpNetwork(_ settings: BootSettings) {
        if settings.isNetworkWrong {
            Log.error("the kernel's command line must give ip= with address and netmask: ip=ADDRESS::GATEWAY:NETMASK::eth0")
        }
        do throws(SystemError) {
            try Machine.bringUpLoopback()
            guard let network = settings.network else {
                return Log.warning("there is no ip=, so only this box itself reaches the agent")
            }
            if !network.resolver.isEmpty {
                let line = Array("nameserver ".utf8) + network.resolver + [0x0A]
                try Files.replace("/etc/resolv.conf", with: line, mode: 0o644)
            }
            try persist { () throws(SystemError) in try Machine.bringUp(network) }
        } catch {
            Log.error("the network does not come up; is a module for its card in the box?") {
                $0.field("interface", settings.network?.interface ?? "lo")
                $0.field("reason", error.message)
            }
        }
    }

    /// Without the disk that the command line names the agent is not started: it would answer for what the next power cut
    /// takes away.
    private static func mountData(_ settings: BootSettings) {
        guard let disk = settings.disk else {
            return Log.warning("there is no gatehouse.data=: what is collected is in memory, and gone with the power")
        }
        while true {
            do throws(SystemError) {
                try persist { () throws(SystemError) in
                    try Machine.mount(disk, on: dataFolder, type: "ext4", options: "errors=remount-ro")
                }
                break
            } catch {
                Log.error("the agent waits for its data disk, which cannot be mounted") {
                    $0.field("disk", disk)
                    $0.field("reason", error.message)
                    $0.field("do", "there is no fsck in this box: make or repair the disk's ext4 on another computer")
                }
                sleep(milliseconds: Limits.diskPauseMilliseconds)
            }
        }
        // A mount brings the journal's work to its end. What else is wrong the kernel has counted, now or earlier.
        let device = Array(disk.utf8)
        let name = device[(device.lastIndex(of: UInt8(ascii: "/")).map { $0 + 1 } ?? 0)...]
        let errors = read(joined("/sys/fs/ext4/", String(decoding: name, as: UTF8.self), "/errors_count"))
        if errors.contains(where: { $0 > UInt8(ascii: "0") }) {
            Log.warning("the data disk has errors that a mount does not repair; run e2fsck -f on it on another computer") {
                $0.field("disk", disk)
            }
        }
    }

    /// Tries again while a device is not there yet: a card or a controller may take its seconds.
    private static func persist(_ attempt: () throws(SystemError) -> Void) throws(SystemError) {
        var left = Limits.deviceLooks
        while true {
            do throws(SystemError) { return try attempt() } catch {
                left -= 1
                if left == 0 || !error.isNoDevice { throw error }
                sleep(milliseconds: Limits.deviceLookMilliseconds)
            }
        }
    }

    /// Runs the agent, again when it ends, until the box is to be switched off.
    /// - Returns: whether it starts again then.
    private static func lookAfterAgent() -> Bool {
        var agent = start()
        var isReported = false
        while true {
            let rest = agent == nil ? Limits.restartPauseMilliseconds : isReported ? -1 : Limits.settledMilliseconds
            switch Machine.next(milliseconds: rest) {
            case .nothing where agent == nil: agent = start()
            case .nothing:
                isReported = true
                Log.info("the box is up") { $0.field("memory", memory()) }
            case .ended:
                guard let outcome = outcome(of: agent) else { continue }
                agent = nil
                Log.error("the agent has ended, and starts again in two seconds") {
                    $0.field(outcome < 256 ? "exit" : "signal", outcome & 0xFF)
                }
            case .powerOff:
                stop(agent)
                return false
            case .restart:
                stop(agent)
                return true
            }
        }
    }

    private static func start() -> Int32? {
        Log.info("starting the agent") { $0.field("kernel_ms", SystemClock().monotonicNanoseconds() / 1_000_000) }
        do throws(SystemError) { return try Machine.start(program, "run", "--config", configuration) } catch {
            Log.error("the agent cannot be started") { $0.field("reason", error.message) }
            return nil
        }
    }

    /// The first lines of /proc/meminfo: all memory, what is free, and what could be.
    private static func memory() -> String {
        var (text, ends): ([UInt8], Int) = ([], 0)
        for byte in read("/proc/meminfo") where ends < 3 {
            if byte == 0x0A { ends += 1 }
            if byte > 0x20 || text.last != 0x20 { text.append(max(byte, 0x20)) }
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// Takes note of every process that has ended; those that have lost their parent are the first process's, too.
    /// - Returns: how the agent ended, if it is among them.
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
