"""A long time at a steady load, with everything that happens on a device in between: `Tools/torture soak`.

Events and decisions come at the same pace from the beginning to the end; beside them bundles are switched, people are erased,
revoke and come back, profiles are evicted, clients come and go, and the hub is away, hangs or is killed. What is looked at all
along (memory, descriptors, what the data folder takes, the decisions' p99) must be at the end what it was at the beginning; each
event must be accounted for, at the agent and at the hub.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import queue
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE.parent)]

from agent import Agent, Connection, accounts, imbalance, process_memory_kib, samples  # noqa: E402
from device import CONSENT, SHOP, Broken, chance_of, check, event  # noqa: E402

REGULARS = [f"regular-{number}" for number in range(20)]
# More people come than are remembered; who they are, and what they have chosen, is.
PROFILES, GUESTS = 3000, 6000
# With all message ids that are remembered the store takes 60 MiB: what waits for a hub that is away has room, too.
SETTINGS = {"limits": {"disk": "96MiB", "history": "4MiB", "profiles": PROFILES}, "threads": 2}

VIEW = {"event": "Product Viewed", "properties": {"product_id": "p-1", "category": "lamps"}}


class Pace:
    """How often things happen, seconds; all of it in less than a minute with --smoke."""

    def __init__(self, smoke):
        self.batch, self.batch_events = 1 / 30, 10
        self.decision = 1 / 100
        self.person, self.switch, self.outage, self.look = (0.25, 3, 9, 1) if smoke else (2, 20, 150, 5)
        self.away = 2 if smoke else 30


def shop(version, port):
    """The shop's rules, for a hub at that port."""
    text = SHOP.read_text().replace("https://localhost:8471/", f"https://localhost:{port}/")
    text, count = re.subn(r"^version: \d+", f"version: {version}", text, flags=re.M)
    check(count == 1, "the sample bundle has no version")
    return text


