"""The tour behind Tools/quickstart: a hub, an agent, three customers and one day, told as it happens.

Run by Tools/quickstart, which has built the binary and made the keys. Standard library only.
"""

import argparse
import datetime
import itertools
import json
import os
import pathlib
import re
import sys
import time
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from agent import Agent, Connection, arrivals, process_memory_kib  # noqa: E402

ALL = {"analytics": True, "personalization": True, "advertising": False}
NONE = {"analytics": False, "personalization": False, "advertising": False}

IS_TERMINAL = sys.stdout.isatty()


def paint(text, code):
    return f"\x1b[{code}m{text}\x1b[0m" if IS_TERMINAL else text


def heading(text):
    print("\n" + paint(text, "1"))


def line(text=""):
    print("  " + text)


class Day:
    """Makes events of one day, each a few minutes after the last; the last is a minute ago."""

    def __init__(self, count):
        now = datetime.datetime.now(datetime.timezone.utc)
        self.clock = now - datetime.timedelta(minutes=4 * count + 1)

    def event(self, person, consent, name, properties=None, kind="track", traits=None):
        self.clock += datetime.timedelta(minutes=4)
        key = "userId" if not person.startswith("till") else "anonymousId"
        event = {
            "type": kind, "messageId": str(uuid.uuid4()), key: person,
            "timestamp": self.clock.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "context": {"channel": "kiosk", "ip": "203.0.113.7", "consent": {"categoryPreferences": consent}},
        }
        if kind == "identify":
            event["traits"] = traits or {}
        else:
            event["event"] = name
            event["properties"] = properties or {}
        return event


def shopping_day():
    """Anna agrees to analytics and personal offers, Ben to nothing; the till sells to nobody in particular."""
    day = Day(10)
    order = itertools.count(1001)

    def bought(revenue, *products):
        return {"order_id": str(next(order)), "revenue": revenue, "currency": "EUR",
                "products": [{"product_id": product, "quantity": 1} for product in products]}

    return [
        day.event("anna", ALL, None, kind="identify", traits={"email": "Anna.Keller@example.com"}),
        day.event("anna", ALL, "Product Viewed", {"product_id": "lamp-3", "category": "lighting"}),
        day.event("anna", ALL, "Product Added", {"product_id": "lamp-3"}),
        day.event("anna", ALL, "Order Completed", bought(449.90, "lamp-3")),
        day.event("ben", NONE, None, kind="identify", traits={"email": "ben@example.com"}),
        day.event("ben", NONE, "Order Completed", bought(1999.00, "sofa-1")),
        day.event("till-1", ALL, "Order Completed", bought(12.50, "candle-9")),
        day.event("anna", ALL, "Product Viewed", {"product_id": "chair-7", "category": "chairs", "notes": "gift for Tom"}),
        day.event("anna", ALL, "Ad Viewed", {"campaign": "spring"}),
        day.event("anna", ALL, "Order Completed", bought(619.00, "chair-7", "chair-7")),
    ]


class Tour:
    def __init__(self, agent, hub, hub_authority):
        self.agent, self.hub = agent, hub
        self.connection = Connection(agent.url)
        self.hub_connection = Connection(f"https://localhost:{hub.port}", ca=hub_authority)

    def decide(self, person, flag="checkout_offer"):
        """Asks once; returns the answer and the microseconds that it took, network and client included."""
        begin = time.perf_counter_ns()
        status, _, answer = self.connection.ask_json(
            "POST", f"/ofrep/v1/evaluate/flags/{flag}", {"context": {"targetingKey": person, "channel": "kiosk"}})
        taken = (time.perf_counter_ns() - begin) / 1000
        if status != 200:
            raise RuntimeError(f"the decision was answered {status}: {answer}")
        return answer, taken

    def tell_decision(self, person, note=""):
        answer, _ = self.decide(person)
        times = sorted(self.decide(person)[1] for _ in range(200))
        line(f"{person:6} {paint(answer['variant'], '1;32'):14} {json.dumps(answer.get('value'))}, "
             f"{answer.get('reason')}; median {times[100]:.0f} µs, p99 {times[198]:.0f} µs {note}")
        return answer["variant"]

    def decide_microseconds(self):
        """The mean time of a decision as the agent measures it itself."""
        _, _, text = self.connection.ask("GET", "/metrics")
        samples = dict(row.rsplit(" ", 1) for row in text.decode().splitlines() if row and row[0] != "#")
        count = float(samples.get("gatehouse_decide_seconds_count", 0))
        return float(samples["gatehouse_decide_seconds_sum"]) / count * 1e6 if count else None

    def hub_messages(self):
        return list(arrivals(self.hub_connection))

    def wait_for_hub(self, ids, seconds=15):
        deadline = time.monotonic() + seconds
        while True:
            messages = self.hub_messages()
            if {message.get("messageId") for message in messages} >= ids or time.monotonic() > deadline:
                return messages
            time.sleep(0.1)


