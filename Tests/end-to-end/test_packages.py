"""What is installed on devices: the unit, Debian's packages through their whole life in a fresh root, the presets, what
the list of ingredients says, and OpenWrt's and BusyBox's ways to start the agent.

Tools/test makes the roots (Tools/lib/fresh-root). In those for ARM everything that runs is ARM's own, under qemu: dpkg, the
shell of the package's scripts, the agent.
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import time

from harness import CONSENT, Failure, Node, Skip, TOP, binary, check, equal, free_port, wait_until

FIRMWARE = os.path.join(TOP, "Firmware-Config")
UNIT = os.path.join(FIRMWARE, "systemd", "gatehouse.service")
DEBIAN = {"x86_64": "amd64", "aarch64": "arm64", "armv7": "armhf"}
QEMU = {"aarch64": "qemu-aarch64-static", "armv7": "qemu-arm-static"}


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")


def run(*command, expect=0, **options):
    """What it prints. `expect`: its exit code, or None for any."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)
    if expect is not None:
        equal(done.returncode, expect, f"exit code of {shlex.join(command)} ({done.stdout[-800:]}{done.stderr[-1600:]})")
    return done.stdout + done.stderr


def package(bench, arch, kind, *options):
    """A package out of dist/, made in a folder of its own; its path."""
    if not os.path.exists(os.path.join(TOP, "dist", f"gatehouse-{arch}")):
        raise Skip(f"dist/gatehouse-{arch} is not built")
    out = os.path.join(bench.folder, "-".join(["packages", arch, kind, *options]))
    run(os.path.join(TOP, "Tools", "package"), "--arch", arch, "--format", kind, "--out", out, *options)
    (name,) = os.listdir(out)
    return os.path.join(out, name)


# The unit


def test_unit_is_hardened(bench):
    """systemd's own measure of what a service could do: 1.0 of 10 at most. The threshold is in tenths."""
    need("systemd-analyze")
    seen = run("systemd-analyze", "security", "--offline=true", "--threshold=10", "--no-pager", UNIT)
    check("Overall exposure level" in seen, f"systemd-analyze says nothing of the exposure: {seen[-300:]}")


# Debian's packages


class Root:
    """A copy of a fresh root, and what runs in it. Foreign programs run by qemu: a user namespace has a list of its own of
    how programs are run (binfmt_misc), so nothing of it is left on this machine."""

    def __init__(self, bench, arch):
        if os.geteuid() != 0:
            raise Skip("a package is installed in a root, which needs root")
        need("chroot", "dpkg", "unshare", "nsenter")
        source = os.path.join(TOP, ".build", "roots", DEBIAN[arch])
        if not os.path.isdir(source):
            raise Skip(f"there is no fresh root: Tools/lib/fresh-root {DEBIAN[arch]}")
        self.bench = bench
        self.path = os.path.join(bench.folder, "root")
        run("cp", "-a", "--reflink=auto", source, self.path)
        self.prefix = []
        if arch in QEMU:
            need(QEMU[arch])
            self.open_door(arch)

    def open_door(self, arch):
        with open(self.at("/usr/bin/dpkg"), "rb") as file:
            head = file.read(20)
        # Any ELF of this class, byte order and machine; programs and shared objects.
        magic = "".join(f"\\x{byte:02x}" for byte in head[:7]) + "\\x00" * 9 + "\\x02\\x00" + "".join(
            f"\\x{byte:02x}" for byte in head[18:20])
        mask = "\\xff" * 7 + "\\x00" * 9 + "\\xfe\\xff\\xff\\xff"
        entry = f":foreign:M::{magic}:{mask}:{shutil.which(QEMU[arch])}:F"
        script = ('read _ && cd /proc/sys/fs && mount -t binfmt_misc none binfmt_misc'
                  ' && printf %s "$1" >binfmt_misc/register && echo open && read _')
        door = subprocess.Popen(
            ["unshare", "--user", "--mount", "--propagation", "private", "sh", "-c", script, "door", entry],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.bench.nodes.append(Door(door))
        own = os.readlink("/proc/self/ns/user")
        wait_until(lambda: os.readlink(f"/proc/{door.pid}/ns/user") != own, 20, "a user namespace")
        for kind in ("uid", "gid"):
            with open(f"/proc/{door.pid}/{kind}_map", "w") as file:
                file.write("0 0 65536\n")
        door.stdin.write("\n")
        door.stdin.flush()
        if door.stdout.readline() != "open\n":
            raise Skip(f"this kernel has no binfmt_misc for a user namespace: {door.stderr.read().strip()}")
        self.prefix = ["nsenter", "--target", str(door.pid), "--user", "--mount"]

    def run(self, *command, expect=0):
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        return run(*self.prefix, "/usr/sbin/chroot", self.path, *command, expect=expect, env=environment)

    def install(self, deb):
        shutil.copy(deb, os.path.join(self.path, "package.deb"))
        try:
            # What a package depends on is only unpacked in a root that is not whole.
            force = "--force-unsafe-io,confdef,confold,depends"
            return self.run("dpkg", force, "-i", "/package.deb")
        finally:
            os.remove(os.path.join(self.path, "package.deb"))

    def at(self, path):
        return os.path.join(self.path, path.lstrip("/"))

    def text(self, path):
        with open(self.at(path)) as file:
            return file.read()

    def ids(self, name):
        """The numbers of a user and its group."""
        for line in self.text("/etc/passwd").splitlines():
            if line.startswith(name + ":"):
                return tuple(int(number) for number in line.split(":")[2:4])
        raise Failure(f"there is no user {name}")

    def check_owned(self, path, mode, owner, group):
        state = os.lstat(self.at(path))
        seen = (oct(stat.S_IMODE(state.st_mode)), state.st_uid, state.st_gid)
        equal(seen, (oct(mode), owner, group), f"mode and owner of {path}")

    # dpkg's own books, and the copies that the tools for users keep of what was there before.
    BOOKS = re.compile(r"^/(var/lib/dpkg/(status|available|diversions|statoverride|triggers/.*|lock.*|info(/format)?|updates)(-old)?"
                       r"|var/log/.*|etc/(passwd|group|shadow|gshadow|subuid|subgid)-|etc/\.pwd\.lock|var/cache/.*)$")

    def listing(self):
        """Everything that is there: kind, mode, owner, and what is in it."""
        found = {}
        for folder, folders, files in os.walk(self.path):
            for name in folders + files:
                path = os.path.join(folder, name)
                state = os.lstat(path)
                inner = path[len(self.path):]
                if self.BOOKS.match(inner):
                    continue
                if stat.S_ISREG(state.st_mode):
                    with open(path, "rb") as file:
                        content = hashlib.sha256(file.read()).hexdigest()
                else:
                    content = os.readlink(path) if stat.S_ISLNK(state.st_mode) else ""
                found[inner] = (oct(state.st_mode), state.st_uid, state.st_gid, content)
        return found


class Door:
    """Ends what holds a namespace open."""

    def __init__(self, process):
        self.process = process

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def unit_setting(text, name):
    (value,) = re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)
    return value


