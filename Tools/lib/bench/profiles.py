"""A store of many profiles against one of as many people as are asked for: decisions over HTTP and updates, for the same
people, in turns; and what is in memory, with and without `limits.memory`. See Tools/bench.

Both stores are written by ProfileBench, so that they hold what an agent would have written. One serving thread each,
client and server on a core of their own where the machine has two. The turns alternate, so that whatever else the
machine does falls on both; the figures are medians over the turns, the ratios over the rounds. Before anything is
measured both files are synced and read once: they lie in the page cache as far as the machine has room.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))
from agent import DEFAULT_BINARY, TOP, Agent, Connection  # noqa: E402
from decisions import CONNECTIONS, PATH, TICKS, cores, milliseconds, pinned  # noqa: E402
from ingest import costs, events  # noqa: E402

BUNDLE = HERE / "rules.yaml"
# What is promised: how many times the small store's figures those of the large one may be.
RATIO = 1.5
# Name, path, connections, events a request.
# Few connections, so that what they send fits the agent's intake (2 MiB).
UPDATES = [("one a request, 16 connections", "/v1/track", 16, 1), ("batches of 100, 8 connections", "/v1/batch", 8, 100)]
# Far enough from one person of a sweep to the next; a prime, so that nobody comes twice.
STRIDE = 7_368_787


# --- Stores --------------------------------------------------------------------------------------------------------


class Store:
    """A folder with an agent's data in it, and the agents that are started on it."""

    def __init__(self, options, folder, profiles):
        self.options, self.folder, self.profiles = options, folder, profiles
        # Twice what a profile takes, so that updates have room.
        self.map_bytes = (1 << 30) + profiles * 2048
        self.file = folder / "data" / "data.mdb"
        self.next_event = 0

    def agent(self, memory=None):
        limits = {"disk": self.map_bytes, **({"memory": f"{memory}MiB"} if memory else {})}
        config = {"bundle": {"file": str(BUNDLE)}, "threads": 1, "limits": limits}
        return Agent(self.folder, binary=self.options.binary, config=config, runner=pinned(cores()[0]))

    def seed(self):
        """Writes the people; returns the seconds that it took."""
        # The device's pepper, and the tables.
        with self.agent():
            pass
        begin = time.monotonic()
        words = [self.options.seed, self.folder / "data", BUNDLE, self.profiles, self.map_bytes]
        if subprocess.run([str(word) for word in words]).returncode != 0:
            sys.exit("bench: the store could not be written")
        self.sync()
        return time.monotonic() - begin

    def sync(self):
        with open(self.file, "rb") as file:
            os.fsync(file.fileno())

    def warm(self):
        """Brings the file into the page cache, as far as the machine has room."""
        with open(self.file, "rb", buffering=0) as file:
            while file.read(1 << 22):
                pass

    def forget(self):
        """Takes the file out of the page cache; no agent may run."""
        self.sync()
        with open(self.file, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def name(number):
    return f"customer-{number:08d}"


def check(agent, store):
    """What the agent makes of people anywhere in the store must be what it would have written itself."""
    connection = Connection(agent.url)
    for number in range(0, store.profiles, max(1, store.profiles // 10)):
        status, _, answer = connection.ask_json("POST", PATH, {"context": {"targetingKey": name(number)}})
        if status != 200 or answer.get("variant") != "ten":
            sys.exit(f"bench: {name(number)} got {status} {answer}, not the variant of the tenth rule")
        status, _, record = connection.ask_json("GET", f"/v1/profiles/user_id:{name(number)}")
        if status != 200 or "user_id" not in json.dumps(record.get("identifiers")):
            sys.exit(f"bench: the record of {name(number)} is {status} {record}")
    if metrics(agent)["gatehouse_profiles"] != store.profiles:
        sys.exit("bench: the store does not hold as many profiles as were written")


def metrics(agent):
    _, _, text = Connection(agent.url).ask("GET", "/metrics")
    return {words[0]: float(words[1]) for line in text.decode().splitlines() if (words := line.split(" "))[0] != "#"}


# --- Measuring -----------------------------------------------------------------------------------------------------


def resident(process):
    """Anonymous memory and pages of files of a process, MiB."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return {name: int(re.search(rf"^{name}:\s+(\d+)", status, re.M)[1]) / 1024 for name in ("RssAnon", "RssFile")}


class MemoryWatch:
    """Looks at a process's memory fifty times a second as long as it lasts."""

    def __init__(self, process):
        self.process, self.samples, self.stop = process, [], threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self):
        while not self.stop.wait(0.02):
            with contextlib.suppress(OSError, TypeError):
                self.samples.append(resident(self.process))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def most(self, what):
        return max((sample[what] for sample in self.samples), default=0)

    def highest(self):
        return max((sum(sample.values()) for sample in self.samples), default=0)

    def share_above(self, limit):
        return sum(sum(sample.values()) > limit for sample in self.samples) / max(1, len(self.samples))


def cpu_ticks(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def faults(process):
    """Page faults so far: those that the page cache could answer, and those that the disk had to."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[7]), int(fields[9])


def ask(agent, seconds, count, base=0, span=None, first=0, stride=1):
    """One turn of wrk over `count` people; returns its figures."""
    ticks, (minor, major) = cpu_ticks(agent.process), faults(agent.process)
    words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s", HERE / "decide.lua", agent.url + PATH, "--",
             count, "customer-%08d", base, span or count, first, stride]
    output = subprocess.run([*pinned(cores()[-1]), *map(str, words)], capture_output=True, text=True, check=True).stdout
    if re.search(r"Non-2xx|Socket errors", output):
        sys.exit(f"bench: not every request was answered:\n{output}")
    requests = int(re.search(r"(\d+) requests in", output)[1])
    minor_after, major_after = faults(agent.process)
    return {
        "requests": requests,
        "requests_per_second": float(re.search(r"Requests/sec:\s*([\d.]+)", output)[1]),
        "p50_ms": milliseconds(re.search(r"^\s+50%\s+(\S+)$", output, re.M)[1]),
        "p99_ms": milliseconds(re.search(r"^\s+99%\s+(\S+)$", output, re.M)[1]),
        "cpu_us": (cpu_ticks(agent.process) - ticks) / TICKS / requests * 1e6,
        "minor_faults": (minor_after - minor) / requests,
        "major_faults": (major_after - major) / requests,
    }


def measure_decisions(options, small, large):
    """Rounds of both agents, the same people. Returns {name: [figures]}."""
    turns = {"small": [], "large": []}
    for agent in (small, large):
        asked = 0
        while asked < 1.2 * options.hot:
            asked += ask(agent, options.seconds, options.hot, first=asked)["requests"]
    for number in range(options.rounds):
        pair = [("small", small), ("large", large)]
        for key, agent in pair if number % 2 == 0 else pair[::-1]:
            turns[key].append(ask(agent, options.seconds, options.hot))
    return turns


def sweep(options, agent, store, part):
    """People who have not been asked for yet, each once. `part`: which of the sweeps this is."""
    span = store.profiles - options.hot
    count = min(options.cold, span)
    return ask(agent, options.seconds, count, base=options.hot, span=span, first=part * options.cold * STRIDE % span,
               stride=STRIDE)


def write_templates(path):
    """Views of products: each changes a counter, a set, a tally and three values."""
    lines = [json.dumps(event, separators=(",", ":")) for event in events() if event["event"] == "Product Viewed"]
    path.write_text("\n".join(lines) + "\n")


def update(options, agent, store, mode, seconds):
    """One turn of events of the people that are asked for; returns its figures."""
    _, path, connections, batch = mode
    before, commits = costs(agent.process), metrics(agent)["gatehouse_commits_total"]
    words = [options.load, agent.port, path, connections, batch, store.folder / "views", options.hot, store.next_event, 0,
             "seconds", seconds]
    done = subprocess.run([*pinned(cores()[-1]), *map(str, words)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: the client ended with {done.returncode}: {done.stderr}")
    figures = json.loads(done.stdout)
    store.next_event = figures["next"]
    after = costs(agent.process)
    for key in after:
        figures[key] = (after[key] - before[key]) / figures["events"]
    figures["events_per_commit"] = figures["events"] / max(1, metrics(agent)["gatehouse_commits_total"] - commits)
    return figures


def measure_updates(options, agents, stores):
    turns = {mode[0]: {"small": [], "large": []} for mode in UPDATES}
    for key in agents:
        write_templates(stores[key].folder / "views")
        update(options, agents[key], stores[key], UPDATES[1], options.seconds)
    for number in range(options.rounds):
        for mode in UPDATES:
            for key in ("small", "large") if number % 2 == 0 else ("large", "small"):
                turns[mode[0]][key].append(update(options, agents[key], stores[key], mode, options.seconds))
    return turns


# --- The report ----------------------------------------------------------------------------------------------------


def medians(turns):
    return {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}


def ratios(turns, keys):
    """Of the large store's figures to the small one's, the median over the rounds."""
    return {key: statistics.median(a[key] / b[key] for a, b in zip(turns["large"], turns["small"])) for key in keys}


def decision_line(what, figures):
    return (f"  {what:26}{figures['requests_per_second']:>9,.0f} req/s   p50 {figures['p50_ms']:6.3f} ms   "
            f"p99 {figures['p99_ms']:6.3f} ms   CPU {figures['cpu_us']:6.2f} us   page faults a request "
            f"{figures['minor_faults']:.2f}, from the disk {figures['major_faults']:.2f}")


def update_line(what, figures):
    return (f"  {what:26}{figures['events_per_second']:>9,.0f} events/s   writer {figures['writer_us']:6.2f} us/event   "
            f"{figures['events_per_commit']:6.1f} events/commit   disk {figures['written_bytes']:6,.0f} bytes/event   "
            f"p50 {figures['p50_ms']:6.2f} ms   p99 {figures['p99_ms']:6.2f} ms")


def memory_line(what, memory):
    return f"  {what}: RssAnon {memory['RssAnon']:.1f} MiB, RssFile {memory['RssFile']:.1f} MiB"


def report_decisions(title, stores, turns):
    print(title)
    for key in ("small", "large"):
        print(decision_line(f"{stores[key].profiles:,} profiles", medians(turns[key])))
    of = ratios(turns, ["p50_ms", "p99_ms", "requests_per_second"])
    print(f"  ratio: p50 {of['p50_ms']:.2f}, p99 {of['p99_ms']:.2f}, requests a second {of['requests_per_second']:.2f}",
          flush=True)
    return {"small": medians(turns["small"]), "large": medians(turns["large"]), "ratios": of, "turns": turns}


def run_phase(options, stores, memory, part):
    """Decisions of both stores, and a sweep over cold people in the large one, under a limit of memory or none."""
    title = f"limits.memory: {memory}MiB" if memory else "no limits.memory"
    for store in stores.values():
        store.warm()
    with contextlib.ExitStack() as stack:
        agents = {key: stack.enter_context(stores[key].agent(memory)) for key in stores}
        for key in stores:
            check(agents[key], stores[key])
        large = agents["large"].process
        with MemoryWatch(large) as watch:
            turns = measure_decisions(options, agents["small"], agents["large"])
        report = report_decisions(f"decisions, {title}", stores, turns)
        before = resident(large)
        with MemoryWatch(large) as swept:
            cold = medians([sweep(options, agents["large"], stores["large"], part + number) for number in range(3)])
            time.sleep(0.2)
        after = resident(large)
        print(decision_line("people never asked for", cold))
        print(memory_line("before the sweep", before))
        print(memory_line(f"after it, over {3 * cold['requests']:,} people", after))
        releases = metrics(agents["large"])["gatehouse_memory_releases_total"]
        print(f"  at most RssAnon {max(watch.most('RssAnon'), swept.most('RssAnon')):.1f} MiB; of all together "
              f"{watch.highest():.0f} MiB while the same people were asked for, {swept.highest():.0f} MiB in the sweep; "
              f"given back {releases:,.0f} times", flush=True)
        report |= {"cold": cold, "before": before, "after": after, "highest_mib": watch.highest(),
                   "highest_in_sweep_mib": swept.highest(), "releases": releases}
        if memory:
            report["above"] = max(watch.share_above(memory), swept.share_above(memory))
            print(f"  above {memory} MiB in {report['above']:.1%} of the looks", flush=True)
    return report


def run_updates(options, stores, memory):
    for store in stores.values():
        store.sync()
        store.warm()
    with contextlib.ExitStack() as stack:
        agents = {key: stack.enter_context(stores[key].agent(memory)) for key in stores}
        turns = measure_updates(options, agents, stores)
    report = {}
    for mode, of in turns.items():
        print(f"updates, {f'limits.memory: {memory}MiB' if memory else 'no limits.memory'}, {mode}")
        for key in ("small", "large"):
            print(update_line(f"{stores[key].profiles:,} profiles", medians(of[key])))
        ratio = ratios(of, ["writer_us", "cpu_us", "events_per_second", "written_bytes"])
        print(f"  ratio: writer's CPU an event {ratio['writer_us']:.2f}, CPU of all {ratio['cpu_us']:.2f}, events a second "
              f"{ratio['events_per_second']:.2f}, bytes written {ratio['written_bytes']:.2f}", flush=True)
        report[mode] = {"small": medians(of["small"]), "large": medians(of["large"]), "ratios": ratio, "turns": of}
    return report


def run_from_disk(options, store):
    """People whose pages are not even in the page cache."""
    store.forget()
    with store.agent(options.memory) as agent:
        figures = sweep(options, agent, store, 6)
    print("decisions, after the file was taken out of the page cache")
    print(decision_line("people never asked for", figures), flush=True)
    return figures


def missed(report, memory):
    """The promises that do not hold. What a limit of memory costs that is too low for those who are asked for is only
    reported: the kernel brings in 16 pages at each fault, so that the limit must be ten times what they take."""
    for key, ratio in report["without_limit"]["ratios"].items():
        if (1 / ratio if key == "requests_per_second" else ratio) > RATIO:
            yield f"decisions: the ratio of {key}, {ratio:.2f}, is beyond {RATIO}"
    after = report["with_limit"]["after"]
    if sum(after.values()) > memory:
        yield f"{sum(after.values()):.0f} MiB were in memory after the sweep, more than {memory}"
    for mode, of in report["updates"].items():
        if of["ratios"]["writer_us"] > RATIO:
            yield f"updates, {mode}: the ratio of the writer's CPU, {of['ratios']['writer_us']:.2f}, is beyond {RATIO}"


def main():
    parser = argparse.ArgumentParser(prog="Tools/bench profiles", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--load", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--binary", default=str(DEFAULT_BINARY), help="the agent to measure")
    parser.add_argument("--profiles", type=int, default=10_000_000, help="profiles of the large store (10000000)")
    parser.add_argument("--hot", type=int, default=10_000, help="people asked for, and profiles of the small store (10000)")
    parser.add_argument("--cold", type=int, default=100_000, help="people of a sweep at most (100000)")
    parser.add_argument("--memory", type=int, default=256, help="limits.memory in MiB (256)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of both stores (7)")
    parser.add_argument("--seconds", type=int, default=2, help="length of a turn (2)")
    parser.add_argument("--require", action="store_true", help="fail when a promise does not hold")
    parser.add_argument("--smoke", action="store_true", help="small stores, a short turn each: shows that it works, no more")
    parser.add_argument("--json", help="write the figures into this file too")
    options = parser.parse_args()
    if options.smoke:
        options.profiles, options.hot, options.cold, options.memory = 40_000, 2_000, 10_000, 24
        options.rounds, options.seconds = 1, 1
    if options.profiles < 2 * options.hot:
        parser.error("--profiles must be at least twice --hot")

    (TOP / ".build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-profiles-", dir=TOP / ".build") as folder:
        free = shutil.disk_usage(folder).free
        stores = {key: Store(options, pathlib.Path(folder) / key, count)
                  for key, count in [("small", options.hot), ("large", options.profiles)]}
        if free < 1 << 30 or free < options.profiles * 1024:
            sys.exit(f"bench: {free >> 20} MiB are free under .build, too little for {options.profiles:,} profiles")
        for store in stores.values():
            seconds = store.seed()
            size = store.file.stat().st_size
            print(f"{store.profiles:,} profiles written in {seconds:.1f} s: {size / 2**20:,.0f} MiB, "
                  f"{size / store.profiles:,.0f} bytes each", flush=True)
        load = os.getloadavg()[0]
        print(f"{options.rounds} rounds, turns of {options.seconds} s, {CONNECTIONS} connections, one serving thread; "
              f"{options.hot:,} people asked for by turns, 10 rules; load of the machine before {load:.1f}", flush=True)
        report = {"without_limit": run_phase(options, stores, None, 0),
                  "with_limit": run_phase(options, stores, options.memory, 3)}
        report["updates"] = run_updates(options, stores, None)
        report["updates_with_limit"] = run_updates(options, stores, options.memory)
        report["from_disk"] = run_from_disk(options, stores["large"])
    if options.smoke:
        print("(a smoke run: too short for the figures to mean anything)")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(report, indent=1))
    problems = list(missed(report, options.memory))
    for problem in problems:
        print(f"bench: {problem}", file=sys.stderr)
    if options.require and problems:
        sys.exit(1)


if __name__ == "__main__":
    main()
