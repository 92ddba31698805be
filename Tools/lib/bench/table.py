"""One table: the agent beside what else could be had, each figure as a ratio to a reference that ran in the same minute
under the same client; and how each grows with its work. See Tools/bench.

A ratio is always of the agent to the reference, the way round that more is better: 2.0 is twice as fast, or half as large.
What cannot be had on this machine is left out with a line that says why.
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
import time
import types

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))
import delivery  # noqa: E402
import ingest  # noqa: E402
import latency  # noqa: E402
import profiles  # noqa: E402
import references  # noqa: E402
from agent import DEFAULT_BINARY, TOP, Agent, Connection, process_memory_kib  # noqa: E402
from decisions import cores, cpu_seconds, pinned, seed  # noqa: E402
from plots import plot  # noqa: E402
from start import start_once  # noqa: E402

KEY = "checkout_offer"
GATEHOUSE = "Gatehouse"


class Table:
    """Rows and curves as they come."""

    def __init__(self):
        self.rows, self.curves, self.missing = [], {}, []

    def row(self, section, what, unit, mine, reference, other, fewer=False, note="", pairs=None):
        """Adds a row. mine and other: figures in `unit`, None for what there is not. fewer: less of it is better. pairs: both
        figures of each round, of which the ratio is the median then: what else the machine did falls on both."""
        pairs = pairs or ([(mine, other)] if mine and other else [])
        ratio = statistics.median(b / a if fewer else a / b for a, b in pairs) if pairs else None
        self.rows.append({"section": section, "what": what, "unit": unit, "gatehouse": mine, "reference": reference,
                          "figure": other, "ratio": ratio, "note": note})
        print(f"  {what}: {figure(mine)} {unit}; {reference} {figure(other)}; ratio {figure(ratio)}", flush=True)

    def point(self, curve, series, x, y):
        self.curves.setdefault(curve, {}).setdefault(series, []).append((x, y))

    def miss(self, what, why):
        self.missing.append(f"{what}: {why}")
        print(f"  left out: {what}: {why}", flush=True)

    def markdown(self):
        lines = ["| | | Gatehouse | reference | | ratio |", "|---|---|---:|---|---:|---:|"]
        section = None
        order = list(dict.fromkeys(row["section"] for row in self.rows))
        for row in sorted(self.rows, key=lambda row: order.index(row["section"])):
            name = "" if row["section"] == section else f"**{row['section']}**"
            section = row["section"]
            unit = f" {row['unit']}" if row["unit"] else ""
            note = f" ({row['note']})" if row["note"] else ""
            lines.append(f"| {name} | {row['what']}{note} | {figure(row['gatehouse'])}{unit} | {row['reference']} | "
                         f"{figure(row['figure'])}{unit} | {figure(row['ratio'])} |")
        return "\n".join(lines + [f"\nLeft out: {line}" for line in self.missing])


def figure(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


CURVES = {
    "profiles": ("Decisions as profiles grow", "profiles in the store", "µs of CPU a decision"),
    "rules": ("Decisions as rules grow", "rules of the decision", "µs of CPU a decision"),
    "engines": ("Rules in engines", "rules, of which those that hold are counted", "ns a decision"),
    "connections": ("Decisions as connections grow", "connections", "requests a second"),
    "backlog": ("A backlog that drains", "events that wait", "events a second"),
}


# --- Decisions -----------------------------------------------------------------------------------------------------


def agent_of(folder, options, bundle=None, limits=None):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    (folder / "bundle.yaml").write_text(bundle or (HERE / "rules.yaml").read_text())
    config = {"bundle": {"file": str(folder / "bundle.yaml")}, "threads": 1, "limits": {"disk": "8GiB", **(limits or {})}}
    return Agent(folder, binary=options.binary, config=config, runner=pinned(cores()[0]))


def names(people):
    return [latency.FORM % number for number in range(1, people + 1)]


def others_cpu(server):
    return sum(cpu_seconds(process) for process in getattr(server, "others", ()))


def turn(server, options, connections=16, key=KEY):
    """One turn of wrk, with the CPU of all the server's processes."""
    before = others_cpu(server)
    figures = latency.turn(server.url, server.process, key, connections, options.seconds, len(cores()) > 1)
    requests = figures["requests_per_second"] * options.seconds
    figures["cpu_us"] += (others_cpu(server) - before) / requests * 1e6
    return figures


def rounds(servers, options, **more):
    """Turns of all servers, backwards in every other round. Returns {name: [figures]}."""
    turns = {name: [] for name in servers}
    for number in range(options.rounds):
        names = list(servers)
        for name in names if number % 2 == 0 else names[::-1]:
            turns[name].append(turn(servers[name], options, **more))
    return turns