class Installed(Node):
    """The agent of a root, started with what its unit says: program, arguments, user, mask, folders."""

    def __init__(self, root):
        super().__init__(root.bench.folder, bundle=None, name="installed")
        self.root = root
        root.bench.nodes.append(self)

    def start(self):
        unit = self.root.text("/usr/lib/systemd/system/gatehouse.service")
        # The mending of a store takes as long as there is to read.
        equal(unit_setting(unit, "TimeoutStartSec"), "infinity", "how long a start may take")
        user, group = unit_setting(unit, "User"), unit_setting(unit, "Group")
        folder = self.root.at("/run/" + unit_setting(unit, "RuntimeDirectory"))
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, int(unit_setting(unit, "RuntimeDirectoryMode"), 8))
        os.chown(folder, *self.root.ids(user))
        mask = unit_setting(unit, "UMask")
        command = shlex.join(["/usr/sbin/chroot", f"--userspec={user}:{group}", self.root.path,
                              *shlex.split(unit_setting(unit, "ExecStart"))])
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.root.prefix, "sh", "-c", f"umask {mask}; exec {command}"], stdout=log, stderr=log,
                stdin=subprocess.DEVNULL)
        wait_until(self.is_alive, 20, f"the installed agent does not answer; its log says:\n{self.log()}")


def curl(port, path, body):
    return json.loads(run("curl", "-sS", "--max-time", "20", f"http://127.0.0.1:{port}{path}", "-d", json.dumps(body)))


def offer(port):
    answer = curl(port, "/ofrep/v1/evaluate/flags/checkout_offer", {"context": {"targetingKey": "ada"}})
    return answer["variant"]


def buy(port):
    curl(port, "/v1/track", {"userId": "ada", "event": "Order Completed", "properties": {"order_id": "1", "revenue": 1200.5},
                             "context": CONSENT})


