"""A simulated device lives through weeks of faults (Tools/torture simulate): every promise is kept, and what once broke one
does not any more."""

import os
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
    code, output, errors = simulate("--weeks", "16", "--seed", "1")
    equal(code, 0, f"simulate: {output[-3000:]}{errors[-1000:]}")
    last = output.splitlines()[-1]
    check(last.startswith("16 device-weeks: "), output)
    for what in ("events", "requests to hubs", "power cuts", "failing disks", "erasures", "evicted events"):
        check(f" 0 {what}" not in last, f"{what}: {last}")


def test_simulation_of_histories_that_once_broke_a_promise(bench):
    names = sorted(os.listdir(HISTORIES))
    check(names, "there are histories")
    for name in names:
        code, output, errors = simulate("--history", os.path.join(HISTORIES, name))
        equal(code, 0, f"{name}: {output}{errors[-1000:]}")
        equal(output.strip(), "every promise was kept", name)


def test_simulation_of_a_week_in_which_nothing_could_be_written_any_more(bench):
    """A disk lied about flushes: the log had later numbers than the accounts."""
    code, output, errors = simulate("--weeks", "1", "--seed", "4679")
    equal(code, 0, f"simulate: {output[-3000:]}{errors[-1000:]}")
