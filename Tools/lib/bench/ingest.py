"""Events over HTTP, answered after the sync: the agent against a C program that does the same HTTP and the same writes
and nothing else, under the same client, in turns. See Tools/bench.

The client has the last core; the servers have all cores and as many serving threads as there are cores, as they would
on a device: where a client leaves its core idle, a writer that waits for it is none of the client's business. Both
stores lie in one folder, on a real file system, and are new for each round. The turns alternate, so that whatever else
the machine does falls on both; the figures are medians over the rounds, the ratios over the pairs of a round.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))
from agent import DEFAULT_BINARY, TOP, Agent, Connection, free_port, process_memory_kib  # noqa: E402
from decisions import cores, pinned  # noqa: E402

# Name, path, connections, events a request.
MODES = [("one a request, 16 connections", "/v1/track", 16, 1),
         ("one a request, 64 connections", "/v1/track", 64, 1),
         # A dozen at once fill the agent's intake (2 MiB), and who comes then is told to come again.
         ("batches of 100, 8 connections", "/v1/batch", 8, 100)]
BATCHES = MODES[2]
PEOPLE = 2000
# What is promised: share of the C program's events a second; with batches, these where it does those.
RATIO, BATCH_EVENTS, BATCH_REFERENCE = 0.85, 100_000, 140_000
ADMISSION_MICROSECONDS = 5.0


# --- What is sent --------------------------------------------------------------------------------------------------


def events(granted=True, name=None, identifier="userId", more=None):
    """Sixteen events of one visit: searches, views, two products in the cart, an order. About 490 bytes each.

    `more` are members that each event's properties end with."""
    when = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())

    def event(kind, number, properties):
        return {"type": "track", "event": name or kind, "messageId": "ajs-next-" + "@" * 16 + "-4f1c2a9be07",
                identifier: "customer-" + "#" * 8, "timestamp": when,
                "context": {"consent": {"categoryPreferences": {"analytics": granted, "personalization": granted}},
                            "library": {"name": "shop", "version": "4.2.0"},
                            "page": {"path": f"/p/{number}", "url": f"https://shop.example/p/{number}"}},
                "properties": {**properties, **(more or {})}}

    def product(number):
        return {"product_id": f"p-{number:05d}", "category": f"c-{number % 4}", "name": f"Trail shoe {number}, men's, grey",
                "price": 79.9 + number, "currency": "EUR", "quantity": 1, "shop": "berlin"}

    views = [event("Product Viewed", number, product(number)) for number in range(1, 11)]
    carts = [event("Product Added", number, product(number)) for number in (3, 7)]
    searches = [event("Products Searched", number, {"query": "trail shoes grey waterproof", "results": 12 * number})
                for number in (1, 2, 3)]
    order = event("Order Completed", 0, {
        "order_id": "o-20260131-0017", "revenue": 169.8, "currency": "EUR", "country": "DE", "payment": "card",
        "products": [{"product_id": "p-00003", "quantity": 1}, {"product_id": "p-00007", "quantity": 1}]})
    return [*views[:5], searches[0], carts[0], *views[5:], searches[1], carts[1], searches[2], order]


def write_templates(path, **options):
    lines = [json.dumps(event, separators=(",", ":")) for event in events(**options)]
    path.write_text("\n".join(lines) + "\n")
    return statistics.mean(len(line) for line in lines)


def without(bundle, key, instead=""):
    """The text of a bundle with all blocks of this name left out, or replaced by a line."""
    return re.sub(rf"(?m)^( *){key}:.*\n(?:\1 +.*\n)*", rf"\1{instead}\n" if instead else "", bundle)


# --- The two servers -----------------------------------------------------------------------------------------------


