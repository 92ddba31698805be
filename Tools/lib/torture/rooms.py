"""A device that runs out of something: room on its file system, the right to write, descriptors, memory. It refuses what it
cannot do, answers decisions on, loses nothing that it acknowledged, and comes back when there is room again."""

import contextlib
import ctypes
import os
import pathlib
import resource
import subprocess
import tempfile
import time

from crowds import Bystander, connections, finish, started
from device import Load, Skipped, chance_of, check
from disk import Disk

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def small_file_system(bytes_):
    """A tmpfs of that size in a folder of its own."""
    folder = tempfile.mkdtemp(prefix="gatehouse-room-")
    if _libc.mount(b"none", folder.encode(), b"tmpfs", 0, f"size={bytes_}".encode()) != 0:
        os.rmdir(folder)
        raise Skipped(f"no file system of one's own: {os.strerror(ctypes.get_errno())}")
    try:
        yield pathlib.Path(folder)
    finally:
        for _ in range(100):
            if _libc.umount2(folder.encode(), 0) == 0:
                break
            time.sleep(0.05)
        else:
            _libc.umount2(folder.encode(), 2)
        os.rmdir(folder)


def fill(folder):
    """Takes the last byte of a file system; returns the file that does it."""
    path = os.path.join(folder, "full")
    with open(path, "wb", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    return path


def until(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < end, f"not within {seconds} s: {what}")
        time.sleep(0.05)


def under_load(device, load, seconds):
    load.begin()
    time.sleep(seconds)
    load.end()
    return load.snapshot()


def afterwards(device, load, what):
    """Nothing that was acknowledged is lost, in the running agent and after a kill."""
    acknowledged, states, under_way = load.snapshot()
    for _ in range(2):
        there = load.check_log(acknowledged)
        load.check_device(there, states, under_way)
        device.agent.kill()
        device.start()
        device.settle()
    finish(device, what)
    return f"{len(acknowledged) * load.events:,} events acknowledged, none lost"


def full(folder, mebibytes):
    """Events until nothing more fits on the file system; then there is room again."""
    with small_file_system(mebibytes << 20) as room:
        device = started(folder, data=room / "data", name="f")
        load = Load(device, people=False)
        try:
            with Bystander(device) as bystander:
                load.begin()
                until(lambda: load.refused > 0, 60, f"no event was refused: {load.answers}")
                load.end()
                before = len(load.acknowledged)
                taken = fill(room)
                acknowledged, _, _ = under_load(device, load, 1)
                check(load.answers.get(503, 0) > 0, f"nobody was told that it is full: {load.answers}")
                check(set(load.answers) <= {200, 503}, f"answers: {load.answers}")
                refused = load.refused
                os.remove(taken)
            words = bystander.words()
            check(device.agent.process.poll() is None, "it ended")
            device.agent.kill()
            # More room than before.
            check(_libc.mount(b"none", str(room).encode(), None, 32, f"size={4 * mebibytes << 20}".encode()) == 0, "remount")
            device.start()
            device.settle()
            later = afterwards(device, load, "a full disk")
            return f"{before} batches taken, then {refused} times 503; {words}; with more room {later}"
        finally:
            load.end()
            device.agent.kill()


def read_only(folder):
    """The kernel gives up a file system while the agent runs: what is open stays open, and nothing can be written."""
    with Disk(folder) as disk:
        device = started(folder, data=os.path.join(disk.mount, "data"), name="r")
        load = Load(device, people=False)
        try:
            under_load(device, load, 0.3)
            before = len(load.acknowledged)
            check(before > 0, "nothing was taken")
            with Bystander(device) as bystander:
                # An ordinary remount is refused while somebody writes; after an error the kernel does not ask.
                done = subprocess.run(["mount", "-o", "remount,abort", disk.mount], capture_output=True, text=True)
                check(done.returncode == 0, f"the file system stays writable: {done.stderr}")
                under_load(device, load, 1)
                later = len(load.acknowledged)
                time.sleep(0.3)
                is_alive = device.agent.process.poll() is None
                check(is_alive, f"it ended with {device.agent.process.returncode}: {device.log_tail()}")
                check(later - before <= 4, f"{later - before} batches were acknowledged on a file system that takes nothing")
                check(load.answers.get(503, 0) > 0, f"nobody was told: {load.answers}")
                ready = device.ask("GET", "/readyz")
                check(ready[0] == 503, f"it says that it is ready: {ready}")
            words = bystander.words()
            device.agent.kill()
            disk.cut(1, "everything")
            disk.on()
            device.start()
            device.settle()
            refused = load.answers.get(503)
            return f"{refused} times 503; {words}; mounted anew {afterwards(device, load, 'a read-only file system')}"
        finally:
            load.end()
            device.agent.kill()


def failing_flush(folder, rounds):
    """A flush that fails, in the middle of a load: the kernel then takes pages for clean that are not on the disk, so that
    what is acknowledged after it would be lost by the next power cut. Then comes the power cut."""
    chance = chance_of("flush", rounds)
    decisions = refused = 0
    with Disk(folder) as disk:
        device = started(folder, data=os.path.join(disk.mount, "data"), name="w")
        load = Load(device)
        try:
            for _ in range(rounds):
                with Bystander(device) as bystander:
                    load.begin()
                    time.sleep(chance.uniform(0.02, 0.2))
                    disk.fail(chance.choice([1, 1, 2, 5]))
                    time.sleep(0.3)
                    acknowledged, states, under_way = load.snapshot()
                    disk.cut(chance.randrange(1 << 30), "nothing")
                    bystander.stopping.set()
                    bystander.thread.join()
                # One that may be able to write again ends, to be started anew: then nobody answers decisions for a moment.
                ended = device.agent.process.poll()
                check(ended in (None, 3), f"it ended with {ended}: {device.log_tail()}")
                device.agent.kill()
                load.end()
                if ended is None:
                    bystander.words()
                decisions += len(bystander.milliseconds)
                refused += load.answers.get(503, 0)
                load.answers = {}
                load.forget_all_but(acknowledged, states, under_way)
                disk.fail(0)
                disk.on()
                there = load.check_log(acknowledged)
                device.start()
                device.settle()
                load.check_device(there, states, under_way)
            finish(device, "failed flushes")
            count = len(load.acknowledged) * load.events
            return (f"{rounds} times, {count:,} events acknowledged and none lost, {refused} times 503, "
                    f"{decisions:,} decisions meanwhile")
        finally:
            device.agent.kill()
            load.end()


def descriptors(folder, count):
    """No descriptor is left: who is in is served, who comes waits or is turned away, and it passes."""
    device = started(folder)
    try:
        with Bystander(device) as bystander:
            pid = device.agent.process.pid
            used = len(os.listdir(f"/proc/{pid}/fd"))
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 8, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))
            made, _ = connections(device.agent.port, count)
            time.sleep(0.7)
            most = len(os.listdir(f"/proc/{pid}/fd"))
            check(most <= used + 8, f"{most} descriptors")
            check(most > used + 4, f"only {most - used} descriptors were taken")
            for plain in made:
                plain.close()
            begin = time.monotonic()
            status, _, _ = device.ask("GET", "/healthz", timeout=30)
            waited = time.monotonic() - begin
            check(status == 200 and waited < 3, f"when they are gone a new client is answered {status} after {waited:.1f} s")
        words = bystander.words()
        finish(device, "exhausted descriptors")
        return f"{count} clients and 8 descriptors, a new client {waited:.1f} s after they are gone; {words}"
    finally:
        device.agent.kill()


def memory(folder, rounds):
    """The kernel gives it no more memory than it has (and a little): batches are taken or refused, or it ends with words."""
    device = started(folder, name="m")
    load = Load(device, writers=8, events=1000, people=False)
    try:
        pid = device.agent.process.pid
        ended = 0
        with open(f"/proc/{pid}/status") as file:
            data = next(int(line.split()[1]) for line in file if line.startswith("VmData:"))
        under_load(device, load, 0.5)
        check(load.acknowledged, "nothing was acknowledged that could be lost")
        for turn in range(rounds):
            spare = (64, 512, 2048, 4096)[turn % 4]
            resource.prlimit(pid, resource.RLIMIT_DATA, ((data + spare) << 10, resource.RLIM_INFINITY))
            under_load(device, load, 0.5)
            if device.agent.process.poll() is not None:
                ended += 1
                status = device.agent.process.returncode
                check(status == 3, f"it ended with {status} with {spare} KiB to spare: {device.log_tail()}")
                device.start()
                pid = device.agent.process.pid
        resource.prlimit(device.agent.process.pid, resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        later = afterwards(device, load, "exhausted memory")
        return f"{rounds} times, {load.refused} refused, {ended} ends with words; {later}"
    finally:
        load.end()
        device.agent.kill()