def whole_life(bench, arch):
    need("curl", "dpkg-deb")
    first = package(bench, arch, "deb")
    second = package(bench, arch, "deb", "--version", "0.2.0")
    root = Root(bench, arch)
    before = root.listing()

    root.install(first)
    user = root.ids("gatehouse")
    check(0 < user[0] < 1000, f"gatehouse is a system's user: {user}")
    root.check_owned("/usr/bin/gatehouse", 0o755, 0, 0)
    root.check_owned("/etc/gatehouse", 0o750, 0, user[1])
    root.check_owned("/etc/gatehouse/gatehouse.yaml", 0o640, 0, user[1])
    root.check_owned("/var/lib/gatehouse", 0o700, *user)
    equal(root.run("dpkg", "--verify", "gatehouse"), "", "files that are not as they were packed")
    wanted = root.at("/etc/systemd/system/multi-user.target.wants/gatehouse.service")
    check(os.path.islink(wanted), "the service is not enabled")
    equal(root.run("/usr/bin/gatehouse", "check", "/etc/gatehouse/gatehouse.yaml"), "", "the configuration as it comes")

    # The operator says what the rules are, and where to listen.
    agent = Installed(root)
    with open(root.at("/etc/gatehouse/gatehouse.yaml"), "a") as file:
        file.write(f"listen: 127.0.0.1:{agent.port}\nbundle: {{ file: /usr/share/gatehouse/bundles/shop.yaml }}\n")
    mine = root.text("/etc/gatehouse/gatehouse.yaml")
    agent.start()
    equal(offer(agent.port), "none", "before anything is known")
    buy(agent.port)
    equal(offer(agent.port), "ten", "once she has bought")
    for name in ("pepper", "data.mdb", "lock.mdb"):
        root.check_owned(f"/var/lib/gatehouse/{name}", 0o600, *user)
    root.check_owned("/run/gatehouse/gatehouse.sock", 0o660, *user)
    agent.stop()

    # A higher version whose configuration has changed, too.
    changed = os.path.join(bench.folder, "changed")
    run("dpkg-deb", "-R", second, changed)
    with open(os.path.join(changed, "etc/gatehouse/gatehouse.yaml"), "a") as file:
        file.write("# What is new.\n")
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "-b", changed, second)
    root.install(second)
    check("Version: 0.2.0" in root.run("dpkg", "-s", "gatehouse"), "the upgrade has not installed the higher version")
    equal(root.text("/etc/gatehouse/gatehouse.yaml"), mine, "the operator's configuration after an upgrade")
    root.check_owned("/etc/gatehouse/gatehouse.yaml", 0o640, 0, user[1])
    equal(root.ids("gatehouse"), user, "the user after an upgrade")
    agent.start()
    equal(offer(agent.port), "ten", "what was known before the upgrade")
    agent.stop()

    root.run("dpkg", "--remove", "gatehouse")
    check(not os.path.exists(root.at("/usr/bin/gatehouse")), "the program after a removal")
    equal(root.text("/etc/gatehouse/gatehouse.yaml"), mine, "the configuration after a removal")
    check(os.path.exists(root.at("/var/lib/gatehouse/data.mdb")), "the store is gone after a removal")

    # What was removed comes back as it was.
    root.install(second)
    agent.start()
    equal(offer(agent.port), "ten", "what was known before the removal")
    agent.stop()

    root.run("dpkg", "--purge", "gatehouse")
    after = root.listing()
    left = {path: after[path] for path in after if after[path] != before.get(path)}
    gone = [path for path in before if path not in after]
    equal((left, gone), ({}, []), "what a purge leaves, and what it takes of others")


def test_package_lives_on_amd64(bench):
    whole_life(bench, "x86_64")


def test_package_lives_on_arm64(bench):
    whole_life(bench, "aarch64")


def test_package_lives_on_armhf(bench):
    whole_life(bench, "armv7")


def test_packages_are_reproducible(bench):
    """The same binary gives the same packages, whoever packs it, when, and in what zone."""
    made = []
    for zone, mask in (("Asia/Tokyo", "077"), ("America/Lima", "002")):
        out = os.path.join(bench.folder, mask)
        command = f"umask {mask}; exec {shlex.quote(TOP)}/Tools/package --out {shlex.quote(out)}"
        run("bash", "-c", command, env={**os.environ, "TZ": zone, "LC_ALL": "C.UTF-8"})
        files = {}
        for name in sorted(os.listdir(out)):
            with open(os.path.join(out, name), "rb") as file:
                files[name] = hashlib.sha256(file.read()).hexdigest()
        made.append(files)
        time.sleep(1.1)
    equal(len(made[0]), 3, f"deb, ipk and sbom ({list(made[0])})")
    equal(made[0], made[1], "packages of two runs")


# Under systemd itself


