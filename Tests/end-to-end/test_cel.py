"""CEL as it ships: other people's cases on every architecture, and evaluation without allocation beside C."""

import json
import os
import subprocess
import sys

from harness import TOP, Skip, binary, check, equal

CASES = os.path.join(TOP, "..", "shared", "conformance", "cel")
# Its expected value has a backslash that neither its expression nor its original in cel-spec has.
DAMAGED = "parse/bytes_literals/triple_double_quoted_unescaped_punctuation"


def conformance(arch):
    if not os.path.isdir(CASES):
        raise Skip("../shared/conformance/cel is not there")
    runner, path = binary(arch)[:-1], binary(arch)[-1]
    run = subprocess.run(
        [sys.executable, os.path.join(TOP, "Tools", "conformance"), "cel", CASES, "--binary", path,
         "--runner", " ".join(runner)], capture_output=True, text=True)
    failed = [line for line in run.stdout.splitlines() if line.startswith("FAILED") and DAMAGED not in line]
    equal(failed, [], "failed cases")
    total = run.stdout.splitlines()[-1].split()
    check(int(total[1]) > 1000 and int(total[3]) <= 1, f"counts: {run.stdout[-200:]}{run.stderr}")


def test_cel_conformance_on_x86_64(bench):
    conformance("x86_64")


def test_cel_conformance_on_aarch64_under_qemu(bench):
    conformance("aarch64")


def test_cel_conformance_on_armv7_under_qemu(bench):
    conformance("armv7")


def test_rules_are_evaluated_without_allocation_and_as_in_c(bench):
    """The smoke size of `Tools/bench cel`: it fails if anything is allocated or a rule is true here and not in C."""
    figures = os.path.join(bench.folder, "figures.json")
    run = subprocess.run([os.path.join(TOP, "Tools", "bench"), "cel", "--smoke", "--json", figures],
                         capture_output=True, text=True)
    equal(run.returncode, 0, f"Tools/bench cel --smoke: {run.stdout}{run.stderr[-2000:]}")
    with open(figures) as file:
        rows = json.load(file)
    check(len(rows) == 17 and all(row["allocations"] == 0 and row["matches"] for row in rows), f"{rows}")


def test_a_costly_expression_ends(bench):
    lists = "[" + ",".join(map(str, range(100))) + "]"
    costly = f"{lists}.all(a, {lists}.all(b, {lists}.all(c, {lists}.all(d, a + b + c + d >= 0))))"
    run = subprocess.run([*binary(), "eval", costly], capture_output=True, text=True, timeout=10)
    check(run.returncode == 1 and "cost limit" in run.stderr, f"{run.returncode}: {run.stdout}{run.stderr}")


def test_a_mistake_is_told_with_place_and_suggestion(bench):
    run = subprocess.run([*binary(), "eval", 'x.startWith("a") && y', "--with", '{"x": "abc"}'],
                         capture_output=True, text=True)
    check(run.returncode == 1, f"exit status {run.returncode}")
    for part in ("1:", "startWith", "did you mean 'startsWith'?", "^"):
        check(part in run.stderr, f"no {part!r} in {run.stderr!r}")
