"""The smallest edge box: a kernel and an initramfs in which Gatehouse is the only program, in qemu with 64 MB. It boots to a
decision, ends in order, says what is wrong, and forgets nothing that it has answered when its power is cut.

A power cut is SIGKILL for qemu, and then the loss of what the guest had not flushed: killing qemu alone would leave all that
the guest has written in this machine's page cache, where a real disk's cache forgets. So qemu logs what the disk is told
(dm-log-writes, by its driver blklogwrites), and the disk of the next boot is made of that of the boot before and this log:
every write before the last flush, and of those after it sectors by chance, which is how a disk may be left.

`GATEHOUSE_CUTS=20` cuts the power that many times (default 2); `GATEHOUSE_BOX=aarch64` tries the other architecture, too.
"""

import http.client
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import threading
import time

from harness import TOP, Failure, Node, Skip, check, equal, free_port, track, wait_until

TOOL = os.path.join(TOP, "Tools", "box")
SYSTEM = {**os.environ, "PATH": os.environ["PATH"] + ":/sbin:/usr/sbin"}
SECTOR = 512
LANES = 4


def need(arch="x86_64", *programs):
    for program in (f"qemu-system-{arch}", *programs):
        if not shutil.which(program, path=SYSTEM["PATH"]):
            raise Skip(f"{program} is not installed")


def make_box(bench, arch="x86_64", *options):
    """A folder with kernel and initramfs."""
    folder = os.path.join(bench.folder, f"box-{arch}")
    made = subprocess.run([TOOL, "--arch", arch, "--out", folder, *options], capture_output=True, text=True)
    if made.returncode != 0:
        words = ("could not fetch", "has no linux-image", "could not read the lists", "could not install")
        if any(word in made.stderr for word in words):
            raise Skip(f"there is no kernel to be had: {made.stderr.strip().splitlines()[-1]}")
        raise Failure(f"Tools/box ended with {made.returncode}: {made.stderr[-1000:]}")
    return folder


