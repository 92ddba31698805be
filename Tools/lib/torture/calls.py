"""A fixed workload in which one system call fails, or the process is killed at it: each write and each sync in turn.

strace counts the calls of each thread for itself: `when=N` meets the N-th of every thread that comes so far. So there are
three passes, that none stands before another: the first thread's calls while it starts, those to the file of the bundle
(which another thread keeps), and what all threads do once it runs, when strace takes hold of it.
"""

import collections
import contextlib
import os
import re
import shutil
import subprocess
import tempfile
import time

from agent import DEFAULT_BINARY
from device import Broken, Device, check, event

CALLS = ("write", "pwrite64", "writev", "pwritev", "fsync", "fdatasync", "ftruncate", "rename", "link", "mkdir")
HOW = {"KILL": "signal=KILL", "EIO": "error=EIO", "ENOSPC": "error=ENOSPC"}
# Whatever a run may write or make in its data folder; strace looks at no other file, and at no socket.
NAMES = ("", "data.mdb", "lock.mdb", "pepper", "pepper.new", "bundle.yaml", "bundle.yaml.new", "gatehouse.lock", "aside.mdb",
         "snapshot-0.mdb.new", "snapshot-0.mdb.new/data.mdb", "snapshot-0.mdb", "snapshot-1.mdb", "compact",
         "compact/data.mdb", "stand-in", "stand-in/data.mdb", "crashed", "crashed.new", "damaged", "mostly-free", "spare",
         "former.mdb")
BUNDLE = tuple(name for name in NAMES if "bundle" in name)
PASSES = {"start": tuple(name for name in NAMES if "bundle" not in name), "bundle": BUNDLE, "work": NAMES}


def traced(data, log, what, names=NAMES, more=(), pid=None):
    """The words before a command that let strace do `what` to its calls on these files of a data folder; or the command that
    does it to a process."""
    paths = [word for name in names for word in ("-P", os.path.join(data, name).rstrip("/"))]
    paths += [word for path in more for word in ("-P", str(path))]
    whose = ["-p", str(pid)] if pid else ["-D"]
    return ["strace", *whose, "-f", "-qq", "-o", str(log), *paths, "-e", "trace=" + ",".join(CALLS), *what]


def take_hold(command, pid):
    """Starts strace on a process, and waits until it has all of its threads."""
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 10
    while time.monotonic() < end and tracer.poll() is None:
        with contextlib.suppress(OSError):  # a thread that ends meanwhile
            tasks = [f"/proc/{pid}/task/{task}/status" for task in os.listdir(f"/proc/{pid}/task")]
            if all("\nTracerPid:\t0\n" not in open(task).read() for task in tasks):
                return tracer
        time.sleep(0.01)
    tracer.kill()
    raise Broken("strace does not take hold of it")


def counted(log, thread=None):
    """How many calls of each kind a thread has made at most, from strace's log; or this one."""
    calls = collections.Counter()
    for line in open(log, errors="replace"):
        if (found := re.match(r"(\d+) +(\w+)\(", line)) and thread in (None, int(found[1])):
            calls[found.groups()] += 1
    most = collections.Counter()
    for (_, call), count in calls.items():
        most[call] = max(most[call], count)
    return most


def is_reached(log):
    try:
        with open(log, errors="replace") as file:
            text = file.read()
        return "(INJECTED)" in text or "+++ killed by SIGKILL" in text
    except FileNotFoundError:
        return False