class Reference:
    """The C program with a store in `folder`, in the form of `Agent`."""

    def __init__(self, program, folder, threads, profile_bytes, left_out_bytes, *options):
        self.data = pathlib.Path(folder) / "data"
        self.port = free_port()
        pathlib.Path(folder).mkdir(parents=True)
        self.command = [program, "serve", self.port, self.data, threads, profile_bytes, left_out_bytes, *options]

    def __enter__(self):
        self.process = subprocess.Popen([str(word) for word in self.command])
        for _ in range(500):
            try:
                Connection(f"http://127.0.0.1:{self.port}").open()
                return self
            except OSError:
                time.sleep(0.01)
        sys.exit("bench: the reference does not listen")

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Bench:
    """The programs, the folder and the settings of a run."""

    def __init__(self, options, folder):
        self.options = options
        self.folder = folder
        self.threads = min(len(cores()), 4)
        self.bundle = (HERE / "ingest.yaml").read_text()
        self.event_bytes = write_templates(folder / "events")
        write_templates(folder / "unknown", name="Nobody Expects This")
        write_templates(folder / "nobody", identifier="anonymousId")
        write_templates(folder / "denied", granted=False)
        write_templates(folder / "unfit", more={"checked": False})
        self.number = 0

    def _new_folder(self):
        self.number += 1
        return self.folder / f"store-{self.number}"

    def agent(self, bundle=None):
        folder = self._new_folder()
        folder.mkdir()
        (folder / "bundle.yaml").write_text(bundle or self.bundle)
        agent = Agent(folder, binary=self.options.binary,
                      config={"bundle": {"file": str(folder / "bundle.yaml")}, "threads": self.threads,
                              # Neither of the two takes anything out of its log.
                              "limits": {"history": "4GiB"}})
        agent.data = folder / "data"
        return agent

    def reference(self, *options):
        return Reference(self.options.reference, self._new_folder(), self.threads, self.profile_bytes,
                         self.left_out_bytes, *options)

    def load(self, server, mode, unit, amount, first, templates="events", ids=0):
        """Runs the client; returns its figures. It ends the bench when an answer is not 200."""
        _, path, connections, batch = mode
        words = [self.options.load, server.port, path, connections, batch, self.folder / templates, PEOPLE, first, ids,
                 unit, amount]
        done = subprocess.run([*pinned(cores()[-1]), *map(str, words)], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"bench: the client ended with {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    def seed(self, server):
        """Every person's first visit, so that each is known, has a consent record and a full profile."""
        return self.load(server, BATCHES, "events", 16 * PEOPLE, 0)["next"]

    def measure(self, server, mode, first, **more):
        """One turn of the client, with what it cost the server."""
        before = costs(server.process)
        figures = self.load(server, mode, "seconds", self.options.seconds, first, **more)
        after = costs(server.process)
        for name in after:
            figures[name] = (after[name] - before[name]) / figures["events"]
        return figures

    def sizes(self, server):
        return json.loads(subprocess.run([self.options.reference, "sizes", str(server.data)], capture_output=True,
                                         text=True, check=True).stdout)

    def calibrate(self):
        """Learns from a seeded agent how long its records are, so that the reference writes as much."""
        with self.agent() as agent:
            self.seed(agent)
            agent.stop()
            sizes = self.sizes(agent)
            remove(agent)
        self.profile_bytes = round(sizes["profiles"]["value_bytes"])
        kept = sizes["log"]["value_bytes"] - 120 - 36
        self.left_out_bytes = max(0, round(self.event_bytes - kept))


def remove(server):
    shutil.rmtree(server.data.parent)


def costs(process):
    """What a process has used so far: CPU of all threads and of the writer (microseconds), bytes given to write calls.

    Sockets get theirs by `send`, which is not counted; `write_bytes` counts whole folios where a page was written."""
    tasks = sorted(pathlib.Path(f"/proc/{process.pid}/task").iterdir(), key=lambda task: int(task.name))
    used = [int((task / "schedstat").read_text().split()[0]) / 1000 for task in tasks]
    names = [(task / "comm").read_text().strip() for task in tasks]
    # The agent starts its writer before any other thread.
    writer = names.index("writer") if "writer" in names else 1
    written = int(re.search(r"^wchar: (\d+)", pathlib.Path(f"/proc/{process.pid}/io").read_text(), re.M)[1])
    return {"cpu_us": sum(used), "writer_us": used[writer], "written_bytes": written}


# --- Measuring -----------------------------------------------------------------------------------------------------


def file_system(folder):
    """The type of the file system of a folder, and the milliseconds of overwriting 4 KiB there and syncing."""
    mounts = [line.split()[1:3] for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
    kind = max((mount for mount in mounts if folder.is_relative_to(mount[0])), key=lambda mount: len(mount[0]))[1]
    path = folder / "probe"
    taken = []
    with open(path, "wb", buffering=0) as file:
        file.write(bytes(4096))
        os.fsync(file.fileno())
        for _ in range(100):
            begin = time.perf_counter()
            os.pwrite(file.fileno(), os.urandom(4096), 0)
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - begin) * 1000)
    path.unlink()
    return kind, statistics.median(taken)