class Box(Node):
    """A box that runs in qemu. The process is qemu's own."""

    def __init__(self, bench, folder, arch="x86_64", disk=None, memory=64):
        self.folder, self.arch, self.disk, self.memory, self.tls = folder, arch, disk, memory, None
        self.name, self.process, self.boots = f"box-{arch}", None, 0
        with open(os.path.join(folder, "token")) as file:
            self.token = file.read().strip()
        bench.nodes.append(self)

    def power_on(self, disk_log=None):
        self.boots += 1
        self.port = free_port()
        self.log_path = os.path.join(self.folder, f"console-{self.boots}")
        command = [TOOL, "--run", "--arch", self.arch, "--out", self.folder, "--port", str(self.port), "--memory",
                   str(self.memory)]
        if self.disk:
            command += ["--disk", self.disk]
        if disk_log:
            command += ["--disk-log", disk_log]
        with open(self.log_path, "wb") as console:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=console, stderr=console)
        return self

    def console(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def wait_for(self, words, seconds=120):
        """Waits until the console shows these words; returns the moment."""
        end = time.monotonic() + seconds
        while words not in self.console():
            if self.process.poll() is not None:
                raise Failure(f"qemu ended with {self.process.returncode} before {words!r}; the console:\n{self.log()}")
            if time.monotonic() > end:
                raise Failure(f"{words!r} was not on the console after {seconds} s:\n{self.log()}")
            time.sleep(0.01)
        return time.monotonic()

    def start(self, **options):
        """Boots to a first decision; returns the milliseconds of the kernel's clock until it was answered."""
        self.power_on(**options)
        started = self.wait_for("starting the agent")
        self.wait_for("the agent is ready")
        self.decide("checkout_offer", "nobody")
        answered = time.monotonic()
        return int(re.search(r"kernel_ms=(\d+)", self.console()).group(1)) + (answered - started) * 1000

    def call(self, method, path, body=None, headers=None, **options):
        return super().call(method, path, body, {"Authorization": f"Bearer {self.token}", **(headers or {})}, **options)

    def monitor(self, command):
        """Gives a command to qemu; Ctrl-a c is the way to it and back."""
        self.process.stdin.write(b"\x01c" + command.encode() + b"\n\x01c")
        self.process.stdin.flush()

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.kill()
        if self.process is not None:
            self.process.stdin.close()

    def memory_line(self):
        """MemTotal, MemFree and MemAvailable as the box says them, KiB."""
        self.wait_for("the box is up")
        return [int(number) for number in re.search(r"MemTotal: +(\d+) kB MemFree: +(\d+) kB MemAvailable: +(\d+) kB",
                                                    self.console()).groups()]


def filesystem(disk, *arguments):
    return subprocess.run(["e2fsck", *arguments, disk], capture_output=True, text=True, env=SYSTEM)


def boots_to_a_decision(bench, arch):
    need(arch)
    folder = make_box(bench, arch)
    box = Box(bench, folder, arch, disk=os.path.join(bench.folder, "disk"))
    kernel_ms = box.start()
    equal(box.decide("checkout_offer", "ada")["variant"], "none", "a stranger's offer")
    box.batch([track("ada", "Order Completed", {"order_id": "1", "revenue": 1200.5})])
    equal(box.decide("checkout_offer", "ada")["variant"], "ten", "the offer of a good customer")
    box.check_accounts()
    total, free, available = box.memory_line()
    check(total < 64 * 1024, f"the box has {total} KiB")
    print(f"      {arch}: first decision {kernel_ms:.0f} ms after the kernel began; MemTotal {total}, MemFree {free}, "
          f"MemAvailable {available} KiB")
    return box


def test_box_boots_to_a_decision_and_ends_in_order(bench):
    box = boots_to_a_decision(bench, "x86_64")
    box.monitor("sendkey ctrl-alt-delete")
    box.process.wait(60)
    words = box.console()
    check("msg=stopped" in words and "the box ends" in words, f"the console:\n{box.log()}")
    check("refuses" not in words, f"the disk was not let go:\n{box.log()}")
    equal(filesystem(box.disk, "-fn").returncode, 0, "e2fsck, without any repair, of a box that ended in order")
    box.start()
    equal(box.decide("checkout_offer", "ada")["variant"], "ten", "what was known before")


def test_box_boots_on_aarch64(bench):
    if os.environ.get("GATEHOUSE_BOX") != "aarch64":
        raise Skip("GATEHOUSE_BOX=aarch64 boots the box of that architecture, too")
    boots_to_a_decision(bench, "aarch64")


def test_box_says_what_is_wrong(bench):
    """A disk without a file system is waited for: nothing is answered that could not be kept. An agent that cannot start is
    started again, and the console has the reason."""
    need()
    config = os.path.join(bench.folder, "wrong.yaml")
    with open(config, "w") as file:
        file.write("listen: 0.0.0.0:8470\ntokens: []\n")
    folder = make_box(bench, "x86_64", "--config", config)
    with open(os.path.join(folder, "token"), "w"):
        pass
    disk = os.path.join(bench.folder, "blank")
    with open(disk, "wb") as file:
        file.truncate(1024 * 1024)
    box = Box(bench, folder, disk=disk)
    box.power_on()
    box.wait_for("the agent waits for it")
    check("starting the agent" not in box.console(), f"it was not waited for:\n{box.log()}")
    box.stop()
    box.disk = None
    box.power_on()
    box.wait_for("what is collected is in memory")
    box.wait_for("the agent has ended, and starts again")
    box.wait_for("listening beyond this device needs tokens")
    first = box.console().count("starting the agent")
    wait_until(lambda: box.console().count("starting the agent") > first, 20, "the agent was not started again")


# MARK: The power is cut


def logged_writes(path):
    """What the disk was told: (sector, bytes) of a write, None for a flush. An entry has a sector for its head and then its
    data; one that was under way at the cut may be a hole, after which another follows."""
    with open(path, "rb") as file:
        log = file.read()
    at = SECTOR
    while at < len(log):
        sector, count, flags, length = struct.unpack_from("<4Q", log, at)
        at += SECTOR
        is_head = flags in (0, 1) and length == 0 and not any(log[at - SECTOR + 32:at]) and (count > 0) == (flags == 0)
        if not is_head:
            continue
        if flags == 1:
            yield None
        else:
            yield sector, log[at:at + count * SECTOR]
            at += count * SECTOR


def cut_disk(before, log, disk, chance):
    """Makes the disk that a power cut leaves; returns how many sectors of unflushed writes were lost, and how many not."""
    writes = list(logged_writes(log))
    flushes = [index for index, write in enumerate(writes) if write is None]
    check(flushes, "the guest has not flushed once")
    shutil.copyfile(before, disk)
    lost = kept = 0
    with open(disk, "r+b") as file:
        for sector, data in filter(None, writes[:flushes[-1]]):
            file.seek(sector * SECTOR)
            file.write(data)
        for sector, data in writes[flushes[-1] + 1:]:
            for offset in range(0, len(data), SECTOR):
                if chance.random() < 0.5:
                    file.seek(sector * SECTOR + offset)
                    file.write(data[offset:offset + SECTOR])
                    kept += 1
                else:
                    lost += 1
    return lost, kept


def person(lane):
    return f"customer-{lane}"


def store_until_cut(box, lane, acknowledged, stop):
    """Sends events, now one, now five at once; keeps the messageIds of those that were answered 200."""
    number = 0
    while not stop.is_set():
        number += 1
        events = [track(person(lane), "Order Completed", {"order_id": f"{number}-{item}", "revenue": 1})
                  for item in range(5 if number % 3 == 0 else 1)]
        body = {"batch": events} if len(events) > 1 else events[0]
        try:
            answer = box.call("POST", "/v1/batch" if len(events) > 1 else "/v1/track", body, timeout=10)
        except (OSError, http.client.HTTPException):
            continue
        if answer.status == 200:
            acknowledged.update(event["messageId"] for event in events)


def held(box, lane):
    """messageIds of a person's events, by the API."""
    found, path = [], f"/v1/profiles/user_id:{person(lane)}/export"
    while path:
        answer = box.call("GET", path)
        if answer.status == 404:  # nobody of that name: an event of theirs that was acknowledged will be missed
            return found
        equal(answer.status, 200, f"export ({answer.body[:300]!r})")
        page = answer.json()
        found += [entry["messageId"] for entry in page["events"]]
        path = f"/v1/profiles/user_id:{person(lane)}/export?after={page['after']}" if "after" in page else None
    return found


def logged_events(folder):
    """messageIds of the log of a store, by LMDB's own mdb_dump and the layout in Store/LogEntry.swift."""
    dump = subprocess.run(["mdb_dump", "-s", "log", folder], check=True, capture_output=True, text=True).stdout
    lines = [line[1:] for line in dump.splitlines() if line.startswith(" ")]
    found = set()
    for value in lines[1::2]:
        entry = bytes.fromhex(value)
        if len(entry) > 48:
            start = 48 + 72 * entry[3]
            found.add(entry[start:start + struct.unpack_from("<H", entry, 20)[0]].decode())
    return found


def test_p1_box_power_cuts_lose_nothing_acknowledged(bench):
    need("x86_64", "mdb_dump", "debugfs", "e2fsck")
    cuts = int(os.environ.get("GATEHOUSE_CUTS", "2"))
    chance = random.Random(8)
    box = Box(bench, make_box(bench), disk=os.path.join(bench.folder, "disk"))
    before, log = os.path.join(bench.folder, "disk-before"), os.path.join(bench.folder, "disk-log")
    acknowledged = [set() for _ in range(LANES)]
    lost = kept = 0

    def power_on():
        if os.path.exists(box.disk):
            shutil.copyfile(box.disk, before)
        return box.start(disk_log=log)

    def check_nothing_is_lost():
        for lane in range(LANES):
            events = held(box, lane)
            equal(len(set(events)), len(events), f"events of lane {lane}, each once")
            missing = acknowledged[lane] - set(events)
            check(not missing, f"after {box.boots - 1} cuts {len(missing)} acknowledged events are gone: {missing}")
            if events:
                orders = box.profile(f"user_id:{person(lane)}")["attributes"]["orders"]
                equal(orders, len(events), f"orders that the profile of lane {lane} counts")
        box.check_accounts()

    subprocess.run([TOOL, "--make-disk", box.disk], check=True, capture_output=True)
    for cut in range(cuts):
        power_on()
        if cut > 0:
            check_nothing_is_lost()
        count = sum(map(len, acknowledged))
        stop = threading.Event()
        threads = [threading.Thread(target=store_until_cut, args=(box, lane, acknowledged[lane], stop))
                   for lane in range(LANES)]
        for thread in threads:
            thread.start()
        try:
            wait_until(lambda: all(acknowledged) and sum(map(len, acknowledged)) > count + 20, 60, "nothing is answered")
            time.sleep(chance.uniform(0.2, 2.5))
            box.kill()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        box.stop()
        gone, there = cut_disk(before, log, box.disk, chance)
        lost, kept = lost + gone, kept + there
    # The last disk is read twice: by its own agent, and without any of Gatehouse's code.
    checked = os.path.join(bench.folder, "disk-checked")
    shutil.copyfile(box.disk, checked)
    repaired = filesystem(checked, "-fy")
    check(repaired.returncode in (0, 1), f"e2fsck ended with {repaired.returncode}: {repaired.stdout[-1000:]}")
    folder = os.path.join(bench.folder, "store")
    os.mkdir(folder)
    for name in ("data.mdb", "lock.mdb"):
        subprocess.run(["debugfs", "-R", f"dump /gatehouse/{name} {folder}/{name}", checked], check=True,
                       capture_output=True, env=SYSTEM)
    missing = set().union(*acknowledged) - logged_events(folder)
    check(not missing, f"{len(missing)} acknowledged events are not in the log of the disk: {missing}")
    power_on()
    check_nothing_is_lost()
    print(f"      {box.boots} boots, {cuts} cuts, {sum(map(len, acknowledged))} events acknowledged, 0 lost; "
          f"of unflushed sectors {lost} were lost and {kept} were not")
