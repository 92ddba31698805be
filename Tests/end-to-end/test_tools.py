"""The tools that prove and measure, in their shortest form, so that they never rot."""

import glob
import json
import os
import re
import shutil
import subprocess

from harness import TOP, Skip, binary, check, equal

INPUTS = 20_000


def fuzz_targets():
    with open(os.path.join(TOP, "Tools", "fuzz")) as file:
        return re.search(r"^targets=\((.*)\)$", file.read(), re.M)[1].split()


def test_fuzz_two_targets_in_turn(bench):
    """Each commit takes the next two, since building them takes longer than running them; GATEHOUSE_FUZZ names others."""
    targets = fuzz_targets()
    check(len(targets) == 16, f"targets: {targets}")
    chosen = os.environ.get("GATEHOUSE_FUZZ", "").split()
    if not chosen:
        count = subprocess.run(["git", "-C", TOP, "rev-list", "--count", "HEAD"], capture_output=True, text=True)
        if count.returncode != 0:
            raise Skip("there is no history to choose by")
        first = int(count.stdout)
        chosen = [targets[first % 16], targets[(first + 7) % 16]]
    run = subprocess.run([os.path.join(TOP, "Tools", "fuzz"), *chosen, "--runs", str(INPUTS), "--jobs", "1"],
                         capture_output=True, text=True)
    equal(run.returncode, 0, f"Tools/fuzz {' '.join(chosen)}: {run.stdout}{run.stderr[-3000:]}")
    for target in chosen:
        found = re.search(rf"^{target} +(\d+) inputs +\d+ a second +(\d+) of +(\d+) edges +found 0$", run.stdout, re.M)
        check(found, f"no line of {target}: {run.stdout}")
        inputs, reached, edges = map(int, found.groups())
        check(inputs >= INPUTS and 100 < reached < edges, f"{target}: {found[0]}")


def test_bench_table_has_its_rows_and_plots(bench):
    """A part of `Tools/bench table --smoke`: what it takes, beside nginx and Redis, durable events beside C that writes the same,
    delivery beside rsyslog, and a curve."""
    binary()
    figures = os.path.join(bench.folder, "table.json")
    run = subprocess.run(
        [os.path.join(TOP, "Tools", "bench"), "table", "--smoke", "--only", "size", "--only", "grown-rules", "--only", "ingest",
         "--only", "delivery", "--json", figures, "--plots", bench.folder], capture_output=True, text=True)
    equal(run.returncode, 0, f"Tools/bench table: {run.stdout}{run.stderr[-2000:]}")
    with open(figures) as file:
        table = json.load(file)
    rows = {row["what"]: row for row in table["rows"]}
    check(len(rows) >= 8 and rows["the program"]["gatehouse"] < 2048, f"rows: {rows}")
    check(all(row["ratio"] is None or row["ratio"] > 0 for row in table["rows"]), f"ratios: {table['rows']}")
    # nginx and Redis can be had wherever Debian's packages can.
    equal(table["left_out"], [], "left out")
    check(all(f"| {what}" in run.stdout for what in rows), f"the table: {run.stdout}")
    with open(os.path.join(bench.folder, "rules.svg")) as file:
        check(file.read().count("<circle") == 2, "the points of a curve")


def spelled_out(pattern, at=0):
    """What a pattern of literals, groups, `|` and `?` behind groups may begin with, each spelled out; and where it ends."""
    done, begun = [], [""]
    while at < len(pattern) and pattern[at] != ")":
        if pattern[at] == "(":
            inner, at = spelled_out(pattern, at + 1)
            if pattern[at + 1:at + 2] == "?":
                inner, at = [*inner, ""], at + 1
            begun = [start + end for start in begun for end in inner]
        elif pattern[at] == "|":
            done, begun = done + begun, [""]
        else:
            begun = [start + pattern[at] for start in begun]
        at += 1
    return done + begun, at


def test_hot_functions_are_there(bench):
    """A function that is renamed would lose its speed without a word: ship.sh knows it by its symbol."""
    with open(os.path.join(TOP, "Tools", "lib", "ship.sh")) as file:
        pattern = re.search(r"^hot_functions='(.*?)'\n\n", file.read(), re.M | re.S)[1].replace("'\\\n'", "")
    names, end = spelled_out(pattern)
    equal(end, len(pattern), "where the pattern ends")
    check(len(names) > 100 and not set("()|?") & set("".join(names)), f"names: {names}")
    objects = glob.glob(os.path.join(TOP, ".build", "x86_64", "assembled", "*.o"))
    compiler = shutil.which("swiftc")
    if not objects or not compiler:
        raise Skip("what Tools/build compiles is not in .build, or swiftc not in PATH")
    nm = os.path.join(os.path.dirname(os.path.realpath(compiler)), "llvm-nm")
    listing = subprocess.run([nm, "--defined-only", "--format=just-symbols", *objects], capture_output=True, text=True)
    symbols = [line[2:] for line in listing.stdout.splitlines() if line.startswith("$e")]
    check(len(symbols) > 5000, f"{len(symbols)} symbols: {listing.stderr[-1000:]}")
    gone = [name for name in names if not any(symbol.startswith(name) for symbol in symbols)]
    equal(gone, [], "hot functions in Tools/lib/ship.sh that no object has any more")
