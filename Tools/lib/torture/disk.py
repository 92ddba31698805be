"""A disk whose power can be cut: what had not been flushed to it is lost, or torn, or written in another order.

The kernel sees a file (FUSE, spoken here without a library), a loop device on that file, and on the device ext4. Every write
of the device arrives here with its place, and every flush; between two flushes a real disk may keep any part of what it was
given. So that is what is left after a cut: everything up to the last flush, and of the rest what a seed chooses, sector by
sector. Nothing of it depends on what the page cache of this machine holds.

Needs root, /dev/fuse and loop devices. Standard library only.
"""

import ctypes
import errno
import os
import random
import select
import signal
import socket
import stat
import struct
import subprocess
import time

SECTOR = 512
# Numbers of the kernel's interface, linux/fuse.h.
FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT, DESTROY, INTERRUPT, BATCH_FORGET = (
    2, 3, 4, 14, 15, 16, 17, 18, 20, 25, 26, 38, 36, 42)
BIG_WRITES = 1 << 5
LARGEST_WRITE = 128 << 10
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result, what):
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18


def keep_mounts_private():
    """From now on this process and its children mount in a namespace of their own: nobody else's copy of a mount keeps a
    disk in use, and all of them are gone with the last of these processes. Without root it does nothing."""
    if _libc.unshare(CLONE_NEWNS) == 0:
        _libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)


class Unavailable(Exception):
    """There can be no such disk here; the words say why."""


