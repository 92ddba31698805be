"""How long decisions take at 1, 16 and 64 connections with 10, 100 and 1,000 rules, with nothing else to do and while a
replay writes at full speed; and what one costs beside a C program that does the same (decision_reference.c). See
Tools/bench.

One client (wrk, a thread), one serving thread. With nothing else to do client and server each have a core where there are
two, as in Tools/bench http. The replay is a process of its own that sends events of the same people, which change their
profiles, in batches that are answered after the sync; then all of them (client, replay, and the agent's serving, preparing
and writing threads) share all cores, as they would on a device. The turns of all servers alternate within a round and go
backwards in every other one.
"""

import argparse
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))
from agent import DEFAULT_BINARY, Agent, Connection, free_port  # noqa: E402
from decisions import TICKS, cores, cpu_seconds, milliseconds, seed  # noqa: E402

FLAGS = "/ofrep/v1/evaluate/flags/"
RULES = {"checkout_offer": 10, "offer_100": 100, "offer_1000": 1000}
RECORDED = "offer_recorded"
CONNECTIONS = (1, 16, 64)
PEOPLE = 1000
# Of more people than that so many are asked for, evenly out of all: a turn does not come further, and wrk keeps every request.
ASKED_MOST = 100_000
FORM = "%08d"
REPLAY_CONNECTIONS, REPLAY_BATCH = 4, 100
# The promises: milliseconds at p99 with 16 connections, by whether a replay runs; and in the C program's CPU.
PROMISED = {False: 0.5, True: 1.0}
PROMISED_CPU = 1.2


# --- What is asked -------------------------------------------------------------------------------------------------


def varied(rule, number):
    """A rule of the same shape that holds for nobody either: its last constant is another."""
    *_, last = re.finditer(r'"([^"]*)"|(?<![\w.-])\d+(\.\d+)?', rule)
    text = last[0]
    if text.startswith('"'):
        other = f'{text[:-1]}-{number}"'
    else:
        other = str(float(text) + number) if "." in text else str(int(text) + number)
    return rule[:last.start()] + other + rule[last.end():]


def bundle():
    """rules.yaml; decisions of 100 and 1,000 rules of its shapes, of which the last holds, too; and its own with records."""
    text = (HERE / "rules.yaml").read_text()
    start = text.index("  checkout_offer:\n")
    own = text[start:]
    head = own[:own.index("      - { name: rule 1,")]
    whens = re.findall(r"when: '([^']*)'", own)
    parts = [text.rstrip("\n")]
    for key, count in RULES.items():
        if key == "checkout_offer":
            continue
        parts.append(head.replace("checkout_offer", key).rstrip("\n"))
        for number in range(1, count):
            when = varied(whens[(number - 1) % (len(whens) - 1)], number)
            parts.append(f"      - {{ name: rule {number}, serve: five, when: '{when}' }}")
        parts.append(f"      - {{ name: rule {count}, serve: ten, when: '{whens[-1]}' }}")
    parts.append(own.replace("checkout_offer", RECORDED).replace("    record: 0 ", "    record: 100 ").rstrip("\n"))
    return "\n".join(parts) + "\n"


