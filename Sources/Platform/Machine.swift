// What a machine's first process does in place of an operating system: file systems, the kernel's modules, the network, one
// program that is started and looked after, and the end. In which order is for who calls. Paths and names are literals, or
// bytes that end with a NUL; calls answer 0 or an `errno` (`SystemError.text` has its words).

import CPlatform

public enum Machine {
    /// What the first process is woken by.
    public enum Notice: Sendable {
        /// A process has ended; see `reap`.
        case ended
        /// SIGTERM or SIGPWR: the machine is to be switched off.
        case powerOff
        /// SIGINT: Ctrl-Alt-Del.
        case restart
        /// The time ran out.
        case nothing
    }

    /// Signals wait for `next` from here on.
    public static func takeOver() {
        cp_hold_signals()
    }

    /// Mounts one of the kernel's own file systems. Nothing on it is run as a program.
    public static func mount(_ type: StaticString, on folder: StaticString) -> Int32 {
        cp_mount(type.utf8Start, folder.utf8Start, type.utf8Start, nil)
    }

    /// Mounts a disk with ext4, which becomes read-only where it turns out to be damaged.
    public static func mount(disk: [UInt8], on folder: StaticString) -> Int32 {
        cp_mount(disk, folder.utf8Start, ("ext4" as StaticString).utf8Start, ("errors=remount-ro" as StaticString).utf8Start)
    }

    public static func unmount(_ folder: StaticString) -> Int32 { cp_unmount(folder.utf8Start) }

    /// Loads one of the kernel's modules and removes its file, which is in memory.
    public static func loadModule(_ path: [UInt8]) -> Int32 {
        let code = cp_load_module(path)
        path.withUnsafeBytes { _ = unlink($0.baseAddress!.assumingMemoryBound(to: CChar.self)) }
        return code
    }

    /// Brings the loopback interface up; the kernel gives it its address.
    public static func bringUpLoopback() -> Int32 { cp_bring_up(("lo" as StaticString).utf8Start, 0, 0, 0) }

    /// Gives an interface its address and brings it up.
    public static func bringUp(_ network: NetworkSettings) -> Int32 {
        cp_bring_up(network.interface, network.address, network.netmask, network.gateway)
    }

    /// Starts a program with three arguments.
    /// - Returns: its process id; `nil` when the kernel has no room for it.
    public static func start(
        _ program: StaticString, _ command: StaticString, _ option: StaticString, _ value: StaticString
    ) -> Int32? {
        let process = cp_spawn(program.utf8Start, command.utf8Start, option.utf8Start, value.utf8Start)
        return process < 0 ? nil : process
    }

    /// Waits for a notice; negative milliseconds wait without end.
    public static func next(milliseconds: Int64) -> Notice {
        switch cp_await_signal(milliseconds) {
        case SIGCHLD: .ended
        case SIGTERM, SIGPWR: .powerOff
        case SIGINT: .restart
        default: .nothing
        }
    }

    /// A process that has ended: its id, and its exit code or 256 and the signal that ended it. `nil` when there is none.
    public static func reap() -> (process: Int32, outcome: Int)? {
        var status: Int32 = 0
        let process = waitpid(-1, &status, WNOHANG)
        if process <= 0 { return nil }
        let signal = Int(status & 0x7F)  // wait(2): the low seven bits, or 0 and the code in the byte above
        return (process, signal == 0 ? Int(status >> 8 & 0xFF) : 256 + signal)
    }

    /// Asks a process to end, or makes it.
    public static func end(_ process: Int32, atOnce: Bool) { kill(process, atOnce ? SIGKILL : SIGTERM) }

    /// Writes out what is in memory, and switches the machine off or starts it again.
    public static func end(restarts: Bool) -> Never {
        sync()
        reboot(restarts ? Int32(RB_AUTOBOOT) : Int32(RB_POWER_OFF))
        while true { pause() }  // where there is no switch: a first process that ends is a panic of the kernel
    }
}