def median(turns, name):
    return statistics.median(figures[name] for figures in turns)


def decisions(table, options, folder):
    print("decisions")
    with contextlib.ExitStack() as stack:
        agent = stack.enter_context(agent_of(folder / "agent", options))
        seed(agent, latency.PEOPLE, latency.FORM)
        latency.check(agent.url, [KEY])
        decision, size = latency.ask(agent.url, KEY, 1)
        text = json.dumps(decision, separators=(",", ":"))
        path = latency.FLAGS + KEY
        servers = {GATEHOUSE: agent}

        def add(name, make):
            try:
                server = stack.enter_context(make())
                # What does not know the person serves less than it should.
                if name not in ("a fixed answer in C", "nginx, a constant"):
                    latency.check(server.url, [KEY])
                # Each serves from the same core, and the client has the other.
                if len(cores()) > 1:
                    latency.allow(server.process, {cores()[0]})
                servers[name] = server
            except (OSError, RuntimeError, SystemExit) as error:
                table.miss(name, error)

        add("a fixed answer in C", lambda: Fixed(options.fixed, text))
        add("C with LMDB and the same rules", lambda: latency.Reference(options.decision, folder / "lmdb", size))
        add("nginx, a constant", lambda: references.Nginx(folder / "nginx", path, constant=text, runner=pinned(cores()[0])))
        try:
            redis = stack.enter_context(references.Redis(folder / "redis", runner=pinned(cores()[0])))
            references.write_profiles(redis, names(latency.PEOPLE), int(time.time()) - 60)
            add("nginx with Lua over Redis",
                lambda: references.Nginx(folder / "lua", path, redis=redis, runner=pinned(cores()[0])))
        except (OSError, RuntimeError) as error:
            table.miss("nginx with Lua over Redis", error)
        turns = rounds(servers, options)
        for what, unit, measure in [("requests a second, 16 connections, 10 rules", "", "requests_per_second"),
                                    ("CPU of the server each", "µs", "cpu_us"), ("p99", "ms", "p99_ms")]:
            for name in servers:
                if name != GATEHOUSE:
                    pairs = [(mine[measure], other[measure]) for mine, other in zip(turns[GATEHOUSE], turns[name])]
                    table.row("Decisions over HTTP", what, unit, median(turns[GATEHOUSE], measure), name,
                              median(turns[name], measure), fewer=measure != "requests_per_second", pairs=pairs)
        for connections in options.connections:
            for name in list(servers):
                try:
                    of = [turn(servers[name], options, connections=connections) for _ in range(options.rounds)]
                    table.point("connections", name.removesuffix(" and the same rules"), connections,
                                median(of, "requests_per_second"))
                except SystemExit as error:
                    table.miss(f"{name}, {connections} connections", " ".join(str(error).split()))