class Workload:
    """What is asked of an agent, one thing after the other, and what it answered."""

    def __init__(self, device):
        self.device = device
        self.taken, self.states, self.statuses, self.decided = [], {}, collections.Counter(), 0

    def ask(self, method, path, value):
        try:
            status, _, answer = self.device.ask(method, path, value, timeout=8)
        except TimeoutError as problem:
            raise Broken(f"no answer to {method} {path} for eight seconds") from problem
        except OSError:
            return None
        self.statuses[status] += 1
        check(status < 600 and status not in (400, 404, 500), f"{status} for {method} {path}: {answer}")
        return status

    def run(self):
        for step in range(3):
            message = event("ada", f"one-{step}")
            if self.ask("POST", "/v1/track", message) == 200:
                self.taken.append(message)
            self.decide()
        batch = [event(f"many-{place % 5}", f"batch-{place}", sentAt=None) for place in range(40)]
        if self.ask("POST", "/v1/batch", {"batch": batch}) == 200:
            self.taken += batch
        for who, state in (("ben", "revoked"), ("cy", "erased")):
            if self.ask("POST", "/v1/track", event(who, f"{who}-0")) != 200:
                continue
            self.states[who] = "granted"
            if state == "revoked":
                status = self.ask("PUT", f"/v1/profiles/user_id:{who}/consent", {"analytics": False})
            else:
                status = self.ask("DELETE", f"/v1/profiles/user_id:{who}", None)
            if status in (200, 202, 204):
                self.states[who] = state
            else:
                del self.states[who]  # open
        self.decide()

    def decide(self):
        try:
            answer = self.device.decision("ada", timeout=8)
        except OSError:
            return
        check(answer in ("none", "five"), f"a decision is {answer}")
        self.decided += 1

    def check_afterwards(self):
        """After a restart that nothing disturbs."""
        there = self.device.logged()
        check(len(there) == len(set(there)), "an event is twice in the log")
        lost = [message["messageId"] for message in self.taken if message["messageId"] not in there]
        check(not lost, f"{len(lost)} of {len(self.taken)} acknowledged events are lost: {lost[:3]}")
        self.device.start()
        self.device.settle()
        # A store in which nothing was yet, because making it failed, may well be replaced.
        check(not there or "storeRebuiltAt" not in self.device.ask("GET", "/readyz")[2], "the store was replaced")
        for user in ("ada", *[f"many-{place}" for place in range(5)]):
            sent = {"ada": 3}.get(user, 8)
            held = self.device.orders(user) or 0
            mine = [name for name in there if name.startswith("one-" if user == "ada" else "batch-")
                    and (user == "ada" or int(name[6:]) % 5 == int(user[5:]))]
            check(held == len(mine) <= sent, f"{user} has {len(mine)} events in the log and {held} in the profile")
        for who, state in self.states.items():
            status, _, answer = self.device.ask("GET", f"/v1/profiles/user_id:{who}")
            if state == "erased":
                check(status == 404, f"{who} was erased, and is answered {status}")
            else:
                check(status == 200 and answer["consent"]["analytics"] == (state == "granted"),
                      f"{who} is {state}: {answer}")
        offer = "five" if (self.device.orders("ada") or 0) >= 3 else "none"
        check(self.device.decision("ada") == offer, "a wrong decision")
        check(self.device.ask("POST", "/v1/track", event("ada", "after"))[0] == 200, "no event is taken afterwards")
        self.device.check_accounts()
        check(self.device.agent.stop() == 0, f"it did not end well: {self.device.log_tail()}")


def one_run(when, call, number, how):
    """The workload with one failure in one of PASSES. Returns what was seen; `call` None: none, and how many calls there are
    of each."""
    folder = tempfile.mkdtemp(prefix="gatehouse-calls-")
    log = os.path.join(folder, "strace.log")
    data = os.path.join(folder, "data")
    what = ["-e", f"inject={call}:{HOW[how]}:when={number}"] if call else []
    prefix = [] if when == "work" else traced(data, log, what, PASSES[when])
    device = Device(folder, data=data, prefix=prefix)
    tracer = None
    seen = collections.Counter(runs=1)
    try:
        work = Workload(device)
        try:
            device.start()
        except RuntimeError:
            check(device.agent.process.poll() is not None, f"it neither answers nor ends: {device.log_tail()}")
            seen["ended at the start"] += 1
        else:
            if when == "work":
                pid = device.agent.process.pid
                tracer = take_hold(traced(data, log, what, PASSES[when], pid=pid), pid)
            work.run()
        status = device.agent.stop()
        if tracer:
            tracer.wait(10)
        if call is None:
            check(status == 0 and len(work.taken) == 43, f"the undisturbed run: {status}, {work.statuses}")
            # strace takes the agent's place by forking: the process that was started is the agent.
            return counted(log, device.agent.process.pid if when == "start" else None)
        check(status >= 0 or (how == "KILL" and status == -9), f"it crashed with signal {-status}")
        check(how == "KILL" or status in (0, 1, 3), f"it ended with {status}")
        seen["ended with 3"] += status == 3
        seen["reached"] += is_reached(log)
        seen["acknowledged"] += len(work.taken)
        seen["refused"] += sum(count for code, count in work.statuses.items() if code >= 300)
        seen["decisions meanwhile"] += work.decided
        device.agent.command = device.agent.command[len(prefix):]
        work.check_afterwards()
        return seen
    except (Broken, RuntimeError) as problem:
        raise Broken(
            f"{how} at {call} number {number} of {when}: {problem}; its log ends:\n{device.log_tail()}") from problem
    finally:
        if tracer:
            tracer.kill()
            tracer.wait()
        device.agent.kill()
        shutil.rmtree(folder, ignore_errors=True)