class Soak:
    def __init__(self, folder, options):
        self.folder, self.options, self.pace = pathlib.Path(folder), options, Pace(options.smoke)
        self.stopping, self.problems, self.lock = threading.Event(), [], threading.Lock()
        keys = self.folder / "keys"
        subprocess.run([HERE.parent / "make-keys", keys], check=True, capture_output=True)
        tls = {"cert": str(keys / "hub.pem"), "key": str(keys / "hub.key"), "ca": str(keys / "ca.pem")}
        self.authority = str(keys / "ca.pem")
        self.hub = Agent(self.folder / "hub", command="hub", config={
            "tls": tls, "device": "hub", "limits": {"history": "4MiB"}, "threads": 1})
        self.bundle = self.folder / "bundle.yaml"
        self.version = 2
        self.bundle.write_text(shop(self.version, self.hub.port))
        self.agent = Agent(self.folder / "agent", config={
            **SETTINGS, "device": "soaked", "tls": {"ca": tls["ca"]}, "bundle": {"file": str(self.bundle)}})
        # What clients were told, to be held against the accounts.
        self.acknowledged = self.again = self.erased = self.changed = self.switches = self.clients = 0
        self.orders = dict.fromkeys(REGULARS, 0)
        self.outages = {"killed": 0, "stopped": 0}
        self.looks = []
        self.failed = None

    # MARK: What happens

    def every(self, seconds, act):
        """Runs `act` at a steady pace until the end, and takes note of what goes wrong."""
        def run():
            due = time.monotonic() + seconds
            while not self.stopping.wait(max(0, due - time.monotonic())):
                try:
                    act()
                except Exception as problem:  # whatever it is, the hour goes on
                    with self.lock:
                        self.problems.append(f"{act.__name__}: {type(problem).__name__}: {problem}")
                due = max(due + seconds, time.monotonic() - 5)
        return threading.Thread(target=run, daemon=True)

    def write(self):
        chance, number = self.chance, self.acknowledged
        people = [chance.choice(REGULARS) if chance.random() < 0.3 else f"guest-{chance.randrange(GUESTS)}"
                  for _ in range(self.pace.batch_events)]
        # What the regulars order goes at once, and half of what the others do may wait.
        batch = [event(who, f"{number}-{place}", **({} if who in self.orders or place % 2 else VIEW))
                 for place, who in enumerate(people)]
        status = 503
        while status == 503 and not self.stopping.is_set():
            status, _, answer = self.writer.ask_json("POST", "/v1/batch", {"batch": batch})
            if status == 503:
                self.again += 1
                time.sleep(0.1)
        if status == 503:
            return
        check(status == 200 and "refused" not in answer, f"{status} {answer}")
        self.acknowledged += len(batch)
        for who in people:
            if who in self.orders:
                self.orders[who] += 1

    def person(self):
        """Somebody comes, revokes, comes back, and is erased."""
        who = f"person-{self.erased}"
        path = f"/v1/profiles/user_id:{who}"
        steps = [("POST", "/v1/track", event(who, f"{who}-0")), ("PUT", f"{path}/consent", {"analytics": False}),
                 ("PUT", f"{path}/consent", {"analytics": True}), ("DELETE", path, None)]
        for method, target, value in steps:
            status, _, answer = self.privacy.ask_json(method, target, value)
            check(status in (200, 202), f"{method} {target}: {status} {answer}")
        self.erased += 1

    def switch(self):
        self.version += 1
        replacement = self.bundle.with_suffix(".new")
        replacement.write_text(shop(self.version, self.hub.port))
        os.replace(replacement, self.bundle)
        self.agent.process.send_signal(signal.SIGHUP)
        self.switches += 1

    def visit(self):
        """Clients that come, ask for something and go."""
        for _ in range(5):
            connection = Connection(self.agent.url, 10)
            status, _, _ = connection.ask("GET", "/readyz")
            connection.close()
            check(status == 200, f"{status} for /readyz")
            self.clients += 1

    def outage(self):
        """The hub is killed or hangs, in turns."""
        if sum(self.outages.values()) % 2 == 0:
            self.hub.kill()
            self.stopping.wait(self.pace.away)
            self.hub.start()
            self.outages["killed"] += 1
        else:
            self.hub.process.send_signal(signal.SIGSTOP)
            self.stopping.wait(self.pace.away)
            self.hub.process.send_signal(signal.SIGCONT)
            self.outages["stopped"] += 1

    def look(self):
        process = self.agent.process.pid
        data = self.folder / "agent" / "data"
        times = sorted(self.take_times())
        self.looks.append({
            "at": time.monotonic(), "anonymous": process_memory_kib(process),
            "descriptors": len(os.listdir(f"/proc/{process}/fd")),
            "disk": (data / "data.mdb").stat().st_blocks / 2,
            "p50": times[len(times) // 2] if times else None, "p99": times[len(times) * 99 // 100] if times else None,
            "decisions": len(times), "events": self.acknowledged,
        })

    def take_times(self, seconds=0):
        """The milliseconds of decisions since the last call; waits so long for what is still to come."""
        times = []
        while True:
            try:
                found = self.times.get(timeout=seconds) if seconds else self.times.get_nowait()
            except queue.Empty:
                return times
            if isinstance(found, int):
                self.failed = found
                return times
            times += found

    # MARK: All of it

    def run(self, seconds):
        self.seconds = seconds
        self.hub.start()
        self.agent.start()
        self.chance = chance_of(self.options.seed, "soak")
        self.writer, self.privacy = Connection(self.agent.url, 30), Connection(self.agent.url, 30)
        self.times, ending = multiprocessing.Queue(), multiprocessing.Event()
        asker = multiprocessing.Process(target=ask, args=(self.agent.url, self.pace.decision, self.times, ending), daemon=True)
        lanes = [self.every(pace, act) for pace, act in (
            (self.pace.batch, self.write), (self.pace.person, self.person), (self.pace.switch, self.switch),
            (self.pace.switch, self.visit), (self.pace.outage, self.outage), (self.pace.look, self.look))]
        asker.start()
        for lane in lanes:
            lane.start()
        begin, told = time.monotonic(), 0
        while time.monotonic() - begin < seconds and not self.stopping.wait(1):
            check(self.agent.process.poll() is None, f"the agent has ended: {self.agent.log_tail()}")
            if (time.monotonic() - begin) * 10 // seconds > told:
                told += 1
                self.tell(f"{(time.monotonic() - begin) / 60:5.1f} min", self.looks[-max(1, len(self.looks) // told):])
        self.stopping.set()
        ending.set()
        for lane in lanes:
            lane.join()
        while self.failed is None and self.take_times(5):
            pass
        asker.join(5)
        if self.failed != 0:
            self.problems.append(f"{self.failed} decisions failed")

    def tell(self, what, looks):
        row = {name: statistics.median(look[name] for look in looks if look[name] is not None)
               for name in ("anonymous", "descriptors", "disk", "p50", "p99")}
        print(f"{what}  {self.acknowledged:>9,} events  {row['anonymous']:>6,.0f} KiB anonymous  {row['descriptors']:>3.0f} "
              f"descriptors  {row['disk'] / 1024:>6.1f} MiB on disk  p50 {row['p50']:.2f} ms  p99 {row['p99']:.2f} ms", flush=True)

    def settle(self):
        """Waits until the hub has everything."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            events, destinations = self.terms(self.agent)
            if destinations["hub"]["queued"] == 0:
                return events, destinations["hub"]
            time.sleep(0.2)
        raise Broken(f"after two minutes {destinations['hub']['queued']} events still wait for the hub")

    def terms(self, node):
        connection = Connection(node.url, 30, ca=self.authority)
        status, _, page = connection.ask("GET", "/metrics")
        connection.close()
        check(status == 200, f"{status} for /metrics")
        metrics = samples(page.decode())
        terms = accounts(metrics)
        problem = imbalance(*terms)
        check(problem is None, f"the accounts do not hold: {problem}")
        self.metrics = metrics
        return terms

    def outcomes(self):
        """(what, whether it holds, what was seen) of everything that was promised."""
        problems = self.problems
        yield ("nothing was refused, and no decision failed", not problems and not self.again,
               f"{len(problems)} problems: {problems[:3]}; {self.again} requests answered 503")
        events, hub = self.settle()
        evicted = self.metrics.get("gatehouse_profiles_evicted_total", 0)
        end = time.monotonic() + 20
        while self.metrics["gatehouse_bundle_version"] != self.version and time.monotonic() < end:
            time.sleep(0.2)
            self.terms(self.agent)
        version = self.metrics["gatehouse_bundle_version"]
        sent = self.acknowledged + self.erased
        # Everybody has granted what their events need, and no id comes twice.
        yield ("each acknowledged event is admitted", events["received"] == events["admitted"] == sent,
               f"{sent:,} acknowledged, {events['received']:,} received; {events}")
        nominal = self.seconds / self.pace.batch * self.pace.batch_events
        yield ("the pace was kept", self.acknowledged > nominal * (0.5 if self.options.smoke else 0.9),
               f"{self.acknowledged:,} of {nominal:,.0f} events")
        arrived, _ = self.terms(self.hub)
        # What the hub took and could not say, and was revoked or erased before it was sent again, is there besides.
        more = hub["filtered"] + hub["erased"]
        strange = {"refused": arrived["refused"], "evicted": hub["evicted"], "expired": hub["expired"]}
        yield ("each delivered event is at the hub, once",
               hub["delivered"] <= arrived["admitted"] <= hub["delivered"] + more and not any(strange.values()),
               f"{hub['delivered']:,} delivered, {arrived['admitted']:,} admitted there, {arrived['duplicate']:,} came again; "
               f"{more:,} were revoked or erased before they left; {strange}")
        wrong = []
        for who, count in self.orders.items():
            _, _, answer = self.privacy.ask_json("GET", f"/v1/profiles/user_id:{who}")
            if (answer or {}).get("attributes", {}).get("orders") != count:
                wrong.append(f"{who}: {count} in {answer}")
        yield "profiles count what was acknowledged", not wrong, f"{len(REGULARS)} looked at; {wrong[:1]}"
        yield ("the last bundle is in force", version == self.version, f"version {version:.0f} after {self.switches} switches")
        yield ("all of it has happened", evicted > 0 and min(*self.outages.values(), self.erased, self.switches) > 0,
               f"{self.switches} switches, {self.erased} people erased, {evicted:,.0f} evicted, the hub {self.outages['killed']} "
               f"times killed and {self.outages['stopped']} times stopped, {self.clients} clients")
        fifth = max(1, len(self.looks) // 5)
        second, fourth, last = (self.looks[from_ * fifth:][:fifth] for from_ in (1, 3, 4))
        bounds = {"anonymous": (1.10, 128, "KiB anonymous"), "descriptors": (1, 3, "descriptors"),
                  "disk": (1.10, 512, "KiB on the disk"), "p99": (1.5, 0.3, "ms p99")}
        for name, (share, more, unit) in bounds.items():
            # At this pace 500,000 message ids, of which a repeat is known, are there after half an hour.
            first = fourth if name == "disk" else second
            before, after = (statistics.median(look[name] for look in part if look[name] is not None) for part in (first, last))
            # In so short a time nothing has come to rest but descriptors.
            holds = self.options.smoke and name != "descriptors" or after <= before * share + more
            yield f"{unit.split(' ', 1)[-1]}: flat", holds, f"{before:,.2f} {unit} in the {'fourth' if name == 'disk' else 'second'} fifth, {after:,.2f} in the last"
        most = max(look["anonymous"] for look in self.looks)
        yield "anonymous memory is under 8 MiB", most < 8192, f"at most {most:,} KiB"


def ask(url, pause, times, ending):
    """Asks for decisions at a steady pace, in a process of its own; leaves their milliseconds, and at the end how many failed."""
    connection, found, failed, due = Connection(url, 10), [], 0, time.monotonic()
    number = 0
    left = time.monotonic()
    while not ending.is_set():
        number += 1
        begin = time.monotonic()
        try:
            status, _, _ = connection.ask_json("POST", "/ofrep/v1/evaluate/flags/checkout_offer",
                                               {"context": {"targetingKey": REGULARS[number % len(REGULARS)]}})
            failed += status != 200
        except OSError:
            failed += 1
        end = time.monotonic()
        found.append((end - begin) * 1000)
        if end - left > 0.5:
            times.put(found)
            found, left = [], end
        due = max(due + pause, end - 1)
        time.sleep(max(0, due - time.monotonic()))
    times.put(failed)


def main():
    parser = argparse.ArgumentParser(prog="Tools/torture soak")
    parser.add_argument("--minutes", type=float, default=60, help="how long (60)")
    parser.add_argument("--smoke", action="store_true", help="45 seconds, in which everything happens")
    parser.add_argument("--seed", default="1", help="of all that is left to chance")
    parser.add_argument("--json", help="write what was looked at into this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gatehouse-soak-") as folder:
        soak = Soak(folder, options)
        failed = passed = 0
        try:
            soak.run(45 if options.smoke else options.minutes * 60)
            for what, holds, seen in soak.outcomes():
                print(f"{'ok' if holds else 'FAILED':8}{what}: {seen}", flush=True)
                passed, failed = passed + bool(holds), failed + (not holds)
        finally:
            if options.json:
                pathlib.Path(options.json).write_text(json.dumps(soak.looks))
            if soak.hub.process and soak.hub.process.poll() is None:
                soak.hub.process.send_signal(signal.SIGCONT)
            soak.agent.stop()
            soak.hub.stop()
        print(f"{passed} passed, {failed} failed, 0 skipped")
        return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
