"""A simulated device lives through weeks of faults (Tools/torture simulate): every promise is kept, and what once broke one
does not any more."""

import os
import re
import subprocess

from harness import TOP, check, equal

HISTORIES = os.path.join(TOP, "Tests", "end-to-end", "histories")


def simulate(*arguments):
    # The build of the unit tests is there already.
    done = subprocess.run(
        [os.path.join(TOP, "Tools", "torture"), "simulate", "--debug", *arguments], capture_output=True, text=True,
        timeout=600, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout, done.stderr


def test_simulation_of_device_weeks_keeps_every_promise(bench):
    unseen = {"events", "requests to hubs", "power cuts", "failing disks", "erasures", "evicted events"}
    # What is rare is not in every sixteen weeks: in short ones by themselves it was seen.
    for weeks, seed in [(16, 1), (1, 53), (1, 61), (1, 75)]:
        code, output, errors = simulate("--weeks", str(weeks), "--seed", str(seed))
        equal(code, 0, f"simulate: {output[-3000:]}{errors[-1000:]}")
        last = output.splitlines()[-1]
        check(last.startswith(f"{weeks} device-weeks: "), output)
        unseen = {what for what in unseen if f" 0 {what}" in last}
        if not unseen:
            return
    check(not unseen, f"never seen: {unseen}; {last}")


# What else than a fault may have come between since: it is tried at calls before and after the one at which it was found.
SHIFTS = [*range(-8, 0), *range(1, 9)]


def shifted(text):
    """A history as often as it has faults of the disk, times SHIFTS: one comes at another call each time."""
    for found in re.finditer(r"^(fail|cut) (\d+)", text, re.M):
        for shift in SHIFTS:
            if int(found[2]) + shift > 0:
                yield f"{text[:found.start()]}{found[1]} {int(found[2]) + shift}{text[found.end():]}"


def test_simulation_of_histories_that_once_broke_a_promise(bench):
    names = sorted(os.listdir(HISTORIES))
    check(names, "there are histories")
    played = [os.path.join(HISTORIES, name) for name in names]
    for name in names:
        with open(os.path.join(HISTORIES, name)) as file:
            for number, text in enumerate(shifted(file.read())):
                played.append(os.path.join(bench.folder, f"{number}-{name}"))
                with open(played[-1], "w") as other:
                    other.write(text)
    check(len(played) > 3 * len(SHIFTS), f"histories: {played}")
    code, output, errors = simulate(*[word for path in played for word in ("--history", path)])
    equal(output.splitlines(), [f"{path}: every promise was kept" for path in played], "what came of them")
    equal(code, 0, f"simulate: {errors[-1000:]}")


def test_simulation_finds_what_is_broken(bench):
    """A disk that lies loses what was acknowledged: with --strict that is found, so that silence elsewhere means something."""
    lying = os.path.join(HISTORIES, "a-disk-that-lies.txt")
    code, output, errors = simulate("--strict", "--history", lying)
    equal(code, 1, f"simulate: {output}{errors[-1000:]}")
    check(output.startswith(f"{lying}: P1: "), output)
    code, output, errors = simulate("--strict", "--weeks", "10", "--seed", "60", "--whole")
    equal(code, 1, f"simulate: {output[-1000:]}{errors[-1000:]}")
    check(output.startswith("seed 67: P1: "), output[:200])


def test_simulation_refuses_what_it_does_not_know(bench):
    wrong = os.path.join(bench.folder, "wrong.txt")
    with open(wrong, "w") as file:
        file.write("# A comment.\nseed 1\n\nfial 3 1 5\n")
    code, output, _ = simulate("--history", wrong)
    equal((code, output), (2, f"{wrong}:4: this is no operation: fial 3 1 5\n"), "a history that is none")
    for words in (["--weeks", "many"], ["--weeks", "0"], ["--seed", "-1"], ["--weak"]):
        equal(simulate(*words)[0], 2, f"simulate {' '.join(words)}")


def test_simulation_of_a_week_in_which_nothing_could_be_written_any_more(bench):
    """A disk lied about flushes: the log had later numbers than the accounts."""
    code, output, errors = simulate("--weeks", "1", "--seed", "4679")
    equal(code, 0, f"simulate: {output[-3000:]}{errors[-1000:]}")