class Fixed:
    """The fixed answer in C."""

    def __init__(self, program, answer):
        from decisions import start_reference
        self.process, self.url = start_reference(program, answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


# --- Rules ---------------------------------------------------------------------------------------------------------


def rules(table, options, folder):
    print("rules")
    report = folder / "cel.json"
    length = ["--smoke"] if options.smoke else ["--rounds", "5"]
    done = subprocess.run([TOP / "Tools/bench", "cel", *length, "--json", report], capture_output=True, text=True)
    if done.returncode != 0:
        return table.miss("rules", done.stderr.strip()[-200:])
    mine = {}
    for row in json.loads(report.read_text()):
        found = re.match(r"(\d+) common rules(.*)$", row["what"])
        if found and "texts" in found[2]:
            mine[int(found[1])] = row
    words = [sys.executable, "-B", HERE / "engines.py", "--milliseconds", "20" if options.smoke else "500"]
    done = subprocess.run([*words, "--sizes", ",".join(map(str, sorted(mine)))], capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode != 0:
        table.miss("engines", done.stderr.strip()[-200:])
    for size, row in sorted(mine.items()):
        table.point("engines", GATEHOUSE, size, row["ns"])
        table.point("engines", "hand-written C", size, row["c"])
        table.row("Rules", f"{size:,} rules, those that hold counted", "ns", row["ns"], "hand-written C", row["c"],
                  fewer=True)
    for line in lines:
        if "why" in line:
            table.miss(f"{line['engine']}, {line['rules']} rules", line["why"])
            continue
        table.point("engines", line["engine"], line["rules"], line["ns"])
        table.row("Rules", f"{line['rules']:,} rules, those that hold counted", "ns", mine[line["rules"]]["ns"],
                  line["engine"], line["ns"], fewer=True, note="by its Python package, which takes the person over at each call")


# --- Durable ingest ------------------------------------------------------------------------------------------------


def durable(table, options, folder):
    print("durable ingest")
    settings = types.SimpleNamespace(reference=options.ingest, load=options.load, binary=options.binary,
                                     rounds=options.rounds, seconds=options.seconds)
    bench = ingest.Bench(settings, folder)
    bench.calibrate()
    turns, _, problems = ingest.measure_throughput(bench)
    for problem in dict.fromkeys(problems):
        table.miss("ingest", f"the stores differ: {problem}")
    event = (folder / "events").read_text().splitlines()[0].encode()
    sqlite = {1: [], 100: []}
    redis = {16: [], 64: []}
    for _ in range(options.rounds):
        for batch in sqlite:
            sqlite[batch].append(references.sqlite_events(folder / "sqlite", event, options.seconds, batch))
        for connections in redis:
            try:
                count = 2000 if options.smoke else 20_000 * options.seconds
                redis[connections].append(references.redis_events(folder / "redis-durable", event, int(count), connections))
            except (OSError, subprocess.CalledProcessError, RuntimeError) as error:
                table.miss(f"Redis, {connections} connections", error)
    section = "Durable ingest, events a second"
    for mode in ingest.MODES:
        mine, other = (statistics.median(of["events_per_second"] for of in turns[mode[0]][name])
                       for name in ("agent", "reference"))
        table.row(section, mode[0], "", mine, "C with LMDB", other)
        batch = mode[3]
        table.row(section, mode[0], "", mine, f"SQLite, WAL, synchronous=FULL, {batch} a transaction",
                  statistics.median(sqlite[batch]), note="in its own process, without HTTP")
        if batch == 1 and redis[mode[2]]:
            table.row(section, mode[0], "", mine, "Redis, appendfsync always", statistics.median(redis[mode[2]]),
                      note="redis-benchmark, a stream")
    one = turns[ingest.MODES[1][0]]
    mine, other = (statistics.median(of["written_bytes"] for of in one[name]) for name in ("agent", "reference"))
    table.row("What it takes", "bytes given to write calls for an event, 64 connections", "", mine, "C with LMDB", other,
              fewer=True)


# --- Delivery ------------------------------------------------------------------------------------------------------


def drained(table, options, folder):
    print("delivery")
    settings = types.SimpleNamespace(sink=options.sink, load=options.load, reference=options.fixed, binary=options.binary, quiet=1, alarms=1)
    bench = delivery.Bench(settings, folder)
    event = (folder / "events").read_text().splitlines()[0].encode()
    for count in options.backlogs:
        mine = bench.catch_up(count)
        table.point("backlog", GATEHOUSE, count, mine["events_per_second"])
        try:
            other = references.rsyslog_drain(folder / f"rsyslog-{count}", folder, event, count)
        except (OSError, RuntimeError) as error:
            table.miss(f"rsyslog, a backlog of {count:,}", error)
            continue
        table.point("backlog", "rsyslog", count, other["events_per_second"])
        note = "a disk-assisted queue that is not synced, omfwd over TLS"
        if count < 10_000 and not options.smoke:
            continue  # The agent's time is from its start; what that takes tells in the curve.
        table.row("Delivery", f"a backlog of {count:,} drains, events a second", "", mine["events_per_second"], "rsyslog",
                  other["events_per_second"], note=note)
        table.row("Delivery", f"CPU an event, a backlog of {count:,}", "µs", mine["cpu_us"], "rsyslog", other["cpu_us"],
                  fewer=True, note=note)


# --- What it takes -------------------------------------------------------------------------------------------------


def memory(process):
    """Resident and proportional set of a process, KiB."""
    text = pathlib.Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    return {name: int(re.search(rf"^{name}:\s+(\d+)", text, re.M)[1]) for name in ("Rss", "Pss")}


def idle_cpu(processes, seconds):
    """CPU of processes that nobody asks, microseconds a second."""
    before = sum(delivery.microseconds(process) for process in processes)
    time.sleep(seconds)
    return (sum(delivery.microseconds(process) for process in processes) - before) / seconds


def wait_for_rows(agent, seconds=120):
    """Once an agent has started it looks at every row of its store, once; what is measured here is how it is after that."""
    connection, end = Connection(agent.url), time.monotonic() + seconds
    while b"\ngatehouse_store_checked_age_seconds " not in connection.ask("GET", "/metrics")[2]:
        if time.monotonic() > end:
            sys.exit(f"bench: the agent has not looked at all rows of its store in {seconds} s: {agent.log_tail()}")
        time.sleep(0.2)
    connection.close()


def taken(table, options, folder):
    """Size, memory, idling and starting, beside nginx with Lua over Redis with the same people."""
    print("what it takes")
    section, name = "What it takes", "nginx with Lua over Redis"
    people = options.people
    own_size = pathlib.Path(options.binary).stat().st_size / 1024
    with contextlib.ExitStack() as stack:
        agent = agent_of(folder / "size", options)
        stack.enter_context(agent)
        seed(agent, people, latency.FORM)
        agent.stop()
        starts = []
        for _ in range(5 if options.smoke else 20):
            seconds, _ = start_once(agent, lambda: latency.ask(agent.url, KEY, 1))
            starts.append(seconds * 1000)
            agent.stop()
        agent.start()
        latency.ask(agent.url, KEY, 1)
        wait_for_rows(agent)
        time.sleep(1)
        mine = memory(agent.process)
        anonymous = process_memory_kib(agent.process.pid)
        idle = idle_cpu([agent.process], options.idle)
        try:
            redis = stack.enter_context(references.Redis(folder / "size-redis"))
            references.write_profiles(redis, names(people), int(time.time()) - 60)
            nginx = stack.enter_context(references.Nginx(folder / "size-nginx", latency.FLAGS + KEY, redis=redis))
            latency.ask(nginx.url, KEY, 1)
            others = [memory(process) for process in (nginx.process, redis.process)]
            other = {key: sum(of[key] for of in others) for key in mine}
            other_idle = idle_cpu([nginx.process, redis.process], options.idle)
            files = [references.REDIS, references.UNPACKED / "nginx/usr/sbin/nginx",
                     references.UNPACKED / "libnginx-mod-http-lua/usr/lib/nginx/modules/ngx_http_lua_module.so"]
            size = sum(file.stat().st_size for file in files) / 1024
        except (OSError, RuntimeError) as error:
            table.miss(name, error)
            other, other_idle, size = {"Rss": None, "Pss": None}, None, None
    table.row(section, "the program", "KiB", own_size, name, size, fewer=True, note="theirs without shared libraries")
    table.row(section, f"resident set, idle with {people:,} profiles", "KiB", mine["Rss"], name, other["Rss"], fewer=True)
    table.row(section, f"proportional set, idle with {people:,} profiles", "KiB", mine["Pss"], name, other["Pss"], fewer=True)
    table.row(section, "anonymous memory of that", "KiB", anonymous, "the promise", 4096, fewer=True)
    table.row(section, f"exec to the first decision, {people:,} profiles, median", "ms", statistics.median(starts),
              "the promise", 50, fewer=True)
    table.row(section, "CPU while nobody asks, of a second", "µs", idle, name, other_idle, fewer=True)


# --- As it grows ---------------------------------------------------------------------------------------------------


def grown_profiles(table, options, folder):
    print("profiles")
    if options.full:
        report = folder / "profiles.json"
        done = subprocess.run([TOP / "Tools/bench", "profiles", "--json", report], capture_output=True, text=True)
        if done.returncode == 0:
            stores = json.loads(report.read_text())["without_limit"]
            table.row("As it grows", "p50 of a decision, ten million profiles", "ms", stores["large"]["p50_ms"],
                      "ten thousand, the same agent", stores["small"]["p50_ms"], fewer=True)
        else:
            table.miss("ten million profiles", done.stderr.strip()[-200:])
    for people in options.profiles:
        latency.PEOPLE = people
        place = folder / f"profiles-{people}"
        agent = written_agent(place, options, people) if people >= WRITTEN else agent_of(place, options)
        if people >= WRITTEN:
            starts = []
            for _ in range(10):
                starts.append(start_once(agent, lambda: latency.ask(agent.url, KEY, 1))[0] * 1000)
                agent.stop()
            table.row("As it grows", f"exec to the first decision, {people:,} profiles, median", "ms",
                      statistics.median(starts), "the promise", 50, fewer=True)
        with agent:
            if people < WRITTEN:
                seed(agent, people, latency.FORM)
            figures = [turn(agent, options) for _ in range(options.rounds)]
            table.point("profiles", GATEHOUSE, people, median(figures, "cpu_us"))
            size = latency.ask(agent.url, KEY, 1)[1]
            with latency.Reference(options.decision, folder / f"lmdb-{people}", size) as reference:
                if len(cores()) > 1:
                    latency.allow(reference.process, {cores()[0]})
                others = [turn(reference, options) for _ in range(options.rounds)]
            table.point("profiles", "C with LMDB", people, median(others, "cpu_us"))
            table.row("As it grows", f"CPU of a decision, {people:,} profiles", "µs", median(figures, "cpu_us"),
                      "C with LMDB", median(others, "cpu_us"), fewer=True)
        for place in (place, folder / f"lmdb-{people}"):
            shutil.rmtree(place)


# From so many profiles on they are not sent, but written by ProfileBench.
WRITTEN = 1_000_000


def written_agent(folder, options, people):
    folder.mkdir()
    options.seed = TOP / ".build/x86_64/ProfileBench"
    store = profiles.Store(options, folder, people)
    store.seed()
    store.warm()
    return store.agent()


def rules_bundle(count):
    """rules.yaml with one decision of so many rules of its shapes, of which the last holds."""
    latency.RULES = {KEY: 10, "grown": count}
    return latency.bundle()


def grown_rules(table, options, folder):
    print("rules of a decision")
    first = None
    for count in options.rules:
        with agent_of(folder / f"rules-{count}", options, rules_bundle(count)) as agent:
            seed(agent, latency.PEOPLE, latency.FORM)
            latency.check(agent.url, ["grown"])
            cost = median([turn(agent, options, key="grown") for _ in range(options.rounds)], "cpu_us")
        table.point("rules", GATEHOUSE, count, cost)
        first = first or (count, cost)
        table.row("As it grows", f"CPU of a decision, rules: {count:,}", "µs", cost, f"{first[0]:,}, the same agent",
                  first[1], fewer=True)


# --- All together --------------------------------------------------------------------------------------------------


PARTS = {"decisions": decisions, "rules": rules, "ingest": durable, "delivery": drained, "size": taken,
         "profiles": grown_profiles, "grown-rules": grown_rules}


def main():
    parser = argparse.ArgumentParser(prog="Tools/bench table", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("fixed", "decision", "ingest", "load", "sink"):
        parser.add_argument(f"--{name}", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--binary", default=str(DEFAULT_BINARY), help="the agent to measure")
    parser.add_argument("--only", action="append", choices=PARTS, help="one part (all)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server (5)")
    parser.add_argument("--seconds", type=int, default=2, help="length of a turn (2)")
    parser.add_argument("--full", action="store_true", help="a million events of backlog and ten million profiles too")
    parser.add_argument("--smoke", action="store_true", help="short and small: shows that it works, no more")
    parser.add_argument("--json", help="write the figures into this file too")
    parser.add_argument("--plots", help="write the curves into this folder, each an SVG file")
    options = parser.parse_args()
    options.connections, options.profiles = [1, 4, 16, 64, 256, 1000], [1000, 10_000, 100_000]
    options.rules, options.backlogs = [1, 10, 100, 1000, 10_000], [1000, 10_000, 100_000]
    options.people, options.idle = 10_000, 20
    if options.full:
        options.backlogs.append(1_000_000)
        options.profiles += [1_000_000, 10_000_000]
    if options.smoke:
        options.rounds, options.seconds, latency.PEOPLE, options.people, options.idle = 1, 1, 50, 200, 2
        options.connections, options.profiles, options.rules, options.backlogs = [1, 1000], [50, 500], [1, 100], [2000]

    table, people = Table(), latency.PEOPLE
    (TOP / ".build").mkdir(exist_ok=True)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-table-", dir=TOP / ".build") as name:
        for part in options.only or PARTS:
            folder = pathlib.Path(name) / part
            folder.mkdir()
            try:
                PARTS[part](table, options, folder)
            except (Exception, SystemExit) as error:
                # An hour of figures is not to be lost for one that cannot be had, whatever it is.
                table.miss(part, f"{type(error).__name__}: {' '.join(str(error).split())}")
            latency.PEOPLE = people
    print(f"\n{options.rounds} turns of {options.seconds} s each on {len(cores())} cores, {time.strftime('%Y-%m-%d')}, "
          f"in {time.monotonic() - begin:.0f} s; ratios above 1 are the agent's favour\n")
    print(table.markdown())
    if options.plots:
        os.makedirs(options.plots, exist_ok=True)
        for curve, series in table.curves.items():
            title, across, up = CURVES[curve]
            (pathlib.Path(options.plots) / f"{curve}.svg").write_text(plot(title, across, up, series))
            print(f"{options.plots}/{curve}.svg")
    if options.smoke:
        print("(a smoke run: too short for the figures to mean anything)")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(
            {"rows": table.rows, "curves": table.curves, "left_out": table.missing}, indent=1))


if __name__ == "__main__":
    main()