def templates(path):
    """What the replay sends: four views of one product each, which change five attributes and no decision."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    context = {"consent": {"categoryPreferences": {"analytics": True, "personalization": True}},
               "library": {"name": "shop", "version": "4.2.0"}}
    lines = [json.dumps({
        "type": "track", "event": "Product Viewed", "messageId": "replay-" + "@" * 16, "userId": "customer-" + "#" * 8,
        "timestamp": when, "context": context,
        "properties": {"product_id": f"p-{number}", "category": f"c-{number % 2}", "shop": "berlin"}}, separators=(",", ":"))
        for number in range(4)]
    path.write_text("\n".join(lines) + "\n")


def ask(url, key, customer):
    body = json.dumps({"context": {"targetingKey": f"customer-{FORM % customer}"}}).encode()
    status, _, answer = Connection(url).ask("POST", FLAGS + key, body, {"Content-Type": "application/json"})
    if status != 200:
        sys.exit(f"bench: {key} was answered {status}: {answer.decode(errors='replace')}")
    return json.loads(answer), len(answer)


def check(url, keys):
    """Every tenth of the people must get what the last rule serves, else something cheaper is measured."""
    for customer in range(1, PEOPLE + 1, PEOPLE // 10):
        for key in keys:
            decision, _ = ask(url, key, customer)
            if decision.get("variant") != "ten":
                sys.exit(f"bench: customer-{FORM % customer} got {decision}, not the variant of the last rule")


# --- The servers ---------------------------------------------------------------------------------------------------


class Reference:
    """The C program, over a store of its own with the same people."""

    def __init__(self, program, folder, answer_bytes):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [program, str(self.port), str(folder), str(PEOPLE), "customer-" + FORM, str(answer_bytes)])

    def __enter__(self):
        # Ten million people are written first.
        end = time.monotonic() + 5 + PEOPLE / 50_000
        while time.monotonic() < end and self.process.poll() is None:
            try:
                Connection(self.url).open()
                return self
            except OSError:
                time.sleep(0.01)
        self.process.kill()
        sys.exit("bench: the reference does not listen")

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def allow(process, allowed):
    """Lets all threads of a process run on these cores."""
    for task in os.listdir(f"/proc/{process.pid}/task"):
        try:
            os.sched_setaffinity(int(task), allowed)
        except ProcessLookupError:
            pass


class Replay:
    """Events at full speed for a while."""

    def __init__(self, options, agent, path):
        self.options, self.agent, self.path, self.next = options, agent, path, 0

    def start(self, seconds):
        self.process = subprocess.Popen(
            [self.options.load, str(self.agent.port), "/v1/batch", str(REPLAY_CONNECTIONS), str(REPLAY_BATCH),
             str(self.path), str(PEOPLE), str(self.next), "0", "seconds", str(seconds)], stdout=subprocess.PIPE, text=True)

    def finish(self):
        """Waits for its end. Returns events a second."""
        if self.process.poll() is not None:
            self.process.communicate()
            sys.exit("bench: the replay was over before the turn was")
        output, _ = self.process.communicate(timeout=60)
        if self.process.returncode != 0:
            sys.exit("bench: the replay failed")
        figures = json.loads(output)
        self.next = figures["next"]
        return figures["events_per_second"]


class Others:
    """How much of the processors everything else on the machine takes: what that is, the figures are worth."""

    def __init__(self, processes):
        self.processes, self.begin = processes, time.monotonic()
        self.before = self._others()

    def _others(self):
        times = [int(word) for word in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        # User, nice, system, interrupts and what a hypervisor has taken; neither idle nor waiting.
        busy = (sum(times[:3]) + sum(times[5:8])) / TICKS
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return busy - ended.ru_utime - ended.ru_stime - sum(cpu_seconds(process) for process in self.processes)

    def cores(self):
        return (self._others() - self.before) / (time.monotonic() - self.begin)


def turn(url, process, key, connections, seconds, pin):
    """One turn of wrk; returns its figures."""
    prefix = ["taskset", "-c", str(cores()[-1])] if pin else []
    asked = min(PEOPLE, ASKED_MOST)
    before = cpu_seconds(process)
    output = subprocess.run(
        [*prefix, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(HERE / "decide.lua"),
         url + FLAGS + key, "--", str(asked), "customer-" + FORM, "1", str(PEOPLE), "0", str(PEOPLE // asked)],
        capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    cpu = cpu_seconds(process) - before
    if re.search(r"Non-2xx|Socket errors", output):
        sys.exit(f"bench: not every request was answered:\n{output}")
    requests = int(re.search(r"(\d+) requests in", output)[1])
    shares = {share: time for share, time in re.findall(r"^\s+(\d+)%\s+(\S+)\s*$", output, re.M)}
    if "50" not in shares or "99" not in shares:
        sys.exit(f"bench: wrk does not say how long {requests} requests took:\n{output}")
    return {
        "requests_per_second": requests / seconds,
        "p50_ms": milliseconds(shares["50"]),
        "p99_ms": milliseconds(shares["99"]),
        "cpu_us": cpu / requests * 1e6,
    }


# --- Rounds --------------------------------------------------------------------------------------------------------


def measure(options, agent, reference, replay):
    """Returns turns by (server, connections, whether a replay runs), events a second of each replay, and how many cores
    others took."""
    others = Others([agent.process, reference.process])
    turns, speeds = {}, []
    has_two = len(cores()) > 1
    for number in range(options.rounds):
        for is_busy in (False, True):
            pin = has_two and not is_busy
            for process in (agent.process, reference.process):
                allow(process, {cores()[0]} if pin else set(cores()))
            cells = []
            for connections in CONNECTIONS:
                cells.append(("C", reference.url, reference.process, "checkout_offer", connections))
                cells += [(key, agent.url, agent.process, key, connections) for key in RULES]
                if connections == 16 and not is_busy:
                    cells.append((RECORDED, agent.url, agent.process, RECORDED, connections))
            for name, url, process, key, connections in cells if number % 2 == 0 else cells[::-1]:
                if is_busy:
                    replay.start(options.seconds + 1.5)
                    time.sleep(0.3)
                turns.setdefault((name, connections, is_busy), []).append(
                    turn(url, process, key, connections, options.seconds, pin))
                if is_busy:
                    speeds.append(replay.finish())
    return turns, speeds, others.cores()


def of(turns, name, connections, is_busy, figure):
    return [one[figure] for one in turns[name, connections, is_busy]]


def ratio(turns, name):
    """CPU a request against the C program's, by round: the two turns ran within seconds of each other."""
    pairs = zip(of(turns, name, 16, False, "cpu_us"), of(turns, "C", 16, False, "cpu_us"))
    return statistics.median(mine / theirs for mine, theirs in pairs)


