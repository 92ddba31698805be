"""Triggers, announced audiences and webhooks at work, with the real binary: over TLS, across kill -9, with consent."""

import base64
import hashlib
import hmac
import http.server
import json
import os
import ssl
import threading
import time

from harness import TLSFiles, check, equal, track, wait_until
from test_privacy import files_with, gatehouse

SECRET = bytes(range(32))

BUNDLE = """
version: 1
purposes: [analytics, personalization, advertising]
identifiers:
  user_id: {{ from: [userId], send: hmac, unique: true }}
  email: {{ from: [properties.email], normalize: email, send: sha256 }}
events: {{ '*': {{ purpose: analytics }} }}
attributes:
  carted_at: {{ type: last, when: 'event.event == "Product Added"', value: event.timestamp }}
audiences:
  abandoner:
    when: 'has(profile.carted_at) && now - profile.carted_at >= duration("2s")'
    purpose: personalization
    announce: true
triggers:
  abandoned_cart:
    on: 'event.event == "Product Added"'
    after: {after}
    unless: 'event.event == "Order Completed"'
    purpose: personalization
    send: crm
  now: {{ on: 'event.event == "Button Pressed"', send: crm }}
destinations:
  crm:
    url: https://localhost:{port}/hook?shop=1
    purpose: analytics
    format: webhook
    identifiers: [email]
    headers: {{ X-Shop: berlin }}
    sign: {{ secret: whsec_{secret} }}
    body:
      text: 'You left "${{event.properties.name}}" behind'
      trigger: '${{event.properties.trigger}}'
      price: '${{event.properties.price}}'
      email: '${{event.context.identifiers.email}}'
      sent: '${{event.properties.sent}}'
  log:
    url: https://localhost:{port}/log
    purpose: analytics
    format: webhook
    when: 'event.event.startsWith("Audience")'
    body: '{{"what": "${{event.event}}: ${{event.properties.audience}}"}}'
"""


