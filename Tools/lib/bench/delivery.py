"""How a backlog drains to a hub over TLS, and how soon an event of tier realtime is there although one waits. See Tools/bench.

Catch-up: the agent takes the events while nobody listens, starts anew, and delivers them to a sink in C (sink.c) that unpacks
each request and counts its messages. Decisions are asked at a steady pace before and during it, and so is a server in C that
gives one fixed answer (reference.c): while all cores are busy, whoever answers waits for one. The agent's own figures of
delivered events are held against what the sink has counted.

Real time: the same backlog, smaller, and a `gatehouse hub`. Events of tier realtime are sent one by one while it drains; the
time from their arrival at the agent to the hub's answer is the agent's own histogram.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import pathlib
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
from decisions import cores  # noqa: E402
from ingest import PEOPLE, write_templates  # noqa: E402

# What is promised: events a second, CPU of the agent for each, and the real-time row.
EVENTS_PER_SECOND, MICROSECONDS, REALTIME_MILLISECONDS = 80_000, 14.0, 300
# And how much longer a decision may take while it drains, as a multiple of what a fixed answer takes longer.
FLOOR_TIMES = 1.2

POLICY = """
decisions:
  offer:
    purpose: personalization
    variants: { none: 0, ten: 10 }
    default: none
    record: 0
    rules: [{ name: vip, when: profile.vip, serve: ten }]
destinations:
  hub: { url: "https://localhost:PORT/v1/batch", purpose: analytics, identifiers: [user_id] }