class _Server:
    """The disk itself, in a process of its own: `content` is what a reader sees, `durable` what was flushed, `pending` the
    writes since, as (place, bytes)."""

    def __init__(self, device, control, size):
        self.device, self.control, self.size = device, control, size
        self.content, self.durable, self.pending = bytearray(size), bytearray(size), []
        self.after_cut = None
        self.is_honest = True
        self.failures = 0
        self.writes = self.flushes = 0

    def serve(self):
        poller = select.poll()
        poller.register(self.device, select.POLLIN)
        poller.register(self.control, select.POLLIN)
        while True:
            for descriptor, event in poller.poll():
                if descriptor == self.control.fileno():
                    words = self.control.recv(4096)
                    if not words:
                        return
                    self.control.send(self.obey(*words.decode().split(" ", 2)))
                elif event & select.POLLIN:
                    try:
                        self.answer(os.read(self.device, LARGEST_WRITE + 8192))
                    except OSError as problem:
                        if problem.errno == errno.ENODEV:  # unmounted
                            poller.unregister(self.device)
                        elif problem.errno not in (errno.ENOENT, errno.EINTR, errno.EAGAIN):
                            raise
                else:
                    poller.unregister(self.device)

    def obey(self, order, argument="", other=""):
        if order == "cut":
            return self.cut(int(argument), other)
        if order == "on":  # the power is back: what the cut has left is the disk
            self.content, self.durable, self.pending = bytearray(self.after_cut), bytearray(self.after_cut), []
        elif order == "lie":
            self.is_honest = False
        elif order == "fail":
            self.failures = int(argument)
        elif order == "save":
            with open(argument, "wb") as file:
                file.write(self.after_cut or self.content)
        elif order == "counts":
            return f"{self.writes} {self.flushes}".encode()
        return b"done"

    def cut(self, seed, how):
        """Fixes what the power cut leaves; the disk goes on beside it until it is taken away."""
        chance = random.Random(seed)
        left = bytearray(self.durable)
        lost = 0
        for place, data in self.pending:
            sectors = range(0, len(data), SECTOR)
            if how == "nothing":
                kept = []
            elif how == "everything":
                kept = sectors
            elif how == "beginning":  # a write that was under way
                kept = sectors[:chance.randrange(len(sectors) + 1)]
            elif how == "writes":  # whole writes, in any order
                kept = sectors if chance.random() < 0.5 else []
            else:
                kept = [sector for sector in sectors if chance.random() < 0.5]
            for sector in kept:
                left[place + sector:place + sector + SECTOR] = data[sector:sector + SECTOR]
            lost += len(sectors) - len(kept)
        self.after_cut = left
        return f"{len(self.pending)} {lost}".encode()

    def answer(self, request):
        _, operation, unique, _, _, _, _, _ = struct.unpack_from("<IIQQIIII", request)
        body = memoryview(request)[40:]
        error, reply = 0, b""
        if operation == WRITE:
            _, place, count = struct.unpack_from("<QQI", body)
            data = bytes(body[40:40 + count])
            if place + count > self.size:
                error = errno.ENOSPC
            else:
                self.content[place:place + count] = data
                self.pending.append((place, data))
                self.writes += 1
                reply = struct.pack("<II", count, 0)
        elif operation == FSYNC:
            self.flushes += 1
            if self.failures > 0:
                self.failures -= 1
                error = errno.EIO
            elif self.is_honest:
                for place, data in self.pending:
                    self.durable[place:place + len(data)] = data
                self.pending = []
        elif operation == READ:
            _, place, count = struct.unpack_from("<QQI", body)
            reply = bytes(self.content[place:place + count])
        elif operation in (GETATTR, SETATTR):
            reply = struct.pack("<QII", 3600, 0, 0) + struct.pack(
                "<6Q10I", 1, self.size, self.size // SECTOR, 0, 0, 0, 0, 0, 0, stat.S_IFREG | 0o600, 1, 0, 0, 0, 4096, 0)
        elif operation == OPEN:
            reply = struct.pack("<QII", 1, 0, 0)
        elif operation == INIT:
            major, minor, readahead, _ = struct.unpack_from("<IIII", body)
            reply = struct.pack(
                "<IIIIHHIIHHI7I", 7, min(minor, 31), readahead, BIG_WRITES, 16, 12, LARGEST_WRITE, 1, 0, 0, 0, *[0] * 7)
        elif operation == STATFS:
            reply = struct.pack("<5Q4I24x", self.size // 4096, 0, 0, 1, 0, 4096, 255, 4096, 0)
        elif operation in (FORGET, BATCH_FORGET, INTERRUPT):
            return
        elif operation not in (FLUSH, RELEASE, DESTROY):
            error = errno.ENOSYS
        if error:
            reply = b""
        os.write(self.device, struct.pack("<IiQ", 16 + len(reply), -error, unique) + reply)


class Disk:
    """A disk of `size` bytes with ext4 on it, mounted at `folder`/disk while it is on."""

    HOW = ("nothing", "sectors", "writes", "beginning", "everything")

    def __init__(self, folder, size=48 << 20):
        if os.geteuid() != 0:
            raise Unavailable("a disk of one's own needs root")
        self.file, self.mount = os.path.join(folder, "disk.img"), os.path.join(folder, "disk")
        os.makedirs(self.mount, exist_ok=True)
        open(self.file, "w").close()
        self.is_on, self.process = False, None
        try:
            device = os.open("/dev/fuse", os.O_RDWR)
        except OSError as problem:
            raise Unavailable(f"/dev/fuse: {problem}") from problem
        try:
            options = f"fd={device},rootmode=100600,user_id=0,group_id=0,allow_other"
            _checked(_libc.mount(b"disk", self.file.encode(), b"fuse", 0, options.encode()), "mounting FUSE")
        except OSError as problem:
            os.close(device)
            raise Unavailable(str(problem)) from problem
        self.control, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.process = os.fork()
        if self.process == 0:
            try:
                # An interrupt at the terminal is for the tool, which then takes the disk away.
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                self.control.close()
                _Server(device, end, size).serve()
            finally:
                os._exit(0)
        end.close()
        os.close(device)
        try:
            self._run("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", "-J", "size=4",
                      self.file)
            self._mount()
        except OSError as problem:
            self.close()
            raise Unavailable(str(problem)) from problem

    def _run(self, *command):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(errno.EIO, f"{' '.join(command)}: {done.stderr.strip()}")

    def _order(self, *words):
        self.control.send(" ".join(words).encode())
        return self.control.recv(4096).decode()

    def _mount(self):
        self._run("mount", "-o", "loop,noatime", self.file, self.mount)
        self.is_on = True

    def cut(self, seed, how):
        """The power is gone; returns how many writes were not flushed and how many of their sectors are lost. Whoever uses
        the disk is to be ended before `on()`."""
        writes, sectors = self._order("cut", str(seed), how).split()
        return int(writes), int(sectors)

    def on(self):
        """The power is back after a cut: the file system is mounted anew and recovers by its journal."""
        self._unmount()
        self._order("on")
        self._mount()

    def lie(self):
        """From now on flushes are answered and not done, as by a disk that has no battery for its cache."""
        self._order("lie")

    def fail(self, flushes):
        """The next flushes fail, and what was written since the last one stays at risk."""
        self._order("fail", str(flushes))

    def save(self, path):
        """Keeps the disk as the last cut has left it, to be looked at."""
        self._order("save", str(path))

    def counts(self):
        """How many writes and flushes the disk has had."""
        writes, flushes = self._order("counts").split()
        return int(writes), int(flushes)

    def _unmount(self):
        if self.is_on:
            for _ in range(50):
                if _libc.umount2(self.mount.encode(), 0) == 0:
                    break
                time.sleep(0.02)
            else:
                _libc.umount2(self.mount.encode(), MNT_DETACH)
            self.is_on = False
        # The loop device lets go of the file a moment later.
        for _ in range(100):
            if not self._is_attached():
                return
            time.sleep(0.01)
        raise OSError(errno.EBUSY, f"a loop device still holds {self.file}")

    def _is_attached(self):
        for name in os.listdir("/sys/block"):
            try:
                with open(f"/sys/block/{name}/loop/backing_file") as file:
                    if file.read().strip() == self.file:
                        return True
            except OSError:
                continue
        return False

    def close(self):
        try:
            self._unmount()
        finally:
            _libc.umount2(self.file.encode(), MNT_DETACH)
            self.control.close()
            if self.process:
                os.waitpid(self.process, 0)
                self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