class Receiver:
    """Takes webhooks over TLS, and keeps what arrives with the moment at which it did."""

    def __init__(self, folder):
        self.requests = []
        self.failing = 0
        self.tls = TLSFiles(folder)
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                arrived = time.time()
                failing, receiver.failing = receiver.failing > 0, receiver.failing - 1
                if not failing:
                    receiver.requests.append((self.path, dict(self.headers), body, arrived))
                self.send_response(503 if failing else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.tls.certificate, self.tls.key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def of(self, path):
        return [request for request in list(self.requests) if request[0] == path]

    def bodies(self, path="/hook?shop=1"):
        return [json.loads(body) for _, _, body, _ in self.of(path)]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def start(bench, receiver, after="2s"):
    path = os.path.join(bench.folder, "triggers.yaml")
    with open(path, "w") as file:
        file.write(BUNDLE.format(after=after, port=receiver.port, secret=base64.b64encode(SECRET).decode()))
    return bench.agent(bundle=path, settings=f"tls: {{ ca: {receiver.tls.authority} }}")


def verify(headers, body):
    """As the libraries of Standard Webhooks do it."""
    headers = {name.lower(): value for name, value in headers.items()}
    signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    expected = "v1," + base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    equal(headers["webhook-signature"], expected, "webhook-signature")
    check(abs(time.time() - int(headers["webhook-timestamp"])) < 120, "webhook-timestamp is not now")
    return headers


def test_a_trigger_reaches_its_webhook_signed(bench):
    receiver = Receiver(bench.folder)
    try:
        agent = start(bench, receiver)
        agent.batch([
            track("ada", "Product Added", {"name": 'A "fine" shoe', "price": 12.5, "email": "Ada@Example.org"}),
            track("ben", "Product Added", {"name": "bag"}), track("ben", "Order Completed"),
            track("cleo", "Product Added", {"name": "hat"}, context={"consent": {"categoryPreferences": {"analytics": True}}}),
        ])
        check(receiver.of("/hook?shop=1") == [], "a trigger fired before its time")
        wait_until(lambda: receiver.of("/hook?shop=1"), 10, "the trigger does not reach its webhook")
        time.sleep(1.5)
        bodies = receiver.bodies()
        equal(len(bodies), 1, f"webhooks ({bodies})")
        email = hashlib.sha256(b"ada@example.org").hexdigest()
        equal(bodies[0], {"text": 'You left "A "fine" shoe" behind', "trigger": "abandoned_cart", "price": 12.5,
                          "email": email, "sent": None}, "body")
        _, headers, body, _ = receiver.of("/hook?shop=1")[0]
        seen = verify(headers, body)
        equal(seen["x-shop"], "berlin", "a header of the bundle")
        equal(seen["content-type"], "application/json", "content type")
        check("content-encoding" not in seen, "a webhook is not compressed")
        # Two seconds of quiet are over for Ada and for Ben; Cleo has not granted it.
        wait_until(lambda: len(receiver.of("/log")) >= 2, 10, "the audience is not announced")
        equal(receiver.bodies("/log"), [{"what": "Audience Entered: abandoner"}] * 2, "announcements")
        metrics = agent.metrics()
        equal(metrics['gatehouse_triggers_total{outcome="fired"}'], 1, "fired")
        equal(metrics['gatehouse_triggers_total{outcome="called_off"}'], 1, "called off")
        equal(metrics['gatehouse_triggers_total{outcome="denied"}'], 1, "denied")
        equal(metrics["gatehouse_events_generated_total"], 3, "generated")
        events, destinations = agent.check_accounts()
        equal(events["received"], 4, "received")
        for name, terms in destinations.items():
            equal(terms["admitted"], 7, f"entries of the log for {name}")
    finally:
        receiver.close()


def test_triggers_fire_once_across_kills(bench):
    """Thirty wait; the agent is killed again and again, before, while and after they are due."""
    receiver = Receiver(bench.folder)
    try:
        agent = start(bench, receiver, after="3s")
        begin = time.time()
        agent.batch([track(f"u{number}", "Product Added", {"name": f"n{number}"}) for number in range(30)])
        receiver.failing = 3
        kills = 0
        while time.time() - begin < 6:
            agent.kill()
            agent.start()
            kills += 1
            time.sleep(0.3)
        wait_until(lambda: len({body["text"] for body in receiver.bodies()}) == 30, 30, "not every trigger arrived")
        wait_until(lambda: agent.check_accounts()[1]["crm"]["queued"] == 0, 10, "the cursor does not arrive")
        generated = agent.metrics()["gatehouse_events_generated_total"]
        equal(generated, 60, "thirty triggers and thirty announcements, each once in the log")
        # At least once on the wire, and the same id each time.
        ids = {}
        for _, headers, body, _ in receiver.of("/hook?shop=1"):
            ids.setdefault(json.loads(body)["text"], set()).add(verify(headers, body)["webhook-id"])
        check(all(len(found) == 1 for found in ids.values()), f"an event came under two ids: {ids}")
        equal(len({next(iter(found)) for found in ids.values()}), 30, "different ids")
        print(f"      {kills} kills, {len(receiver.bodies())} requests for 30 triggers")
        agent.check_accounts()
    finally:
        receiver.close()


def test_a_box_that_is_replaced_hands_on_what_waits(bench):
    receiver = Receiver(bench.folder)
    try:
        old = start(bench, receiver, after="20s")
        old.batch([track("ada", "Product Added", {"name": "shoe"})])
        old.stop()
        settings = f"tls: {{ ca: {receiver.tls.authority} }}\npepper: {os.path.join(old.data, 'pepper')}"
        new = bench.agent(bundle=os.path.join(bench.folder, "triggers.yaml"), settings=settings, name="new")
        new.stop()
        merge = ["store", "merge", old.data, "--config", new.config]
        done = gatehouse(*merge)
        equal((done.returncode, done.stderr), (0, ""), "merge")
        told = "merged: 1 identifiers looked at, {} of 2 timers taken over{}\n"
        equal(done.stdout, told.format(0, " (see --timers in gatehouse help store)"), "merge")
        for taken in (2, 0):
            equal(gatehouse(*merge, "--timers").stdout, told.format(taken, ""), "merge with timers")
        new.start()
        equal(new.metrics()["gatehouse_timers"], 2, "timers")
        wait_until(lambda: receiver.bodies(), 40, "the trigger does not fire at the new box")
        equal([body["trigger"] for body in receiver.bodies()], ["abandoned_cart"], "what fired")
        equal(gatehouse("store", "compact", "--timers", "--config", new.config).returncode, 2, "compact knows no timers")
        new.check_accounts()
    finally:
        receiver.close()


def test_p8_an_erased_person_has_no_timers(bench):
    receiver = Receiver(bench.folder)
    try:
        agent = start(bench, receiver, after="1h")
        agent.batch([track("ada", "Product Added", {"name": "shoe"}), track("ben", "Product Added", {"name": "bag"})])
        export = agent.call("GET", "/v1/profiles/user_id:ada/export").json()
        equal(len(export["pending"]), 1, "pending triggers in the export")
        equal(export["pending"][0]["trigger"], "abandoned_cart", "which")
        equal(export["pending"][0]["event"]["properties"]["name"], "shoe", "about what")
        # One for the trigger and one for the audience, each.
        equal(agent.metrics()["gatehouse_timers"], 4, "timers")
        equal(agent.call("DELETE", "/v1/profiles/user_id:ada").status, 200, "erasure")
        equal(agent.metrics()["gatehouse_timers"], 2, "timers after the erasure")
        # The notice goes out in the message's own words, whatever the template.
        wait_until(lambda: any(body.get("event") == "User Erased" for body in receiver.bodies()), 10, "no notice")
        agent.check_accounts()
    finally:
        receiver.close()


def start_two(bench, receiver, asked):
    """Two destinations: one that hears of triggers, and asks for the identifiers `asked`; one for events, which asks for
    none."""
    path = os.path.join(bench.folder, "two.yaml")
    with open(path, "w") as file:
        file.write(f"""
version: 1
purposes: [analytics]
identifiers:
  user_id: {{ from: [userId], send: hmac, unique: true }}
  email: {{ from: [properties.email], normalize: email, send: sha256 }}
events: {{ '*': {{ purpose: analytics }} }}
triggers: {{ later: {{ on: 'event.event == "Product Added"', after: 1h, send: crm }} }}
destinations:
  crm: {{ url: https://localhost:{receiver.port}/hook, purpose: analytics, format: webhook, identifiers: {asked} }}
  log: {{ url: https://localhost:{receiver.port}/log, purpose: analytics, format: webhook, when: "true" }}
""")
    return bench.agent(bundle=path, settings=f"tls: {{ ca: {receiver.tls.authority} }}", name=f"two-{len(asked)}")


def compacted(agent, *needles):
    """Which files hold one of these once freed pages are gone; the agent runs again afterwards."""
    agent.stop()
    done = gatehouse("store", "compact", "--config", agent.config)
    equal(done.returncode, 0, done.stderr)
    found = files_with(agent.data, *needles)
    agent.start()
    return found


def test_p3_what_waits_has_no_hash_that_nobody_asks_for(bench):
    plain = hashlib.sha256(b"ada@example.org").digest()
    receiver = Receiver(bench.folder)
    try:
        for asked, is_kept in (("[user_id]", False), ("[user_id, email]", True)):
            agent = start_two(bench, receiver, asked)
            agent.batch([track("ada", "Product Added", {"name": "shoe", "email": "ada@example.org"})])
            wait_until(lambda: agent.check_accounts()[1]["log"]["queued"] == 0, 10, "the event does not arrive")
            found = compacted(agent, plain)
            equal(bool(found), is_kept, f"whether a hash that {asked} has is in {found}")
            equal(agent.metrics()["gatehouse_timers"], 1, "timers")
        # Her address turns out to be another's, who then wants to be forgotten.
        equal(agent.call("POST", "/v1/profiles/email:ada@example.org/unlink").json()["cut"], 1, "links that were cut")
        receipt = agent.call("DELETE", "/v1/profiles/email:ada@example.org").json()["receipt"]
        wait_until(lambda: agent.call("GET", f"/v1/erasures/{receipt}").json()["state"] == "erased", 10, "it is not erased")
        digest = bytes.fromhex(json.loads(receiver.of("/hook")[-1][2])["context"]["identifiers"]["email"])
        equal(digest, plain, "the address in the notice")
        equal(compacted(agent, plain), [], "files with the hash")
        equal(agent.metrics()["gatehouse_timers"], 1, "timers")
        agent.check_accounts()
    finally:
        receiver.close()


def test_how_long_from_event_to_webhook(bench):
    """300 events, one after the other: each arrives; how long that takes is printed, and not a matter of this test."""
    receiver = Receiver(bench.folder)
    try:
        agent = start(bench, receiver)
        connection = agent.connection()
        for number in range(300):
            event = track("ada", "Button Pressed", {"sent": time.time()})
            answer = agent.call("POST", "/v1/track", event, connection=connection)
            equal(answer.status, 200, "status")
            time.sleep(0.005)
        wait_until(lambda: len(receiver.bodies()) == 300, 30, "not every event arrived")
        times = sorted(arrived - json.loads(body)["sent"] for _, _, body, arrived in receiver.of("/hook?shop=1"))
        print(f"      event to webhook over TLS: p50 {times[150] * 1000:.1f} ms, p99 {times[297] * 1000:.1f} ms, "
              f"slowest {times[-1] * 1000:.1f} ms")
        agent.check_accounts()
    finally:
        receiver.close()