"""


def microseconds(process):
    """CPU of all threads of a process so far."""
    tasks = pathlib.Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000


def metric(agent, name):
    _, _, body = Connection(agent.url).ask("GET", "/metrics")
    return sum(float(line.rpartition(" ")[2]) for line in body.decode().splitlines() if line.startswith(name))


def queued(agent):
    return int(metric(agent, 'gatehouse_destination_events{destination="hub",state="queued"}'))


class Decisions:
    """Asks at a steady pace until `stop`, which returns the milliseconds of the answers. A process of its own: in a thread each
    answer would wait for what else Python does here."""

    def __init__(self, url, pace=200):
        self.ended = multiprocessing.Event()
        self.results, results = multiprocessing.Pipe(duplex=False)
        self.process = multiprocessing.Process(target=self.run, args=(url, 1 / pace, results), daemon=True)
        self.process.start()

    def run(self, url, pause, results):
        os.setsid()
        connection, milliseconds = Connection(url), []
        while not self.ended.is_set():
            body = json.dumps({"context": {"targetingKey": f"customer-{len(milliseconds) * 7919 % PEOPLE:08d}"}}).encode()
            begin = time.perf_counter()
            status, _, _ = connection.ask("POST", "/ofrep/v1/evaluate/flags/offer", body)
            taken = time.perf_counter() - begin
            if status != 200:
                raise RuntimeError(f"a decision was answered {status}")
            milliseconds.append(taken * 1000)
            time.sleep(max(0, pause - taken))
        results.send(milliseconds)

    def stop(self):
        self.ended.set()
        milliseconds = self.results.recv()
        self.process.join()
        return milliseconds


def give_way(process):
    """Makes a session nice, and as a group too where the kernel shares cores out to sessions (sched(7): autogroup)."""
    os.setpriority(os.PRIO_PROCESS, process, 19)
    group = pathlib.Path(f"/proc/{process}/autogroup")
    if group.exists():
        group.write_text("19")


def p99(values):
    return statistics.quantiles(values, n=100)[98] if len(values) > 1 else 0


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder = options, folder
        subprocess.run([TOP / "Tools/lib/make-keys", folder], check=True)
        self.event_bytes = write_templates(folder / "events")
        self.number = 0

    def agent(self, port, more=""):
        self.number += 1
        folder = self.folder / f"agent-{self.number}"
        folder.mkdir()
        bundle = (HERE / "ingest.yaml").read_text() + POLICY.replace("PORT", str(port))
        bundle = bundle.replace("events:\n", "events:\n  Alarm Raised: { purpose: analytics, tier: realtime, priority: 9 }\n", 1)
        (folder / "bundle.yaml").write_text(bundle)
        return Agent(folder, binary=self.options.binary, config={
            "bundle": {"file": str(folder / "bundle.yaml")}, "tls": {"ca": str(self.folder / "ca.pem")},
            "limits": {"disk": "32GiB"}})

    def load(self, agent, count):
        words = [self.options.load, agent.port, "/v1/batch", 8, 100, self.folder / "events", PEOPLE, 0, 0, "events", count]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"bench: the client ended with {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)["next"]

    def sink(self, port):
        words = [self.options.sink, port, self.folder / "hub.pem", self.folder / "hub.key"]
        process = subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True, start_new_session=True)
        # It stands for another machine: it is not to take cores from the agent, or from who asks it.
        give_way(process.pid)
        process.stdout.readline()
        return process

    @contextlib.contextmanager
    def floor(self):
        """The least that a server over epoll can do (reference.c), asked beside the agent: what it takes longer while the
        backlog drains, it waits for a core as whoever answers on this machine must. Yields its URL."""
        port = free_port()
        process = subprocess.Popen([self.options.reference, str(port)])
        try:
            time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()

    def catch_up(self, count):
        """Returns the figures of one backlog."""
        with self.floor() as floor:
            return self.catch_up_beside(floor, count)

    def catch_up_beside(self, floor, count):
        port = free_port()
        agent = self.agent(port)
        with agent:
            sent = self.load(agent, count)
            agent.stop()
        agent.start()
        try:
            # Nobody listens yet: the sender pauses, and decisions have the agent for themselves.
            decisions, others, begin = Decisions(agent.url), Decisions(floor), time.monotonic()
            while time.monotonic() - begin < self.options.quiet:
                time.sleep(2)
                queued(agent)
            before, floor_before = decisions.stop(), others.stop()
        finally:
            agent.stop()
        sink = self.sink(port)
        try:
            agent.start()
            used, begin = microseconds(agent.process), time.monotonic()
            waiting = last = queued(agent)
            decisions, others, memory = Decisions(agent.url), Decisions(floor), []
            while last > 0:
                # A look at /metrics takes a millisecond or two of a thread that answers: more rarely than each hundredth
                # decision, but for the end. A small backlog is all beginning and end.
                rest = last * (time.monotonic() - begin) / (waiting - last) if last < waiting else 0
                time.sleep(min(2, max(0.1, 0.8 * rest)) if waiting > 100_000 else 0.02)
                memory.append(process_memory_kib(agent.process.pid) or 0)
                last = queued(agent)
                if time.monotonic() - begin > 600:
                    sys.exit(f"bench: {last} events still wait after ten minutes:\n{agent.log_tail()}")
            seconds, used = time.monotonic() - begin, microseconds(agent.process) - used
            during, floor_during = decisions.stop(), others.stop()
            delivered = int(metric(agent, 'gatehouse_destination_events{destination="hub",state="delivered"}'))
            agent.stop()
        finally:
            agent.stop()
            sink.terminate()
            taken = json.loads(sink.communicate()[0])
        shutil.rmtree(agent.folder)
        if taken["messages"] != delivered or delivered != sent:
            sys.exit(f"bench: {sent} events sent, {delivered} delivered, {taken['messages']} at the sink")
        half = len(memory) // 2
        return {
            "events": waiting, "events_per_second": waiting / seconds, "cpu_us": used / waiting, "seconds": seconds,
            "events_per_request": taken["messages"] / taken["requests"],
            "wire_bytes": taken["packed_bytes"] / taken["messages"],
            "plain_bytes": taken["plain_bytes"] / taken["messages"],
            "memory_kib": max(memory), "memory_first_half_kib": max(memory[:half] or memory),
            "decision_p99_ms": p99(during), "decision_p99_before_ms": p99(before),
            "floor_p99_ms": p99(floor_during), "floor_p99_before_ms": p99(floor_before),
        }

    def real_time(self, count):
        """Returns the figures of events of tier realtime that come while a backlog drains to a hub."""
        hub = Agent(self.folder / "hub", binary=self.options.binary, command="hub", config={
            "tls": {"cert": str(self.folder / "hub.pem"), "key": str(self.folder / "hub.key")}, "limits": {"disk": "32GiB"}})
        agent = self.agent(hub.port)
        with agent:
            self.load(agent, count)
            agent.stop()
        with hub, agent:
            waiting = queued(agent)
            connection, milliseconds, left = Connection(agent.url), [], []
            for number in range(self.options.alarms):
                body = {"type": "track", "event": "Alarm Raised", "userId": f"customer-{number:08d}",
                        "messageId": f"alarm-{number}", "properties": {"number": number},
                        "context": {"consent": {"categoryPreferences": {"analytics": True}}}}
                begin = time.perf_counter()
                status, _, answer = connection.ask_json("POST", "/v1/track", body)
                milliseconds.append((time.perf_counter() - begin) * 1000)
                if status != 200:
                    sys.exit(f"bench: an event was answered {status}: {answer}")
                if number % 10 == 9:
                    left.append(queued(agent))
                time.sleep(0.01)
            time.sleep(1)
            prefix = 'gatehouse_destination_realtime_seconds_bucket{destination="hub",le="'
            _, _, page = Connection(agent.url).ask("GET", "/metrics")
            buckets = {line[len(prefix):].split('"')[0]: float(line.rpartition(" ")[2])
                       for line in page.decode().splitlines() if line.startswith(prefix)}
            total = buckets.pop("+Inf")
            bounds = [(float(bound) * 1000, many) for bound, many in buckets.items()]
            bound = {share: next((bound for bound, many in bounds if many >= share * total), float("inf"))
                     for share in (0.5, 0.99)}
            behind = sum(1 for rest in left if rest > 0) / len(left)
            agent.stop()
        shutil.rmtree(agent.folder)
        return {"backlog": waiting, "requests": total, "p50_ms_at_most": bound[0.5], "p99_ms_at_most": bound[0.99],
                "admission_p99_ms": p99(milliseconds), "share_with_backlog": behind}


def missed(catch_up, real_time):
    """The promises that do not hold."""
    if catch_up["events_per_second"] < EVENTS_PER_SECOND:
        yield f"{catch_up['events_per_second']:,.0f} events a second, fewer than {EVENTS_PER_SECOND:,}"
    if catch_up["cpu_us"] > MICROSECONDS:
        yield f"{catch_up['cpu_us']:.1f} us an event, more than {MICROSECONDS}"
    if (slower := catch_up["decision_p99_ms"] - catch_up["decision_p99_before_ms"]) > FLOOR_TIMES * max(
            0.05, catch_up["floor_p99_ms"] - catch_up["floor_p99_before_ms"]):
        yield f"decisions' p99 is {slower:.2f} ms longer than before, which is not what the machine makes of any server"
    if real_time["p99_ms_at_most"] > REALTIME_MILLISECONDS:
        yield f"tier realtime: p99 may be {real_time['p99_ms_at_most']:.0f} ms, more than {REALTIME_MILLISECONDS}"


def main():
    parser = argparse.ArgumentParser(prog="Tools/bench delivery", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sink", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--load", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--reference", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--binary", default=str(DEFAULT_BINARY), help="the agent to measure")
    parser.add_argument("--events", type=int, default=1_000_000, help="the backlog that drains (1,000,000)")
    parser.add_argument("--backlog", type=int, default=100_000, help="the one that realtime events overtake (100,000)")
    parser.add_argument("--alarms", type=int, default=300, help="events of tier realtime (300)")
    parser.add_argument("--quiet", type=float, default=10, help="seconds of decisions before it drains (10)")
    parser.add_argument("--require", action="store_true", help="fail when a promise does not hold")
    parser.add_argument("--smoke", action="store_true", help="a small backlog: shows that it works, no more")
    parser.add_argument("--json", help="write the figures into this file too")
    options = parser.parse_args()
    if options.smoke:
        options.events, options.backlog, options.alarms, options.quiet = 20_000, 5_000, 30, 1
    (TOP / ".build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-delivery-", dir=TOP / ".build") as name:
        bench = Bench(options, pathlib.Path(name))
        print(f"events of {bench.event_bytes:.0f} bytes, {len(cores())} cores for agent, sink and clients", flush=True)
        one = bench.catch_up(options.events)
        print(f"catch-up of {one['events']:,}: {one['events_per_second']:,.0f} events/s, {one['cpu_us']:.2f} us of the agent's "
              f"CPU each, {one['events_per_request']:.0f} a request, {one['wire_bytes']:.0f} bytes each on the wire "
              f"(of {one['plain_bytes']:.0f})")
        print(f"  anonymous memory {one['memory_kib']:,} KiB at most, {one['memory_first_half_kib']:,} in the first half; "
              f"decisions' p99 {one['decision_p99_ms']:.2f} ms, {one['decision_p99_before_ms']:.2f} before; a fixed answer's "
              f"{one['floor_p99_ms']:.2f} and {one['floor_p99_before_ms']:.2f}", flush=True)
        two = bench.real_time(options.backlog)
        print(f"real time ahead of {two['backlog']:,}: p50 at most {two['p50_ms_at_most']:.0f} ms, p99 at most "
              f"{two['p99_ms_at_most']:.0f} ms from arrival to the hub's answer, {two['requests']:.0f} requests; there was a "
              f"backlog for {two['share_with_backlog']:.0%} of them")
    if options.smoke:
        print("(a smoke run: too short for the figures to mean anything)")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"catch_up": one, "real_time": two}, indent=1))
    if options.require and (reasons := list(missed(one, two))):
        sys.exit("bench: " + "; ".join(reasons))


if __name__ == "__main__":
    main()