class Booted(Root):
    """A root in which systemd is the first process, in namespaces and a control group of its own."""

    BOOT = """set -e
        mount --bind "$1" "$1"
        mount --make-rslave /
        mount -t proc proc "$1/proc"
        mount -t sysfs -o ro sysfs "$1/sys"
        mount -t tmpfs tmpfs "$1/run"
        mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
        mkdir -p "$1/mnt/machine"
        cd "$1"
        pivot_root . mnt/machine
        umount -l /mnt/machine
        rmdir /mnt/machine
        exec env -i container=gatehouse PATH=/usr/sbin:/usr/bin /lib/systemd/systemd --system"""

    def __init__(self, bench):
        super().__init__(bench, "x86_64")
        need("mount", "pivot_root", "setpriv")
        self.group = f"gatehouse-test-{os.path.basename(bench.folder)}"
        # Nobody is to log in.
        for unit in ("getty.target", "console-getty.service", "systemd-resolved.service"):
            os.symlink("/dev/null", self.at(f"/etc/systemd/system/{unit}"))

    def boot(self):
        script = (f'mount -t cgroup2 cgroup2 /sys/fs/cgroup && mkdir "/sys/fs/cgroup/{self.group}"'
                  f' && echo $$ >"/sys/fs/cgroup/{self.group}/cgroup.procs"'
                  ' && exec unshare --cgroup --pid --fork --kill-child --uts --ipc --net sh -c "$1" boot "$2"')
        self.log = open(os.path.join(self.bench.folder, "boot.log"), "wb")
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "sh", "-c", script, "boot",
             self.BOOT, self.path],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.bench.nodes.append(self)
        self.first = None

        def is_up():
            if self.process.poll() is not None:
                with open(self.log.name) as file:
                    raise Skip(f"systemd cannot be the first process of a namespace here: {file.read()[-500:]}")
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
                self.first = (file.read().split() or [None])[0]
            if not self.first or os.readlink(f"/proc/{self.first}/exe") != "/usr/lib/systemd/systemd":
                return False
            self.prefix = ["nsenter", "--target", self.first, "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup"]
            return self.systemctl("is-active", "multi-user.target", expect=None) == "active"

        wait_until(is_up, 60, "systemd does not come up", pause=0.2)

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()
        # The first process of the namespace is killed with the one that made it; then its groups are empty.
        wait_until(lambda: subprocess.run(
            ["unshare", "--mount", "sh", "-c", 'mount -t cgroup2 cgroup2 /sys/fs/cgroup && find "/sys/fs/cgroup/$1" -depth'
             ' -type d -exec rmdir {} +', "groups", self.group], capture_output=True).returncode == 0, 20, "groups stay")

    def run(self, *command, expect=0):
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        if not self.prefix:
            return super().run(*command, expect=expect)
        return run(*self.prefix, *command, expect=expect, env=environment)

    def systemctl(self, *words, expect=0):
        return self.run("systemctl", "--no-pager", *words, expect=expect).strip()

    def show(self, name):
        return self.systemctl("show", "--value", "--property", name, "gatehouse.service")

    def ask(self, path, body=None):
        """From outside, but by the network of the root."""
        data = [] if body is None else ["-d", json.dumps(body)]
        return run("nsenter", "--target", self.first, "--net", "curl", "-s", "--max-time", "20", "--retry", "20",
                   "--retry-connrefused", "--retry-delay", "1", f"http://127.0.0.1:8470{path}", *data)

    def text_of_process(self, name):
        return self.run("cat", f"/proc/{self.show('MainPID')}/{name}")

    def offer(self):
        question = {"context": {"targetingKey": "ada"}}
        return json.loads(self.ask("/ofrep/v1/evaluate/flags/checkout_offer", question))["variant"]