def all_runs(stride=1):
    """What `one_run` is to be called with: every call of the workload, each way; with `stride` every so many."""
    runs = []
    for when in PASSES:
        most = one_run(when, None, 0, None)
        check(sum(most.values()) >= {"start": 12, "bundle": 3, "work": 30}[when], f"strace sees hardly anything of {when}: {most}")
        runs += [(when, call, number, how)
                 for call, count in sorted(most.items()) for number in range(1, count + 1) for how in HOW]
    # Where the trees begin is written by the one call after which LMDB writes nothing more.
    roots = [run for run in runs if run[0] == "work" and run[1] == "pwrite64" and run[3] == "EIO"]
    return list(dict.fromkeys(thinned(runs, stride) + roots))


def thinned(runs, stride):
    """Every so many of the runs, but each call each way at least once."""
    chosen = runs[::stride]
    for run in runs:
        if not any(run[:-2] == other[:-2] and run[-1] == other[-1] for other in chosen):
            chosen.append(run)
    return chosen


def check_reached(total):
    """Nothing is shown by what has not happened. A commit may take another's events along, and then makes fewer calls."""
    check(total["reached"] >= 0.9 * total["runs"], f"of {total['runs']} failures only {total['reached']} have happened")
    return total


COMMANDS = ("backup", "restore", "compact")


def one_command(command, call, number, how):
    """The same with `gatehouse store …` on a store that must be whole afterwards, the old or the new one."""
    folder = tempfile.mkdtemp(prefix="gatehouse-calls-")
    log = os.path.join(folder, "strace.log")
    device = Device(folder)
    backup = device.folder / "backup"
    words = [str(DEFAULT_BINARY), "store", command, *([] if command == "compact" else [str(backup)]), "--config",
             str(device.agent.config_file)]
    try:
        device.start()
        work = Workload(device)
        work.run()
        check(device.agent.stop() == 0, "the first run")
        if command == "restore":
            subprocess.run([str(DEFAULT_BINARY), "store", "backup", str(backup), "--config", str(device.agent.config_file)],
                           check=True, capture_output=True)
        what = ["-e", f"inject={call}:{HOW[how]}:when={number}"] if call else []
        prefix = traced(str(device.data), log, what, more=[backup, f"{backup}.new", f"{backup}.new/data.mdb", device.folder])
        done = subprocess.run([*prefix, *words], capture_output=True, text=True, timeout=30)
        if call is None:
            check(done.returncode == 0, f"the undisturbed {command}: {done.stderr}")
            return counted(log)
        well = (0, -9) if how == "KILL" else (0, 1, 3)
        check(done.returncode in well, f"it ended with {done.returncode}: {done.stderr}")
        again = subprocess.run([str(DEFAULT_BINARY), "store", "check", "--config", str(device.agent.config_file)],
                               capture_output=True, text=True)
        check(again.returncode == 0, f"the store is not whole afterwards: {again.stderr}")
        if command == "backup" and backup.exists():
            again = subprocess.run([str(DEFAULT_BINARY), "store", "check", str(backup)], capture_output=True, text=True)
            check(again.returncode == 0, f"there is a backup, and it is not whole: {again.stderr}")
        # A store that was put back is another one, with everything in it.
        rebuilt = command == "restore"
        there = device.logged()
        lost = [message["messageId"] for message in work.taken if message["messageId"] not in there]
        check(not lost, f"{len(lost)} events are lost")
        device.start()
        device.settle()
        check(rebuilt or "storeRebuiltAt" not in device.ask("GET", "/readyz")[2], "the store was replaced")
        check(device.orders("ada") == 3, f"ada has {device.orders('ada')} orders")
        check(device.ask("GET", "/v1/profiles/user_id:cy")[0] == 404, "cy was erased")
        check(device.ask("GET", "/v1/profiles/user_id:ben")[2]["consent"]["analytics"] is False, "ben has revoked")
        device.check_accounts()
        check(device.agent.stop() == 0, f"it did not end well: {device.log_tail()}")
        return collections.Counter(runs=1, reached=is_reached(log), done=done.returncode == 0)
    except (Broken, RuntimeError, OSError, subprocess.SubprocessError) as problem:
        raise Broken(
            f"store {command}, {how} at {call} number {number}: {problem}; the log ends:\n{device.log_tail()}") from problem
    finally:
        device.agent.kill()
        shutil.rmtree(folder, ignore_errors=True)


def all_commands(stride=1):
    runs = []
    for command in COMMANDS:
        most = one_command(command, None, 0, None)
        check(sum(most.values()) > 1, f"strace sees nothing of store {command}: {most}")
        runs += [(command, call, number, how)
                 for call, count in sorted(most.items()) for number in range(1, count + 1) for how in HOW]
    return thinned(runs, stride)
