// What a machine's first process does in place of an operating system: file systems, the kernel's modules, the network, one
// program that is started and looked after, and the end. In which order is for who calls.

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

    /// Signals wait for `next` from here on, and all three standard streams are open.
    public static func takeOver() {
        cp_keep_streams()
        cp_hold_signals()
    }

    /// Makes a folder and mounts a file system there. Nothing on it is run as a program.
    public static func mount(
        _ device: String, on folder: String, type: String, options: String = ""
    ) throws(SystemError) {
        try Files.makeDirectory(folder, mode: 0o755)
        let code = device.withCString { device in
            folder.withCString { folder in
                type.withCString { type in options.withCString { cp_mount(device, folder, type, $0) } }
            }
        }
        if code != 0 { throw SystemError(last: "mount") }
    }

    public static func unmount(_ folder: String) throws(SystemError) {
        if folder.withCString({ umount2($0, 0) }) != 0 { throw SystemError(last: "umount") }
    }

    /// Loads one of the kernel's modules; one that it has already is no error.
    public static func loadModule(_ path: String) throws(SystemError) {
        let file = try Files.open(path)
        if cp_load_module(file.raw) != 0 && cp_errno() != EEXIST { throw SystemError(last: "finit_module") }
    }

    /// Brings the loopback interface up; the kernel gives it its address.
    public static func bringUpLoopback() throws(SystemError) {
        if "lo".withCString({ cp_bring_up($0, 0, 0, 0) }) != 0 { throw SystemError(last: "ioctl") }
    }

    /// Gives an interface its address and brings it up.
    public static func bringUp(_ network: NetworkSettings) throws(SystemError) {
        let code = network.interface.withCString { cp_bring_up($0, network.address, network.netmask, network.gateway) }
        if code != 0 { throw SystemError(last: "ioctl") }
    }

    /// Starts a program with three arguments.
    /// - Returns: its process id.
    public static func start(
        _ program: String, _ command: String, _ option: String, _ value: String
    ) throws(SystemError) -> Int32 {
        let process = program.withCString { program in
            command.withCString { command in
                option.withCString { option in value.withCString { cp_spawn(program, command, option, $0) } }
            }
        }
        if process < 0 { throw SystemError(last: "vfork") }
        return process
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