def test_unit_runs_under_systemd(bench):
    """The package in a root that systemd has booted: ready and watched over by its own word, shut in, started again when it
    is killed or stands still, not when its configuration is wrong; upgraded while it runs, and purged."""
    need("curl")
    root = Booted(bench)
    before = root.listing()
    root.install(package(bench, "x86_64", "deb"))
    os.makedirs(root.at("/etc/systemd/system/gatehouse.service.d"))
    with open(root.at("/etc/systemd/system/gatehouse.service.d/soon.conf"), "w") as file:
        file.write("[Service]\nWatchdogSec=5\nRestartSec=100ms\n")
    shutil.copy(os.path.join(FIRMWARE, "bundles/shop.yaml"), root.at("/etc/gatehouse/shop.yaml"))
    configuration = root.at("/etc/gatehouse/gatehouse.yaml")
    with open(configuration, "a") as file:
        file.write("bundle: { file: /etc/gatehouse/shop.yaml }\n")
    mine = root.text("/etc/gatehouse/gatehouse.yaml")
    root.boot()

    equal(root.systemctl("is-active", "gatehouse.service"), "active", "the service after the boot")
    equal(root.run("systemd-analyze", "verify", "gatehouse.service"), "", "what systemd says against the unit")
    root.ask("/v1/track", {"userId": "ada", "event": "Order Completed", "properties": {"order_id": "1", "revenue": 1200.5},
                           "context": CONSENT})
    equal(root.offer(), "ten", "once she has bought")
    status = root.text_of_process("status")
    for line in ("Seccomp:\t2", "NoNewPrivs:\t1", "CapBnd:\t0000000000000000"):
        check(line in status, f"the process has no {line!r}: {status}")
    limits = root.text_of_process("limits")
    check(re.search(r"Max core file size +0 +0 ", limits), f"it may dump its memory: {limits}")
    check(int(root.show("MemoryMax")) < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "memory has no bound")

    # A bundle that is new.
    with open(root.at("/etc/gatehouse/shop.yaml")) as file:
        bundle = file.read()
    with open(root.at("/etc/gatehouse/shop.yaml"), "w") as file:
        file.write(bundle.replace("version: 1", "version: 2"))
    root.systemctl("reload", "gatehouse.service")
    wait_until(lambda: "gatehouse_bundle_version 2" in root.ask("/metrics"), 15, "reload has not taken up the bundle")

    # Killed; and standing still, which only the watchdog sees.
    for how in ("KILL", "STOP"):
        process = root.show("MainPID")
        root.systemctl("kill", "--signal", how, "gatehouse.service")
        wait_until(lambda: root.show("MainPID") not in (process, "0"), 40, f"nobody has started it again after {how}")
        equal(root.offer(), "ten", f"what was known before {how}")
    # Where the machine is busy, the watchdog may bark once more.
    check(int(root.show("NRestarts")) >= 2, f"started again so often: {root.show('NRestarts')}")

    # An upgrade while it runs.
    process = root.show("MainPID")
    root.install(package(bench, "x86_64", "deb", "--version", "0.2.0"))
    check(root.show("MainPID") not in (process, "0"), "the upgrade has not started it anew")
    equal(root.offer(), "ten", "what was known before the upgrade")
    equal(root.text("/etc/gatehouse/gatehouse.yaml"), mine, "the operator's configuration after an upgrade")

    # A mistake is told once, and not every second.
    with open(configuration, "a") as file:
        file.write("listen: nowhere\n")
    root.systemctl("restart", "gatehouse.service", expect=None)
    time.sleep(1.5)
    equal(root.systemctl("is-failed", "gatehouse.service"), "failed", "the service with a wrong configuration")
    journal = root.run("journalctl", "--no-pager", "-u", "gatehouse.service")
    check("listen must be" in journal, f"the journal says nothing of the mistake: {journal[-500:]}")
    with open(configuration, "w") as file:
        file.write(mine)
    root.systemctl("restart", "gatehouse.service")
    equal(root.offer(), "ten", "what was known before the mistake")

    root.run("dpkg", "--purge", "gatehouse")
    equal(root.systemctl("is-active", "gatehouse.service", expect=3), "inactive", "the service after a purge")
    shutil.rmtree(root.at("/etc/systemd/system/gatehouse.service.d"))
    after = root.listing()
    booted = ("/var/lib/systemd/", "/var/tmp/", "/tmp/")
    left = [path for path in after if path not in before and not path.startswith(booted)]
    equal(left, [], "what a purge leaves")


# Presets


def presets(kind):
    folder = os.path.join(FIRMWARE, "presets")
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.startswith(kind)]


def together(*paths):
    """Their lines, with those of `limits:` under one key, as the files say that they are to be used."""
    outer, limits = [], []
    for path in paths:
        with open(path) as file:
            for line in file:
                if line.startswith("  "):
                    limits.append(line)
                elif not line.startswith(("limits:", "#")):
                    outer.append(line)
    return "".join(outer) + "limits:\n" + "".join(limits)


def test_presets_hold_with_each_other(bench):
    """Each of memory with each of storage is a configuration without mistakes, and the agent decides by it."""
    pairs = [(memory, storage) for memory in presets("memory") for storage in presets("storage")]
    equal(len(pairs), 9, "pairs of presets")
    for number, pair in enumerate(pairs):
        path = os.path.join(bench.folder, f"preset-{number}.yaml")
        with open(path, "w") as file:
            file.write(together(*pair))
        for one in (*pair, path):
            equal(run(*binary(), "check", one), "", f"complaints about {one}")
    for number in (0, 4, 8):
        node = bench.agent(name=f"preset-{number}", settings=together(*pairs[number]))
        equal(node.decide("layout", "ada", width=1600)["variant"], "wide", f"the decision with {pairs[number]}")
        node.stop()