def report(options, turns, speeds, others):
    print(f"{options.rounds} rounds of {options.seconds} s turns, {PEOPLE} people, one serving thread, {len(cores())} cores "
          f"for server, client and replay together, of which others took {others:.2f}")
    print("p50 / p99 in ms, medians of the rounds; in brackets the worst p99. The replay writes "
          f"{statistics.median(speeds):,.0f} events a second ({min(speeds):,.0f} at least) over {REPLAY_CONNECTIONS} "
          f"connections, batches of {REPLAY_BATCH}")
    print(f"{'':24}" + "".join(f"{f'{connections} connections':>24}" for connections in CONNECTIONS))
    missed = []
    for is_busy in (False, True):
        print("while a replay writes" if is_busy else "with nothing else to do")
        for name in ("C", *RULES):
            label = "10 rules in C, LMDB" if name == "C" else f"Gatehouse, {RULES[name]:,} rules"
            cells = ""
            for connections in CONNECTIONS:
                p99 = of(turns, name, connections, is_busy, "p99_ms")
                p50 = statistics.median(of(turns, name, connections, is_busy, "p50_ms"))
                cells += f"{f'{p50:.2f} / {statistics.median(p99):.2f} ({max(p99):.2f})':>24}"
                if name != "C" and connections == 16 and statistics.median(p99) >= PROMISED[is_busy]:
                    when = "during a replay" if is_busy else "with nothing else to do"
                    missed.append(f"p99 {statistics.median(p99):.2f} ms with {RULES[name]:,} rules {when}, "
                                  f"not under {PROMISED[is_busy]}")
            print(f"  {label:22}{cells}")
    print("server CPU a request at 16 connections with nothing else to do, 10 rules")
    labels = {"C": "10 rules in C, LMDB", "checkout_offer": "Gatehouse", RECORDED: "Gatehouse, each recorded"}
    for name, label in labels.items():
        cpu = statistics.median(of(turns, name, 16, False, "cpu_us"))
        speed = statistics.median(of(turns, name, 16, False, "requests_per_second"))
        times = "" if name == "C" else f"   {ratio(turns, name):.2f} times the C program's"
        print(f"  {label:26}{cpu:6.2f} us   {speed:>9,.0f} requests a second{times}")
    if ratio(turns, "checkout_offer") > PROMISED_CPU:
        missed.append(f"CPU a request {ratio(turns, 'checkout_offer'):.2f} times the C program's, not {PROMISED_CPU} at most")
    return missed


def main():
    parser = argparse.ArgumentParser(prog="Tools/bench latency", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--load", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--binary", default=str(DEFAULT_BINARY), help="the agent to measure")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (5: six minutes)")
    parser.add_argument("--seconds", type=int, default=2, help="length of a turn (2)")
    parser.add_argument("--require", action="store_true", help="fail where the promises do not hold")
    parser.add_argument("--smoke", action="store_true", help="one short turn each: shows that it works, no more")
    parser.add_argument("--json", help="write the figures into this file too")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.seconds = 1, 1

    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as folder:
        folder = pathlib.Path(folder)
        (folder / "rules.yaml").write_text(bundle())
        templates(folder / "templates")
        config = {"bundle": {"file": str(folder / "rules.yaml")}, "threads": 1}
        with Agent(folder / "agent", binary=options.binary, config=config) as agent:
            seed(agent, PEOPLE, FORM)
            check(agent.url, [*RULES, RECORDED])
            _, answer_bytes = ask(agent.url, "checkout_offer", 1)
            with Reference(options.reference, folder / "reference", answer_bytes) as reference:
                check(reference.url, ["checkout_offer"])
                if (length := ask(reference.url, "checkout_offer", 1)[1]) != answer_bytes:
                    sys.exit(f"bench: the C program's answer has {length} bytes and not {answer_bytes}")
                turns, speeds, others = measure(options, agent, reference, Replay(options, agent, folder / "templates"))
            # What the replay wrote has changed profiles and no decision.
            check(agent.url, RULES)

    missed = report(options, turns, speeds, others)
    if options.smoke:
        print("(a smoke run: too short for the figures to mean anything)")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(
            {"turns": {f"{name}, {connections} connections{', replay' if busy else ''}": figures
                       for (name, connections, busy), figures in turns.items()},
             "replay_events_per_second": speeds, "cores_of_others": others,
             "cpu_ratio": ratio(turns, "checkout_offer"),
             "cpu_ratio_recorded": ratio(turns, RECORDED), "missed": missed}, indent=1))
    for words in missed:
        print(f"not as promised: {words}")
    if options.require and missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