def compare_stores(agent, reference, events_sent):
    """What differs between what the two have written for the same events; nothing, as it should be."""
    problems = []
    for name, of_agent in agent.items():
        of_reference = reference[name]
        for what in ("key_bytes", "value_bytes"):
            if abs(of_agent[what] - of_reference[what]) > 0.03 * max(of_agent[what], 1):
                problems.append(f"{name}: {what} {of_agent[what]} in the agent's, {of_reference[what]} in the reference's")
    for name, sizes, sent in [("agent", agent, events_sent["agent"]), ("reference", reference, events_sent["reference"])]:
        if sizes["log"]["entries"] != sent:
            problems.append(f"the {name} has logged {sizes['log']['entries']} of {sent} events")
    return problems


def measure_throughput(bench):
    """Rounds of both servers in all modes. Returns {mode: {server: [figures]}}, memory, and what the stores differ in."""
    turns = {mode[0]: {"agent": [], "reference": []} for mode in MODES}
    memory, problems = 0, []
    for number in range(bench.options.rounds):
        sizes, sent = {}, {}
        servers = [("agent", bench.agent), ("reference", bench.reference)]
        for name, make in servers if number % 2 == 0 else servers[::-1]:
            with make() as server:
                first = bench.seed(server)
                for mode in MODES:
                    figures = bench.measure(server, mode, first)
                    first = figures["next"]
                    turns[mode[0]][name].append(figures)
                if name == "agent":
                    memory = max(memory, process_memory_kib(server.process.pid) or 0)
                    server.stop()
            sizes[name], sent[name] = bench.sizes(server), first
            remove(server)
        problems += compare_stores(sizes["agent"], sizes["reference"], sent)
    return turns, memory, problems


# Streams of events whose journeys end one step later each, before anything is written: what a step costs all threads
# together is the difference, with little of syncs in it. `unfit` fails its schema at its last member, `unfit at once` fails a schema
# that asks for nothing but what nobody has.
STREAMS = ["unknown", "nobody", "repeated", "denied", "unfit at once", "unfit", "everything", "no schema", "bare",
           "reference", "reference without ids"]


def measure_admission(bench):
    """CPU of all threads, microseconds an event in batches of 100, of each stream. Returns {stream: [figure a round]}."""
    taken = {stream: [] for stream in STREAMS}

    def take(stream, server, first, **more):
        figures = bench.measure(server, BATCHES, first, **more)
        taken[stream].append(figures["cpu_us"])
        return figures["next"]

    no_schema = without(bench.bundle, "schema")
    dropping = bench.bundle.replace("invalid: quarantine", "invalid: drop")
    at_once = without(dropping, "schema", "schema: { required: [nobody_has_this] }")
    for _ in range(bench.options.rounds):
        with bench.agent() as agent:
            first = take("everything", agent, bench.seed(agent))
            first = take("unknown", agent, first, templates="unknown")
            first = take("nobody", agent, first, templates="nobody")
            first = take("repeated", agent, first, ids=16 * PEOPLE)
            # Once to everybody, so that their refusals are on record and only looked up after that.
            first = bench.load(agent, BATCHES, "events", PEOPLE, first, templates="denied")["next"]
            take("denied", agent, first, templates="denied")
        remove(agent)
        for stream, bundle in [("no schema", no_schema), ("bare", without(no_schema, "attributes"))]:
            with bench.agent(bundle) as agent:
                take(stream, agent, bench.seed(agent))
            remove(agent)
        for stream, bundle in [("unfit", dropping), ("unfit at once", at_once)]:
            with bench.agent(bundle) as agent:
                take(stream, agent, 0, templates="unfit")
            remove(agent)
        for stream, options in [("reference", []), ("reference without ids", ["without-dedup"])]:
            with bench.reference(*options) as reference:
                take(stream, reference, bench.seed(reference))
            remove(reference)
    return taken


# --- The report ----------------------------------------------------------------------------------------------------


def medians(turns):
    return {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}


def line(name, figures):
    return (f"  {name:10}{figures['events_per_second']:>10,.0f} events/s   p50 {figures['p50_ms']:6.2f} ms   "
            f"p99 {figures['p99_ms']:6.2f} ms   CPU {figures['cpu_us']:6.2f} us/event, writer {figures['writer_us']:6.2f}   "
            f"disk {figures['written_bytes']:6,.0f} bytes/event")


