"""The real binary, broken on purpose: `Tools/torture real --smoke` finds nothing, and would find something; `Tools/torture soak --smoke`. P1, P6, P7."""

import os
import subprocess

from harness import TOP, Skip, check

TORTURE = os.path.join(TOP, "Tools", "torture")


def test_p1_torture_of_the_real_binary_in_short(bench):
    done = subprocess.run([TORTURE, "real", "--smoke"], capture_output=True, text=True, timeout=600)
    lines = done.stdout.splitlines()
    for line in lines:
        print(f"      {line}", flush=True)
    check(done.returncode == 0 and not any(line.startswith("FAILED") for line in lines), done.stdout + done.stderr[-2000:])
    check(len(lines) == 18, f"not every fault was tried: {done.stdout}")
    for line in lines:
        # Disks of one's own cannot be had everywhere.
        may_skip = any(words in line for words in ("power cuts", "a full file system", "read-only", "flushes that fail"))
        check(may_skip or not line.startswith("skipped"), line)


def test_p1_torture_power_cuts_are_ones(bench):
    """A disk that answers flushes without doing them loses what was acknowledged, and that is seen."""
    done = subprocess.run([TORTURE, "real", "--only", "power cuts", "--cuts", "8", "--lying-disk"], capture_output=True,
                          text=True, timeout=120)
    if done.stdout.startswith("skipped"):
        raise Skip(done.stdout.splitlines()[0])
    check(done.returncode == 1 and "acknowledged" in done.stdout, f"no loss was seen: {done.stdout}{done.stderr[-2000:]}")


def test_p7_a_soak_in_short(bench):
    """Bundle switches, erasures, eviction, outages of the hub, clients that come and go: accounts exact, nothing refused."""
    done = subprocess.run([TORTURE, "soak", "--smoke"], capture_output=True, text=True, timeout=300)
    for line in done.stdout.splitlines():
        print(f"      {line}", flush=True)
    check(done.returncode == 0, done.stdout + done.stderr[-2000:])
    check(done.stdout.count("\nok ") >= 10, f"hardly anything was looked at: {done.stdout}")
