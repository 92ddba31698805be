"""Breaks the real binary on purpose: `Tools/torture real`. A line for each fault says what was seen; the last one
`N passed, N failed, N skipped`."""

import argparse
import collections
import multiprocessing
import os
import shutil
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path += [HERE, os.path.dirname(HERE)]

import calls as system_calls  # noqa: E402
import crowds  # noqa: E402
import damage  # noqa: E402
import deaths  # noqa: E402
import malformed  # noqa: E402
import rooms  # noqa: E402
from device import Broken, Skipped  # noqa: E402
from disk import Unavailable, keep_mounts_private  # noqa: E402


class Outcome:
    """What came of each fault."""

    def __init__(self):
        self.counts = collections.Counter()

    def run(self, fault, act):
        """Runs `act`, which returns what was seen, and prints its line."""
        begin = time.monotonic()
        try:
            word, seen = "ok", act()
            self.counts["passed"] += 1
        except (Skipped, Unavailable) as problem:
            word, seen = "skipped", str(problem)
            self.counts["skipped"] += 1
        except Exception as problem:  # whatever it is: the other faults are tried as well
            kind = "" if isinstance(problem, Broken) else f"{type(problem).__name__}: "
            word, seen = "FAILED", f"{kind}{problem}"
            self.counts["failed"] += 1
        print(f"{word:8}{fault}: {seen}  ({time.monotonic() - begin:.0f} s)", flush=True)


def in_turns(work, jobs):
    """Runs `work(*job)` for each job in as many processes as `--jobs` says; the sum of what they counted. What one of them
    finds is raised when all are over, so that one seed does not hide another."""
    total, problems = collections.Counter(), []
    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        for pending in [pool.apply_async(work, job) for job in jobs]:
            try:
                total.update(pending.get())
            except (Skipped, Unavailable):
                raise
            except Exception as problem:
                problems.append(problem)
    if problems:
        for problem in problems[1:]:
            print(f"        also: {problem}", flush=True)
        raise Broken(f"{len(problems)} of {len(jobs)} found something: {problems[0]}")
    return total


def words_of(total):
    return ", ".join(f"{count:,} {what}" for what, count in total.items())


def lives(count):
    """Splits a number of ends among devices: (number of the device, its ends)."""
    whole, rest = divmod(count, deaths.ROUNDS)
    return list(enumerate([deaths.ROUNDS] * whole + ([rest] if rest else [])))


def kills():
    jobs = [(options.seed, life, rounds) for life, rounds in lives(options.kills)]
    return f"{words_of(in_turns(deaths.killed_device, jobs))} acknowledged; none lost, none twice, accounts hold"


def cuts():
    jobs = [(options.seed, life, rounds, not options.lying_disk, options.keep) for life, rounds in lives(options.cuts)]
    return f"{words_of(in_turns(deaths.cut_device, jobs))} acknowledged; none lost, none twice, accounts hold"


def calls():
    runs = system_calls.all_runs(options.stride)
    return f"{words_of(system_calls.check_reached(in_turns(system_calls.one_run, runs)))}; nothing acknowledged is lost, no crash"


def commands():
    runs = system_calls.all_commands(options.stride)
    return f"{words_of(system_calls.check_reached(in_turns(system_calls.one_command, runs)))}; the store is whole each time"


def damaged(how, count):
    jobs = [(how, options.seed, lane, rounds) for lane, rounds in damage.lanes(count, options.jobs)]
    return f"{words_of(in_turns(damage.many, jobs))}; no wrong answer"


def flips():
    return damaged(damage.flip, options.flips)


def snapshots():
    return damaged(damage.snapshot, options.truncations)


def truncations():
    return damaged(damage.truncation, options.truncations)


def in_folder(work, *arguments):
    """Runs something that needs a folder of its own."""
    folder = tempfile.mkdtemp(prefix="gatehouse-torture-")
    try:
        return work(folder, *arguments)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def short(whole, smoke):
    return smoke if options.smoke else whole


def malformed_requests():
    counts = in_folder(malformed.run)
    return f"{sum(counts.values())} kinds: {words_of(counts)}; nothing that stood behind a refused one was taken"


FAULTS = [
    ("SIGKILL under load", kills),
    ("power cuts", cuts),
    ("KILL, EIO, ENOSPC at every write and sync", calls),
    ("KILL, EIO, ENOSPC in store backup, restore, compact", commands),
    ("flipped bits in data files", flips),
    ("flipped bits in the snapshot of a store that is lost", snapshots),
    ("data files cut short", truncations),
    ("a full file system", lambda: in_folder(rooms.full, short(12, 5))),
    ("a file system that becomes read-only", lambda: in_folder(rooms.read_only)),
    ("flushes that fail, then the cut", lambda: in_folder(rooms.failing_flush, short(60, 4))),
    ("no descriptors left", lambda: in_folder(rooms.descriptors, short(400, 200))),
    ("no memory left", lambda: in_folder(rooms.memory, short(16, 4))),
    ("SIGSTOP and SIGCONT under load", lambda: in_folder(crowds.stopped, short(20, 3))),
    ("a flood of connections", lambda: in_folder(crowds.flood, short(2000, 1300))),
    ("slow clients", lambda: in_folder(crowds.slow, short(200, 60), short(20, 12))),
    ("clients that do not read", lambda: in_folder(crowds.deaf, short(50, 10), short(50, 10))),
    ("malformed and ambiguous requests", malformed_requests),
]


def main():
    outcome = Outcome()
    keep_mounts_private()
    for fault, act in FAULTS:
        if not options.only or any(word in fault for word in options.only):
            outcome.run(fault, act)
    counts = outcome.counts
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return 0 if counts["failed"] == 0 and counts["passed"] else 1


parser = argparse.ArgumentParser(prog="Tools/torture real")
parser.add_argument("--smoke", action="store_true", help="everything in short")
parser.add_argument("--only", action="append", metavar="WORD", help="the faults that have this in their name")
parser.add_argument("--seed", default="1", help="of all that is left to chance")
parser.add_argument("--jobs", type=int, default=2, help="devices at once")
parser.add_argument("--kills", type=int, help="1000; 20 with --smoke")
parser.add_argument("--cuts", type=int, help="500; 10 with --smoke")
parser.add_argument("--flips", type=int, help="1000; 24 with --smoke")
parser.add_argument("--truncations", type=int, help="and flipped snapshots: 100; 6 with --smoke")
parser.add_argument("--lying-disk", action="store_true", help="the disk of the power cuts ignores flushes: they must fail")
parser.add_argument("--keep", metavar="FOLDER", help="where disks are kept on which something was lost")
options = parser.parse_args()
# Odd to the three ways in which each call fails.
options.stride = 13 if options.smoke else 1
for name, whole, smoke in (("kills", 1000, 20), ("cuts", 500, 10), ("flips", 1000, 24), ("truncations", 100, 6)):
    if getattr(options, name) is None:
        setattr(options, name, smoke if options.smoke else whole)
sys.exit(main())
