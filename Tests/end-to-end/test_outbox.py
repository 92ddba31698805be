"""The outbox on bad networks: nothing lost, nothing twice, each lane in order; one destination slows no other; real time ahead of
a backlog; hours and budgets; what makes room on a full disk. Promises P2, P6 and P7.

GATEHOUSE_EVENTS=200000 runs the fault proxy for the full number of events.
"""

import collections
import gzip
import http.server
import json
import os
import random
import signal
import socket
import ssl
import struct
import threading
import time

from harness import Failure, check, equal, track, wait_until
from test_delivery import REALTIME, arrivals, check_exactly_once_in_order, ids_of, queued, wait_for_delivery


class FaultProxy:
    """Stands before a hub with the hub's own certificate and does to requests what networks and gateways do to them."""

    FAULTS = ["cut", "reset", "stall", "half an answer", "500", "lost answer", "garbage"]

    def __init__(self, hub, seed, rate):
        self.hub, self.rate, self.chance = hub, rate, random.Random(seed)
        self.seen = collections.Counter()
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.server.load_cert_chain(hub.tls.certificate, hub.tls.key)
        self.client = ssl.create_default_context(cafile=hub.tls.authority)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain):
        try:
            with self.server.wrap_socket(plain, server_side=True) as agent:
                while self._exchange(agent):
                    pass
        except (OSError, ValueError):
            plain.close()

    def _exchange(self, agent):
        """One request; whether the connection goes on."""
        request = self._message(agent)
        fault = None
        if self.chance.random() < self.rate:
            # Garbage in one of a hundred requests, the others as often as each other.
            fault = "garbage" if self.chance.random() < 0.01 / self.rate else self.chance.choice(self.FAULTS[:-1])
        self.seen[fault] += 1
        if fault == "cut":
            return False
        if fault == "reset":
            agent.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if fault == "stall":
            time.sleep(self.chance.uniform(0.2, 1.5))
        if fault == "500":
            agent.sendall(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
            return True
        answer = self._forward(request)
        if fault == "lost answer":
            return False
        if fault == "half an answer":
            agent.sendall(answer[:self.chance.randrange(1, len(answer) - 1)])
            return False
        if fault == "garbage":
            agent.sendall(self.chance.randbytes(200))
            return False
        agent.sendall(answer)
        return True

    def _forward(self, request):
        with socket.create_connection(("127.0.0.1", self.hub.port), timeout=20) as plain:
            with self.client.wrap_socket(plain, server_hostname="localhost") as hub:
                hub.sendall(request)
                return self._message(hub)

    @staticmethod
    def _message(connection):
        data = b""
        while b"\r\n\r\n" not in data:
            part = connection.recv(65536)
            if not part:
                raise OSError("closed")
            data += part
        head = data.partition(b"\r\n\r\n")[0]
        lengths = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        whole = len(head) + 4 + int(lengths[0])
        while len(data) < whole:
            part = connection.recv(65536)
            if not part:
                raise OSError("closed")
            data += part
        return data

    def close(self):
        self.listener.close()


class Receiver:
    """Takes batches over TLS and notes when each message came; waits `pause` seconds before each answer."""

    def __init__(self, tls, pause=0):
        self.times, self.bytes = {}, 0
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if pause:
                    time.sleep(pause)
                now = time.time()
                receiver.bytes += len(body)
                for message in json.loads(gzip.decompress(body))["batch"]:
                    receiver.times.setdefault(message["messageId"], now)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls.certificate, tls.key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def some_events(chance, count):
    """Orders, which are of tier realtime, and views, which are not, of a hundred people."""
    events = []
    for _ in range(count):
        user = f"u{chance.randrange(100)}"
        if chance.random() < 0.2:
            events.append(track(user, "Order Completed", {"order_id": "o", "revenue": 1}))
        else:
            events.append(track(user, "Product Viewed", {"product_id": str(chance.randrange(50))}))
    return events


def test_p2_nothing_is_lost_or_twice_on_a_bad_network_while_both_sides_are_killed(bench):
    """Cuts, resets, stalls, half answers, 500s, lost answers and garbage between them, and kill -9 of either."""
    total = int(os.environ.get("GATEHOUSE_EVENTS", "3000"))
    hub = bench.hub()
    proxy = FaultProxy(hub, seed=total, rate=0.15)
    size = 100 if total <= 5000 else 1000
    agent = bench.agent_of(hub, [
        (f"localhost:{hub.port}/v1/batch", f"localhost:{proxy.port}/v1/batch"),
        ("batch: { events: 500,", f"batch: {{ events: {size // 2},")])
    chance, sent, kills = random.Random(1), [], collections.Counter()
    while len(sent) < total:
        events = some_events(chance, size)
        while True:  # What was not acknowledged is sent again, as every SDK does.
            try:
                agent.batch(events)
                break
            except (OSError, Failure):
                if agent.process.poll() is None:
                    time.sleep(0.1)  # a full intake
        sent += events
        die = chance.random()
        victim = agent if die < 0.06 else hub if die < 0.12 else None
        if victim:
            kills[victim.name] += 1
            victim.process.send_signal(signal.SIGKILL)
            victim.process.wait()
            victim.start()
    wait_for_delivery(agent, 120 + total / 500)
    check(kills["run"] and kills["hub"] and len(proxy.seen) >= 6, f"too little has gone wrong: {kills}, {proxy.seen}")
    check_exactly_once_in_order(arrivals(hub), ids_of(sent))
    events, destinations = agent.check_accounts()
    equal((destinations["hub"]["delivered"], destinations["hub"]["queued"]), (len(sent), 0), f"{destinations}")
    hub.check_accounts()
    proxy.close()


def delays(agent, receiver, count):
    """How long events of tier realtime take to a receiver, seconds, smallest first."""
    begun = {}
    for _ in range(count):
        event = track("u", "Order Completed", {"order_id": "o", "revenue": 1})
        begun[event["messageId"]] = time.time()
        agent.batch([event])
        time.sleep(0.01)
    wait_until(lambda: set(begun) <= set(receiver.times), 20, "not all have arrived")
    return sorted(receiver.times[id] - begun[id] for id in begun)


def test_p2_a_black_hole_and_a_slow_destination_leave_the_healthy_one_alone(bench):
    hub = bench.hub()  # only for its keys and its place in the bundle
    healthy, slow = Receiver(hub.tls), Receiver(hub.tls, pause=1)
    hole = socket.create_server(("127.0.0.1", 0))
    place = (f"localhost:{hub.port}/v1/batch", f"localhost:{healthy.port}/v1/batch")
    alone = bench.agent_of(hub, [place], name="alone")
    before = delays(alone, healthy, 60)
    alone.stop()
    others = "".join(
        f"  {name}: {{ url: 'https://localhost:{port}/v1/batch', purpose: analytics, batch: {{ events: 1 }} }}\n"
        for name, port in [("slow", slow.port), ("hole", hole.getsockname()[1])])
    agent = bench.agent_of(hub, [place, ("destinations:\n", "destinations:\n" + others)], name="three")
    after = delays(agent, healthy, 60)
    check(queued(agent, "slow") > 20 and queued(agent, "hole") == 60, "the two are in trouble")
    middle, late = 30, 56
    check(after[middle] < before[middle] * 2 + 0.01 and after[late] < before[late] * 2 + 0.05,
          f"delays of {before[middle]:.4f} and {before[late]:.4f} s became {after[middle]:.4f} and {after[late]:.4f}")
    agent.check_accounts()
    agent.stop()
    for server in (healthy, slow, hole):
        server.close()


def test_p2_real_time_goes_ahead_of_a_backlog(bench):
    hub = bench.hub()
    receiver = Receiver(hub.tls, pause=0.05)  # a link with a round trip of 50 ms
    hub.stop()
    agent = bench.agent_of(hub, [(f"localhost:{hub.port}/v1/batch", f"localhost:{receiver.port}/v1/batch"),
                                 ("batch: { events: 500,", "batch: { events: 20,")])
    views = [track("u", "Product Viewed", {"product_id": str(number)}) for number in range(2000)]
    for start in range(0, 2000, 500):
        agent.batch(views[start:start + 500])
    taken = delays(agent, receiver, 20)
    check(queued(agent) > 500, "the backlog was gone before them")
    check(taken[-2] < 0.3, f"delays of {taken[10]:.3f} to {taken[-1]:.3f} s, with requests of 0.05 s")
    # Both lanes are accounted for while they run, and each has its order.
    for _ in range(5):
        agent.check_accounts()
        time.sleep(0.1)
    wait_for_delivery(agent)
    order = sorted(receiver.times, key=receiver.times.get)
    numbers = {id: number for number, id in enumerate(ids_of(views))}
    seen = [numbers[id] for id in order if id in numbers]
    check(seen == sorted(seen) and len(seen) == 2000, "the backlog kept its order")
    name = 'gatehouse_destination_realtime_seconds_count{destination="hub"}'
    check(0 < agent.metrics()[name] <= 20, "each of their requests is timed")
    receiver.close()


def test_p2_hours_and_a_day_s_budget_hold_what_can_wait(bench):
    hub = bench.hub()
    hour = time.gmtime().tm_hour
    closed = f"{(hour + 3) % 24:02}:00-{(hour + 4) % 24:02}:00"
    agent = bench.agent_of(hub, [("    batch: {", f"    send: '{closed}'\n    cost: 10\n    batch: {{")])
    views = [track("u", "Product Viewed", {"product_id": "1"}) for _ in range(5)]
    orders = [track("u", "Order Completed", {"order_id": "o", "revenue": 1}) for _ in range(2)]
    agent.batch(views + orders)
    wait_until(lambda: queued(agent) == 5, 10, "the orders did not leave")
    time.sleep(1.5)  # longer than the delay of a batch
    _, destinations = agent.check_accounts()
    equal((destinations["hub"]["delivered"], destinations["hub"]["queued"]), (2, 5), f"{destinations}")
    equal([message["messageId"] for message in arrivals(hub)], ids_of(orders), "what has left")
    metrics = agent.metrics()
    equal(metrics['gatehouse_destination_held{destination="hub",state="held"}'], 1, "held")
    each = metrics['gatehouse_destination_bytes_per_1000_events{destination="hub",purpose="analytics"}']
    check(50_000 < each < 1_000_000, f"{each} bytes for each 1,000 events")
    cost = metrics['gatehouse_destination_cost_per_1000_events{destination="hub",purpose="analytics"}']
    check(abs(cost - each / 2**30 * 10 * 1e6) < 2, f"{cost} millionths for {each} bytes at 10 a GiB")
    agent.kill()
    agent.start()
    time.sleep(1.5)
    equal(queued(agent), 5, "after a restart")
    agent.stop()
    # A budget instead: some 200 bytes each, packed, and 600 more a request.
    agent = bench.agent_of(hub, [("batch: { events: 500,", "batch: { events: 10, budget: 64KiB,")], name="metered")
    chance = random.Random(3)
    for _ in range(4):
        agent.batch([track("u", "Product Viewed", {"note": chance.randbytes(300).hex()}) for _ in range(100)])
    held = 'gatehouse_destination_held{destination="hub",state="held"}'
    wait_until(lambda: agent.metrics()[held] == 1, 20, "the budget is never spent")
    rest = queued(agent)
    check(100 < rest < 400, f"{rest} of 400 wait")
    sent = agent.metrics()['gatehouse_destination_bytes_total{destination="hub",state="sent"}']
    check(40_000 < sent < 66_000, f"{sent} bytes of bodies, of a budget of 65,536 with heads")
    agent.kill()
    agent.start()
    agent.batch(orders)
    wait_until(lambda: queued(agent) == rest, 10, "what is urgent goes on")
    time.sleep(1.5)
    equal(queued(agent), rest, "spent is spent, after a restart too")
    agent.check_accounts()


def test_p6_months_offline_shed_the_least_first_and_count_it(bench):
    hub = bench.hub()
    hub.stop()
    agent = bench.agent_of(hub, [("  Ad Viewed: { purpose: advertising }", "  Chatter: { purpose: analytics, priority: 1 }")],
                           settings="limits: { disk: 4MiB }")
    orders = [track(f"u{number % 50}", "Order Completed", {"order_id": str(number), "revenue": 1}) for number in range(300)]
    agent.batch(orders)
    padding, refused, taken = "x" * 1000, 0, 300
    for number in range(400):
        chatter = [track(f"u{number % 50}", "Chatter", {"text": padding}) for _ in range(20)]
        answer = agent.call("POST", "/v1/batch", {"batch": chatter})
        check(answer.status in (200, 503), f"{answer.status}")
        if answer.status == 503:
            refused += 1
            time.sleep(0.05)
        else:
            taken += 20
    check(refused < 100, f"{refused} of 400 batches were refused although there was something to shed")
    shed = agent.metrics()['gatehouse_events_shed_total{priority="1"}']
    check(shed > 3000, f"{shed} were shed")
    check('gatehouse_events_shed_total{priority="9"}' not in agent.metrics(), "orders were shed")
    equal(agent.decide("layout", "u", width=2000)["value"], "wide", "decisions go on")
    equal(agent.call("PUT", "/v1/profiles/user_id:u1/consent", {"personalization": False}).status, 200, "consent")
    agent.check_accounts()
    agent.kill()
    agent.start()
    hub.start()
    wait_for_delivery(agent, 60)
    _, destinations = agent.check_accounts()
    terms = destinations["hub"]
    check(terms["evicted"] >= shed and terms["admitted"] == taken, f"{shed} shed of {taken}: {terms}")
    names = collections.Counter(message["event"] for message in arrivals(hub))
    equal(names["Order Completed"], 300, "orders at the hub")
    equal(names["Chatter"], taken - 300 - terms["evicted"] - terms["filtered"], "what else was left")


def test_an_event_of_tier_realtime_is_known_by_the_test(bench):
    """The order of arrivals is checked by lane: the sample bundle must still have these in the lane of their own."""
    with open(os.path.join(os.path.dirname(__file__), "..", "..", "Firmware-Config", "bundles", "shop.yaml")) as file:
        text = file.read()
    for name in REALTIME - {"User Erased"}:
        after = text.partition(f"  {name}:")[2][:120]
        check("tier: realtime" in after, name)