# What is in it


def test_sbom_says_what_is_linked(bench):
    """It is valid SPDX 2.3 by SPDX's own library, and its versions are those of the sources that were compiled."""
    python = os.path.join(TOP, ".build", "python-sbom", "bin", "python")
    if not os.path.exists(python):
        raise Skip("spdx-tools is not there: Tools/test installs Tests/end-to-end/requirements-sbom.txt")
    path = package(bench, "x86_64", "sbom")
    validate = ("import sys\nfrom spdx_tools.spdx.parser.parse_anything import parse_file\n"
                "from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document\n"
                "for one in validate_full_spdx_document(parse_file(sys.argv[1])): print(one.validation_message)\n")
    equal(run(python, "-c", validate, path), "", "what SPDX's library says against it")
    with open(path) as file:
        document = json.load(file)
    packages = {one["name"]: one for one in document["packages"]}
    inside = {"gatehouse", "lmdb", "mbedtls", "libyaml", "zlib", "musl", "swift", "libgcc"}
    equal(set(packages), inside, "what is in the binary")
    for name in ("lmdb", "mbedtls", "libyaml", "zlib"):
        with open(os.path.join(TOP, ".build", "sources", name, "debian", "changelog")) as file:
            equal(packages[name]["versionInfo"], re.match(r"\S+ \((.*?)\)", file.readline())[1], f"version of {name}")
    with open(os.path.join(TOP, "dist", "gatehouse-x86_64"), "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    equal(packages["gatehouse"]["checksums"][0]["checksumValue"], digest, "the binary that it is about")


# OpenWrt and BusyBox


class BusyBoxRoot:
    """A root with nothing in it but BusyBox, static, and what a test puts there; in process and mount namespaces of its own,
    which end with the test and take with them whatever was started."""

    def __init__(self, bench):
        if os.geteuid() != 0:
            raise Skip("a root of its own needs root")
        need("unshare", "nsenter")
        source = os.path.join(TOP, ".build", "debian", "busybox-static", "bin", "busybox")
        if not os.path.exists(source):
            raise Skip("BusyBox is not there: Tools/test unpacks Debian's busybox-static")
        self.path = os.path.join(bench.folder, "root")
        for folder in ("bin", "dev", "etc/init.d", "proc", "tmp", "usr/bin", "var/run", "var/log", "run"):
            os.makedirs(self.at(folder))
        shutil.copy(source, self.at("bin/busybox"))
        with open(self.at("etc/passwd"), "w") as file:
            file.write("root:x:0:0:root:/root:/bin/sh\ngatehouse:x:470:470::/var/run/gatehouse:/bin/false\n")
        with open(self.at("etc/group"), "w") as file:
            file.write("root:x:0:\ngatehouse:x:470:\n")
        os.mknod(self.at("dev/null"), stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.chmod(self.at("dev/null"), 0o666)
        script = 'mount -t proc proc "$1/proc" && chroot "$1" /bin/busybox --install -s /bin && echo open && read _'
        door = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", "-c", script, "door",
             self.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        bench.nodes.append(Door(door))
        equal(door.stdout.readline(), "open\n", "what the namespaces' first process says")
        with open(f"/proc/{door.pid}/task/{door.pid}/children") as file:
            self.first = file.read().split()[0]

    def at(self, path):
        return os.path.join(self.path, path.lstrip("/"))

    def command(self, *command, user="0:0"):
        return ["nsenter", "--target", self.first, "--mount", "--pid", "/usr/sbin/chroot", f"--userspec={user}", self.path,
                *command]

    def run(self, *command, expect=0):
        return run(*self.command(*command), expect=expect, env={"PATH": "/bin:/usr/bin"})

    def put(self, source, path, mode=0o644, more=""):
        os.makedirs(os.path.dirname(self.at(path)), exist_ok=True)
        shutil.copy(source, self.at(path))
        os.chmod(self.at(path), mode)
        with open(self.at(path), "a") as file:
            file.write(more)


class Ended:
    """Waits for a process of a root's namespaces, which ends with them: they are closed after it was asked to stop."""

    def __init__(self, process):
        self.process = process

    def stop(self):
        if self.process.poll() is not None:
            raise Failure(f"the agent has ended: {self.process.communicate()[1][-1000:]}")
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as file:
            for child in file.read().split():
                os.kill(int(child), signal.SIGTERM)
        said = self.process.communicate(timeout=20)[1]
        equal(self.process.returncode, 0, f"exit code of the agent ({said[-1000:]})")


def is_answering(port):
    return subprocess.run(
        ["curl", "-sf", "--max-time", "2", f"http://127.0.0.1:{port}/healthz"], capture_output=True).returncode == 0


# What OpenWrt's shell functions say of /etc/config: its lines are calls of these.
UCI = r"""
number=0
config() { number=$((number + 1)); here=${2:-anonymous$number}; sections="$sections $1:$here"; }
option() { eval "option_${here}_$1=\$2"; }
list() { eval "count=\$((\${count_${here}_$1:-0} + 1))"; eval "count_${here}_$1=\$count; item_${here}_$1_$count=\$2"; }
config_load() { . "/etc/config/$1"; }
config_get() { eval "$1=\${option_${2}_$3:-\$4}"; }
config_get_bool() { config_get "$@"; eval "case \$$1 in 1|on|true|yes|enabled) $1=1 ;; *) $1=0 ;; esac"; }
config_foreach() {
    local entry
    for entry in $sections; do [ "${entry%%:*}" != "$2" ] || "$1" "${entry#*:}"; done
}
config_list_foreach() {
    local last place=1 text section=$1 name=$2 function=$3
    shift 3
    eval "last=\${count_${section}_$name:-0}"
    while [ $place -le "$last" ]; do
        eval "text=\$item_${section}_${name}_$place"
        "$function" "$text" "$@"
        place=$((place + 1))
    done
}
logger() { echo "logger $*"; }
procd_open_instance() { :; }
procd_close_instance() { :; }
procd_set_param() { echo "procd $*"; }
. /etc/init.d/gatehouse
"$@"
"""


def test_openwrt_starts_by_uci(bench):
    """The .ipk unpacked by BusyBox; its script, in BusyBox's shell, makes a configuration of /etc/config/gatehouse. Neither
    procd nor uci can be had here: the script's calls of procd are printed, and the test starts what they say."""
    need("curl")
    ipk = package(bench, "x86_64", "ipk")
    root = BusyBoxRoot(bench)
    root.put(ipk, "tmp/gatehouse.ipk")
    root.run("sh", "-c", "cd /tmp && tar xzf gatehouse.ipk && tar xzf control.tar.gz && tar xzf data.tar.gz -C /")
    equal(sorted(os.listdir(root.at("tmp"))),
          ["conffiles", "control", "control.tar.gz", "data.tar.gz", "debian-binary", "gatehouse.ipk", "postinst", "prerm"],
          "what is in the .ipk")
    with open(root.at("tmp/control")) as file:
        check("Require-User: gatehouse=470:gatehouse=470" in file.read(), "the control file names no user")
    for script in ("/etc/init.d/gatehouse", "/tmp/postinst", "/tmp/prerm"):
        root.run("ash", "-n", script)

    # As it comes, with rules and the port of this test, and signs in texts that mean something in YAML and in a shell.
    port = free_port()
    digest = hashlib.sha256(b"secret").hexdigest()
    os.makedirs(root.at("etc/gatehouse"))
    shutil.copy(os.path.join(FIRMWARE, "bundles", "shop.yaml"), root.at("etc/gatehouse/ada's: #1 $HOME.yaml"))
    settings = root.at("etc/config/gatehouse")
    with open(settings, "a") as file:
        file.write(f"\toption listen '127.0.0.1:{port}'\n\toption bundle_file \"/etc/gatehouse/ada's: #1 \\$HOME.yaml\"\n"
                   f"config token\n\toption name 'pos'\n\toption sha256 '{digest}'\n\tlist role 'collect'\n"
                   "\tlist role 'decide'\n")
    said = root.run("sh", "-c", UCI, "init", "start_service")
    asked = dict(line.split(" ", 2)[1:] for line in said.splitlines() if line.startswith("procd "))
    equal(asked["user"], "gatehouse", "who runs it")
    equal(asked["file"], "/var/etc/gatehouse.yaml", "what procd looks at for changes")
    command = asked["command"].split()
    equal(command, ["/usr/bin/gatehouse", "run", "--config", "/var/etc/gatehouse.yaml"], "the command")
    # By number, since chroot(1) looks up names outside.
    process = subprocess.Popen(
        root.command(*command, user="470:470"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True)
    bench.nodes.append(Ended(process))
    wait_until(lambda: process.poll() is not None or is_answering(port), 20, "the agent is silent")
    check(process.poll() is None, "the agent has ended")
    answer = json.loads(run(
        "curl", "-sS", f"http://127.0.0.1:{port}/ofrep/v1/evaluate/flags/layout", "-H", "Authorization: Bearer secret", "-d",
        '{"context": {"targetingKey": "ada", "width": 1600}}'))
    equal(answer["variant"], "wide", "the decision by OpenWrt's configuration")
    refused = run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}",
                  f"http://127.0.0.1:{port}/ofrep/v1/evaluate/flags/layout", "-d", "{}")
    equal(refused, "401", "without the token")
    equal(os.stat(root.at("srv/gatehouse/pepper")).st_uid, 470, "whose the secret is")

    # A mistake starts nothing, and the log says where it is.
    with open(settings, "a") as file:
        file.write("config gatehouse 'main'\n\toption connections 'many'\n")
    said = root.run("sh", "-c", UCI, "init", "start_service", expect=1)
    check("/var/etc/gatehouse.yaml:" in said and "connections" in said and "procd" not in said, f"after a mistake: {said}")


def test_busybox_watches_over_it(bench):
    """Buildroot's script for BusyBox's init: started, killed and there again, told to look for a bundle, stopped."""
    need("curl")
    root = BusyBoxRoot(bench)
    port = free_port()
    root.put(binary()[-1], "usr/bin/gatehouse", 0o755)
    root.put(os.path.join(FIRMWARE, "buildroot/package/gatehouse/S60gatehouse"), "etc/init.d/S60gatehouse", 0o755)
    root.put(os.path.join(FIRMWARE, "bundles/shop.yaml"), "etc/gatehouse/shop.yaml")
    root.put(os.path.join(FIRMWARE, "gatehouse.yaml"), "etc/gatehouse/gatehouse.yaml",
             more=f"listen: 127.0.0.1:{port}\nbundle: {{ file: /etc/gatehouse/shop.yaml }}\n")
    # As on most systems: /var/run and /run are one.
    os.rmdir(root.at("run"))
    os.symlink("var/run", root.at("run"))

    def agent():
        try:
            with open(root.at("var/run/gatehouse-agent.pid")) as file:
                return int(file.read())
        except (OSError, ValueError):
            return None

    root.run("/etc/init.d/S60gatehouse", "start")
    wait_until(lambda: is_answering(port), 10, "the agent does not answer after start")
    first = agent()
    buy(port)
    root.run("kill", "-9", str(first))
    wait_until(lambda: agent() not in (first, None) and is_answering(port), 15, "nobody has started it again")
    equal(offer(port), "ten", "what was known before it was killed")
    second = agent()
    root.run("/etc/init.d/S60gatehouse", "reload")
    time.sleep(0.5)
    equal((agent(), is_answering(port)), (second, True), "the agent after reload")
    root.run("/etc/init.d/S60gatehouse", "stop")
    check(not is_answering(port), "it still answers after stop")
    equal(os.listdir(root.at("var/run")), ["gatehouse"], "what is left in /var/run")


def test_recipes_name_what_is_there(bench):
    """Buildroot's, Yocto's and OpenWrt's recipes: each file that they install exists, their versions are the program's."""
    with open(os.path.join(TOP, "Sources", "Agent", "Runtime.swift")) as file:
        version = re.search(r'version: StaticString = "(.*)"', file.read())[1]
    recipes = {
        "buildroot/package/gatehouse/gatehouse.mk": [r"\$\(GATEHOUSE_FIRMWARE_CONFIG\)/([\w./*-]+)"],
        f"yocto/recipes-gatehouse/gatehouse/gatehouse_{version}.bb": [
            r"\$config\"?/([\w./*-]+)", r"\{GATEHOUSE_LAYER\}/\.\./([a-z]\w*(?:\.yaml)?)"],
        "openwrt/Makefile": [r" \.\./([\w./*-]+)", r" \./([\w.*-]+)"],
    }
    for recipe, patterns in recipes.items():
        with open(os.path.join(FIRMWARE, recipe)) as file:
            text = file.read()
        named = {name for pattern in patterns for name in re.findall(pattern, text)}
        check(len(named) >= 3, f"{recipe} names few files: {named}")
        for name in named:
            base = os.path.join(FIRMWARE, "openwrt" if name.startswith("gatehouse.") and "openwrt" in recipe else "", name)
            check(os.path.isdir(os.path.dirname(base)) and (os.path.exists(base) or "*" in name), f"{recipe} names {name}")
        stated = re.findall(r"^\w*_?VERSION ?:?= ?(\S+)$", text, re.MULTILINE) or [version]
        equal(stated, [version], f"the version of {recipe}")
    with open(os.path.join(TOP, "LICENSE"), "rb") as file:
        digest = hashlib.md5(file.read()).hexdigest()
    with open(os.path.join(FIRMWARE, f"yocto/recipes-gatehouse/gatehouse/gatehouse_{version}.bb")) as file:
        check(f"LICENSE;md5={digest}" in file.read(), "Yocto's recipe has another LICENSE")
