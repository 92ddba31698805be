"""Sudden ends: SIGKILL, and power cuts. What was acknowledged is there afterwards, whole, once, and counted."""

import collections
import os
import shutil
import tempfile
import time

from device import Broken, Device, Load, chance_of, check
from disk import Disk, Unavailable

ROUNDS = 20  # ends in one device's life; a new device then begins with an empty store


def killed_device(seed, life, rounds):
    """One device, killed `rounds` times. Returns what was counted."""
    chance = chance_of(seed, "kills", life)
    seen = collections.Counter()
    folder = tempfile.mkdtemp(prefix="gatehouse-kills-")
    device = Device(folder, name=f"k{life}")
    load = Load(device, writers=chance.randint(1, 4), events=chance.choice([1, 25, 100, 100, 100]))
    try:
        device.start()
        for _ in range(rounds):
            load.begin()
            time.sleep(chance.uniform(0.01, 0.25))
            device.agent.kill()
            load.end()
            acknowledged, states, under_way = load.snapshot()
            seen["kills"] += 1
            if chance.random() < 0.2:
                # Once more while it starts: nothing that recovery does may cost anything.
                device.agent.process = None
                try:
                    device.start(timeout=chance.uniform(0.001, 0.03))
                except RuntimeError:
                    pass
                device.agent.kill()
                seen["kills"] += 1
            there = load.check_log(acknowledged)
            device.start()
            load.check_device(there, states, under_way)
        check(device.agent.stop() == 0, f"it did not end well: {device.log_tail()}")
        seen["events"] = len(load.acknowledged) * load.events
        seen["people"] = len(load.states)
        return seen
    except (Broken, RuntimeError) as problem:
        where = f"seed {seed}, device {life}, kill {seen['kills']}"
        raise Broken(f"{where}: {problem}; its log ends:\n{device.log_tail()}") from problem
    finally:
        device.agent.kill()
        load.end()
        shutil.rmtree(folder, ignore_errors=True)


def cut_device(seed, life, rounds, is_honest=True, keep=None):
    """One device on a disk of its own, cut off from power `rounds` times. Returns what was counted."""
    chance = chance_of(seed, "cuts", life)
    seen = collections.Counter()
    folder = tempfile.mkdtemp(prefix="gatehouse-cuts-")
    disk = device = load = None
    try:
        disk = Disk(folder)
        device = Device(folder, data=os.path.join(disk.mount, "data"), name=f"c{life}")
        load = Load(device, writers=chance.randint(1, 4), events=chance.choice([1, 25, 100, 100, 100]))
        device.start()
        if not is_honest:
            disk.lie()
        for _ in range(rounds):
            load.begin()
            time.sleep(chance.uniform(0.01, 0.25))
            acknowledged, states, under_way = load.snapshot()
            writes, sectors = disk.cut(chance.randrange(1 << 30), chance.choice(Disk.HOW))
            device.agent.kill()
            load.end()
            load.forget_all_but(acknowledged, states, under_way)
            seen["cuts"] += 1
            seen["with writes not flushed"] += writes > 0
            seen["sectors lost"] += sectors
            disk.on()
            is_there = (device.data / "data.mdb").exists()
            check(is_there or not acknowledged, "the store is gone")
            there = load.check_log(acknowledged) if is_there else set()
            device.start()
            check("storeRebuiltAt" not in device.ask("GET", "/readyz")[2], "the store was damaged, and replaced")
            load.check_device(there, states, under_way)
        seen["events"] = len(load.acknowledged) * load.events
        seen["people"] = len(load.states)
        return seen
    except (Broken, RuntimeError, OSError) as problem:
        if device is None or isinstance(problem, Unavailable):
            raise
        if keep:
            disk.save(os.path.join(keep, f"cut-{seed}-{life}.img"))
        where = f"seed {seed}, device {life}, cut {seen['cuts']}"
        raise Broken(f"{where}: {problem}; its log ends:\n{device.log_tail()}") from problem
    finally:
        if device:
            device.agent.kill()
        if load:
            load.end()
        if disk:
            disk.close()
        shutil.rmtree(folder, ignore_errors=True)
