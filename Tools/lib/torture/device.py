"""A device under torture: an agent whose destination cannot be reached (so that its log keeps every event), a load that
notes what was acknowledged, and the look afterwards at whether all of that is there.

Events are numbered by batch and place, `k3-000017-042`, and belong to a user by their place, so that from a batch's number
all that it must have left behind is known.
"""

import json
import pathlib
import random
import struct
import threading
import time

import lmdb

from agent import TOP, Agent, Connection, accounts, free_port, imbalance, samples

SHOP = TOP / "Firmware-Config" / "bundles" / "shop.yaml"
CONSENT = {"consent": {"categoryPreferences": {"analytics": True, "personalization": True, "advertising": False}}}
USERS = 20


class Broken(Exception):
    """A promise was not kept; the words say what was seen."""


class Skipped(Exception):
    """Cannot be tried here; the words say why."""


def check(condition, words):
    if not condition:
        raise Broken(words)


def event(user, message_id, **fields):
    """An order of one piece of money."""
    return {"type": "track", "event": "Order Completed", "userId": user, "messageId": message_id,
            "properties": {"order_id": message_id, "revenue": 1}, "context": CONSENT, **fields}


class Device:
    """An agent in `folder` with the shop's rules. `data` may lie elsewhere, as on a disk of its own."""

    def __init__(self, folder, data=None, settings=None, prefix=(), name="k"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = pathlib.Path(data or self.folder / "data")
        bundle = self.folder / "bundle.yaml"
        if not bundle.exists():
            text = SHOP.read_text()
            here = "https://localhost:8471/"
            check(here in text, f"the sample bundle has no {here}")
            # Nobody listens there: what is admitted stays queued.
            bundle.write_text(text.replace(here, f"https://localhost:{free_port()}/"))
        self.agent = Agent(self.folder, config={
            "data": str(self.data), "device": "tortured", "bundle": {"file": str(bundle)}, "threads": 2, **(settings or {})},
            runner=prefix)
        self.name = name

    def connection(self, timeout=10.0):
        return Connection(self.agent.url, timeout)

    def start(self, timeout=20.0):
        return self.agent.start(timeout)

    def settle(self, seconds=20):
        """Waits until a store that is mended is in use. What stands in listens for a moment beside what takes its place."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                answer = self.ask("GET", "/readyz", timeout=2)[2]
                if (answer or {}).get("store") != "mending" and not (self.data / "stand-in").exists():
                    return
            except OSError:
                check(self.agent.process.poll() is None, f"it ended with {self.agent.process.returncode}: {self.log_tail()}")
            time.sleep(0.01)
        raise Broken(f"it is mended for more than {seconds} s: {self.log_tail()}")

    def ask(self, method, path, value=None, timeout=10.0):
        """One request on a connection of its own: (status, headers, JSON or None)."""
        connection = self.connection(timeout)
        try:
            return connection.ask_json(method, path, value)
        finally:
            connection.close()

    def metrics(self):
        connection = self.connection()
        try:
            status, _, page = connection.ask("GET", "/metrics")
        finally:
            connection.close()
        check(status == 200, f"{status} for /metrics")
        return samples(page.decode())

    def check_accounts(self):
        """Both sums of promise P7; returns the terms."""
        terms = accounts(self.metrics())
        problem = imbalance(*terms)
        check(problem is None, f"the accounts do not hold: {problem}")
        return terms

    def decision(self, user, key="checkout_offer", timeout=10.0):
        status, _, answer = self.ask(
            "POST", f"/ofrep/v1/evaluate/flags/{key}", {"context": {"targetingKey": user}}, timeout=timeout)
        check(status == 200, f"{status} for a decision: {answer}")
        return answer["variant"]

    def orders(self, user):
        """How many orders the profile of a user counts; None where there is no such profile."""
        status, _, answer = self.ask("GET", f"/v1/profiles/user_id:{user}")
        check(status in (200, 404), f"{status} for the profile of {user}")
        return None if status == 404 or answer["attributes"] is None else answer["attributes"].get("orders")

    def log_tail(self):
        return self.agent.log_tail(8)

    def logged(self):
        """The message ids in the log as it lies on the disk, in order; of an agent that does not write at the moment."""
        file = self.data / "data.mdb"
        if not file.exists() or file.stat().st_size < 16384:
            return []  # it has not come so far as to make its store
        with lmdb.open(str(self.data), readonly=True, lock=False, max_dbs=40, map_size=8 << 30) as store:
            with store.begin() as look:
                try:
                    table = store.open_db(b"log", look, create=False)
                except lmdb.NotFoundError:
                    return []
                found = []
                for _, entry in look.cursor(table):
                    if len(entry) < 48 or entry[0] != 1:
                        continue  # what was taken out leaves a mark
                    begin = 48 + 72 * entry[3]
                    found.append(entry[begin:begin + struct.unpack_from("<H", entry, 20)[0]].decode())
                return found


class Load:
    """Clients that write to a device at once, each on its own connection, until they are told to stop or it is gone."""

    def __init__(self, device, writers=3, events=100, people=True):
        self.device, self.events, self.writers, self.people = device, events, writers, people
        self.lock = threading.Lock()
        self.next = 0
        self.sent, self.acknowledged, self.again = set(), set(), []
        self.refused, self.answers = 0, {}
        # A person's last acknowledged state ("granted", "revoked", "erased") and whether a change was under way.
        self.states, self.under_way = {}, set()
        self.person = 0
        text = json.dumps({"batch": [
            event(self.user(place), f"{device.name}-NNNNNN-{place:03}") for place in range(events)]}, separators=(",", ":"))
        self.template = text.encode()
        self.threads, self.stopping = [], threading.Event()

    def user(self, place):
        return f"{self.device.name}-user-{place % USERS}"

    def begin(self):
        self.stopping.clear()
        with self.lock:
            # What was not answered is sent again, as every SDK does, under the same ids.
            self.again = sorted(self.sent - self.acknowledged)
        lanes = [self._write] * self.writers + ([self._change] if self.people else [])
        self.threads = [threading.Thread(target=lane, daemon=True) for lane in lanes]
        for thread in self.threads:
            thread.start()

    def end(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        self.threads = []

    def snapshot(self):
        """What is acknowledged at this moment: (batches, states of people)."""
        with self.lock:
            return set(self.acknowledged), dict(self.states), set(self.under_way)

    def forget_all_but(self, acknowledged, states, under_way):
        """Goes back to a `snapshot`: of what was acknowledged after the power was gone it is open whether it is there."""
        with self.lock:
            self.acknowledged = set(acknowledged)
            under_way.update(who for who, state in self.states.items() if states.get(who) != state)
            self.states = {who: state for who, state in states.items() if who not in under_way}

    def _write(self):
        connection = self.device.connection()
        try:
            while not self.stopping.is_set():
                with self.lock:
                    if self.again:
                        number = self.again.pop()
                    else:
                        number, self.next = self.next, self.next + 1
                    self.sent.add(number)
                body = self.template.replace(b"NNNNNN", b"%06d" % number)
                status, _, content = connection.ask("POST", "/v1/batch", body, {"Content-Type": "application/json"})
                with self.lock:
                    self.answers[status] = self.answers.get(status, 0) + 1
                    if status == 200 and b'"refused"' not in content:
                        self.acknowledged.add(number)
                    else:
                        self.refused += 1
                        self.again.append(number)
                if status != 200:
                    time.sleep(0.01)
        except OSError:
            pass  # it is gone
        finally:
            connection.close()

    def _change(self):
        """People who come, revoke and are erased."""
        connection = self.device.connection()
        try:
            while not self.stopping.is_set():
                with self.lock:
                    self.person += 1
                    who = f"{self.device.name}-person-{self.person}"
                path = f"/v1/profiles/user_id:{who}"
                steps = [("granted", "POST", "/v1/track", event(who, f"{who}-0")),
                         ("revoked", "PUT", f"{path}/consent", {"analytics": False})]
                if self.person % 2:
                    steps.append(("erased", "DELETE", path, None))
                for state, method, target, value in steps:
                    with self.lock:
                        self.under_way.add(who)
                    status, _, _ = connection.ask_json(method, target, value)
                    with self.lock:
                        self.answers[status] = self.answers.get(status, 0) + 1
                        if status not in (200, 202, 204):
                            break
                        self.under_way.discard(who)
                        self.states[who] = state
        except OSError:
            pass
        finally:
            connection.close()

    def check_log(self, acknowledged):
        """Every acknowledged event is in the log, none twice, none that nobody sent. Returns which are there."""
        prefix = f"{self.device.name}-"
        found = [message for message in self.device.logged() if message.startswith(prefix) and "person" not in message]
        there = set(found)
        check(len(there) == len(found), f"{len(found) - len(there)} events are twice in the log")
        lost = [f"{prefix}{number:06}-{place:03}" for number in acknowledged for place in range(self.events)
                if f"{prefix}{number:06}-{place:03}" not in there]
        total = len(acknowledged) * self.events
        check(not lost, f"{len(lost)} of {total} acknowledged events are lost, as {min(lost, default='')}")
        strange = [message for message in there if int(message.split("-")[1]) not in self.sent]
        check(not strange, f"events that nobody sent: {strange[:3]}")
        return there

    def check_device(self, there, states, under_way, sample=6):
        """The profiles count exactly what is in the log, people are as they were acknowledged, the accounts hold."""
        expected = {}
        for message in there:
            user = self.user(int(message.rsplit("-", 1)[1]))
            expected[user] = expected.get(user, 0) + 1
        for user, count in sorted(expected.items()):
            held = self.device.orders(user)
            check(held == count, f"{user} has {count} orders in the log and {held} in the profile: half an event")
        settled = [who for who in states if who not in under_way]
        for who in settled[-sample:]:
            status, _, answer = self.device.ask("GET", f"/v1/profiles/user_id:{who}")
            state = states[who]
            if state == "erased":
                check(status == 404, f"{who} was erased, and is answered {status}")
            else:
                check(status == 200 and answer["consent"]["analytics"] == (state == "granted"),
                      f"{who} is {state}, and is answered {status} {answer}")
        if expected:
            user, count = max(expected.items(), key=lambda item: item[1])
            offer = "ten" if count > 1000 else "five" if count >= 3 else "none"
            seen = self.device.decision(user)
            check(seen == offer, f"{user} with {count} orders is offered {seen}, not {offer}")
        events, _ = self.device.check_accounts()
        check(events["admitted"] >= len(there), f"{len(there)} events in the log, {events['admitted']} admitted")


def chance_of(seed, *words):
    """Random numbers that depend on a seed and on what they are for."""
    return random.Random(" ".join(map(str, (seed, *words))))