def tell(tour, started):
    events = shopping_day()
    agent = tour.agent
    memory = process_memory_kib(agent.process.pid)
    line(f"agent {agent.url}, answering {started * 1000:.0f} ms after its start, "
         f"{(memory or 0) / 1024:.1f} MiB of memory of its own")
    line(f"hub   https://localhost:{tour.hub.port}, TLS, its certificate verified by the agent")

    heading("Before: nobody is known")
    before = tour.tell_decision("anna")

    heading(f"A shopping day: {len(events)} events in one POST /v1/batch")
    begin = time.perf_counter()
    status, _, answer = tour.connection.ask_json("POST", "/v1/batch", {"batch": events})
    taken = (time.perf_counter() - begin) * 1000
    if status != 200:
        raise RuntimeError(f"the batch was answered {status}: {answer}")
    line(f"answered {status} after {taken:.1f} ms: all of it is on the disk, synced")
    for event in events:
        name = event.get("event") or "identify"
        detail = event.get("properties", {})
        amount = f" {detail['revenue']:.2f} EUR" if "revenue" in detail else ""
        person = event.get("userId") or event.get("anonymousId")
        line(f"  {event['timestamp'][11:16]}  {person:7}{name}{amount}")

    heading("After: the rules see what the customer did")
    after = tour.tell_decision("anna", "(spent more than 1000: a vip)")
    ben = tour.tell_decision("ben", "(spent more still, but agreed to nothing)")
    inside = tour.decide_microseconds()
    if inside is not None:
        line(f"(times include this script and the loopback; the decision alone takes the agent {inside:.0f} µs)")
    return events, before, after, ben


def tell_hub(tour, events):
    granted = {event["messageId"] for event in events
               if event["context"]["consent"]["categoryPreferences"]["analytics"] and event.get("event") != "Ad Viewed"}
    messages = tour.wait_for_hub(granted)
    by_id = {message["messageId"]: message for message in messages}
    heading("What left for the hub, and what did not")
    for event in events:
        name = event.get("event") or "identify"
        person = event.get("userId") or event.get("anonymousId")
        if event["messageId"] in by_id:
            verdict = paint("delivered", "32")
        elif event.get("event") == "Ad Viewed":
            verdict = paint("kept back", "33") + ": no consent to advertising"
        else:
            verdict = paint("kept back", "33") + ": no consent to analytics"
        line(f"{person:7}{name:16} {verdict}")
    sample = next((message for message in messages if message.get("event") == "Order Completed"), None)
    if sample:
        line()
        line("one of them, as the hub has it: no name, no e-mail address, no ip, only keyed hashes")
        for text in json.dumps(sample, indent=1).splitlines():
            line("  " + text)
    records = {id for id, message in by_id.items() if message.get("event") == "Decision Made"}
    return granted, set(by_id) - records, len(records)


def find_raw(folder, words):
    """The files under the folder in which one of the words stands."""
    found = []
    for path in pathlib.Path(folder).rglob("*"):
        if path.is_file():
            content = path.read_bytes().lower()
            found += [f"{path.name} holds {word}" for word in words if word.lower().encode() in content]
    return found


def print_next_steps(tour, folder):
    url = tour.agent.url
    heading("Both are still running. Try")
    print(f"""
  # a decision
  curl -s {url}/ofrep/v1/evaluate/flags/checkout_offer -H 'Content-Type: application/json' \\
       -d '{{"context": {{"targetingKey": "anna", "channel": "kiosk"}}}}'

  # an event, and the decision again
  curl -s {url}/v1/track -H 'Content-Type: application/json' -d '{{"userId": "carla", "event": "Order Completed",
       "properties": {{"order_id": "2001", "revenue": 1200}},
       "context": {{"consent": {{"categoryPreferences": {{"analytics": true, "personalization": true}}}}}}}}'

  # what is known of a person, and what happened to every event
  curl -s {url}/v1/profiles/user_id:anna
  curl -s {url}/metrics

  # what the hub has
  curl -s --cacert {folder}/keys/ca.pem https://localhost:{tour.hub.port}/v1/arrivals

  # the end
  kill {tour.agent.process.pid} {tour.hub.process.pid}; rm -r {folder}
""")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--folder", required=True, type=pathlib.Path)
    parser.add_argument("--bundle", required=True, type=pathlib.Path)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    keys = options.folder / "keys"

    heading("Gatehouse: one binary of "
            f"{os.path.getsize(options.binary) / (1 << 20):.2f} MiB, as the agent in a shop and as the hub it reports to")
    hub = Agent(options.folder / "hub", options.binary, command="hub",
                config={"tls": {"cert": str(keys / "hub.pem"), "key": str(keys / "hub.key")}})
    agent = None
    is_kept = False
    try:
        hub.start()
        bundle = options.folder / "shop.yaml"
        bundle.write_text(re.sub(r"https://localhost:\d+/", f"https://localhost:{hub.port}/", options.bundle.read_text()))
        agent = Agent(options.folder / "agent", options.binary,
                      config={"device": "kiosk-1", "bundle": {"file": str(bundle)}, "tls": {"ca": str(keys / "ca.pem")}})
        started = agent.start()
        tour = Tour(agent, hub, str(keys / "ca.pem"))
        events, before, after, ben = tell(tour, started)
        granted, delivered, records = tell_hub(tour, events)

        raw = find_raw(options.folder / "agent" / "data", ["anna.keller@example.com", "ben@example.com"])
        raw += find_raw(options.folder / "hub", ["anna.keller@example.com", "ben@example.com", "203.0.113.7", "gift for tom"])
        heading("In short")
        line(f"Anna's offer went from {before} to {after} because of what she bought; Ben, who agreed to nothing, "
             f"got {ben}.")
        line(f"{len(delivered)} of {len(events)} events left for the hub, and {records} records of decisions; searched data, logs and hub for "
             f"raw e-mail addresses: {'none found' if not raw else ', '.join(raw)}.")
        problems = []
        if before == after:
            problems.append("the decision did not change")
        if ben != "none":
            problems.append("a person without consent got a personal offer")
        if delivered != granted:
            problems.append(f"the hub has {len(delivered)} events, {len(granted)} should be there")
        problems += raw
        if problems:
            print("\nFAILED: " + "; ".join(problems))
            return 1
        if options.keep:
            is_kept = True
            print_next_steps(tour, options.folder)
        return 0
    finally:
        if not is_kept:
            for process in (agent, hub):
                if process:
                    process.stop()


if __name__ == "__main__":
    sys.exit(main())