def report_throughput(turns):
    """Prints the table; returns {mode: {agent, reference, ratio}}."""
    report = {}
    for mode, of in turns.items():
        figures = {name: medians(of[name]) for name in of}
        ratio = statistics.median(
            a["events_per_second"] / r["events_per_second"] for a, r in zip(of["agent"], of["reference"]))
        print(f"{mode}: ratio {ratio:.2f}")
        print(line("C", figures["reference"]))
        print(line("Gatehouse", figures["agent"]))
        report[mode] = {**figures, "ratio": ratio}
    return report


def report_admission(taken):
    """Prints what the steps cost; returns the microseconds of schema, dedup and consent together."""
    def difference(more, less):
        return statistics.median(a - b for a, b in zip(taken[more], taken[less]))

    steps = {
        "identifier hashed and message id looked up": difference("repeated", "nobody"),
        "consent": difference("denied", "repeated"),
        "schema": difference("unfit", "unfit at once"),
        "message id kept (as the C program does)": difference("reference", "reference without ids"),
    }
    total = sum(steps.values())
    print("CPU, us/event in batches of 100: " + ", ".join(
        f"{stream} {statistics.median(of):.2f}" for stream, of in taken.items()))
    print(f"schema, dedup and consent {total:.2f}, of which " + ", ".join(
        f"{step} {cost:.2f}" for step, cost in steps.items()))
    print(f"events admitted cost {difference('everything', 'bare'):.2f} more than by a bundle without schema and attributes")
    return total


def missed(report, admission):
    """The promises that do not hold."""
    for mode in MODES[:2]:
        ratio = report[mode[0]]["ratio"]
        if ratio < RATIO:
            yield f"{mode[0]}: the ratio {ratio:.2f} is below {RATIO}"
    batches = report[BATCHES[0]]
    least = BATCH_EVENTS / BATCH_REFERENCE
    if batches["ratio"] < least:
        yield f"{BATCHES[0]}: the ratio {batches['ratio']:.2f} is below {least:.2f}"
    if admission is not None and admission > ADMISSION_MICROSECONDS:
        yield f"schema, dedup and consent cost {admission:.2f} us an event, more than {ADMISSION_MICROSECONDS}"


def main():
    parser = argparse.ArgumentParser(prog="Tools/bench ingest", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--load", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--binary", default=str(DEFAULT_BINARY), help="the agent to measure")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of both servers (5)")
    parser.add_argument("--seconds", type=float, default=2, help="length of a turn (2; at most 10)")
    parser.add_argument("--no-admission", action="store_true", help="leave out what the steps of admission cost")
    parser.add_argument("--require", action="store_true", help="fail when a promise does not hold")
    parser.add_argument("--smoke", action="store_true", help="one short turn each: shows that it works, no more")
    parser.add_argument("--json", help="write the figures into this file too")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.seconds = 1, 0.2
    options.seconds = min(options.seconds, 10)  # A turn of ten seconds leaves a store of a gigabyte or two.

    (TOP / ".build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-ingest-", dir=TOP / ".build") as name:
        folder = pathlib.Path(name)
        kind, sync = file_system(folder)
        bench = Bench(options, folder)
        bench.calibrate()
        print(f"{options.rounds} rounds, turns of {options.seconds:g} s, {bench.threads} serving threads and a writer on "
              f"{len(cores())} cores, the client on one of them; {PEOPLE:,} people, events of {bench.event_bytes:.0f} bytes, "
              f"records of {bench.profile_bytes}; {kind}, 4 KiB overwritten and synced in {sync:.2f} ms", flush=True)
        turns, memory, problems = measure_throughput(bench)
        report = report_throughput(turns)
        print(f"anonymous memory of the agent after it: {memory:,} KiB", flush=True)
        taken = None if options.no_admission else measure_admission(bench)
        admission = report_admission(taken) if taken else None
    if options.smoke:
        print("(a smoke run: too short for the figures to mean anything)")
    for problem in problems:
        print(f"the stores differ: {problem}", file=sys.stderr)
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(
            {"throughput": report, "admission_us": admission, "anonymous_kib": memory, "file_system": kind,
             "sync_ms": sync, "turns": turns, "stream_us": taken}, indent=1))
    if problems:
        sys.exit("bench: both must have written the same, else something else is measured")
    if options.require and (reasons := list(missed(report, admission))):
        sys.exit("bench: " + "; ".join(reasons))


if __name__ == "__main__":
    main()
