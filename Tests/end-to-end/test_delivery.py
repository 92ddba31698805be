"""Delivery to a hub through outages of every kind: promises P2 (delivered), P3 (private) and P4 (consented)."""

import collections
import hashlib
import json
import os
import signal
import socket
import time

from harness import CONSENT, TLSFiles, check, equal, free_port, track, wait_until


# Events of tier realtime, which have a lane of their own in each destination.
REALTIME = {"Order Completed", "Order Refunded", "User Erased"}


def arrivals(hub):
    """Every message that the hub has, in the order of arrival."""
    found, last = [], 0
    while True:
        answer = hub.call("GET", f"/v1/arrivals?after={last}&limit=500")
        equal(answer.status, 200, f"GET /v1/arrivals ({answer.body[:200]!r})")
        page = answer.json()
        if not page["arrivals"]:
            return found
        found += page["arrivals"]
        last = page["last"]


def queued(agent, destination="hub"):
    return agent.accounts()[1][destination]["queued"]


def wait_for_delivery(agent, seconds=30):
    wait_until(lambda: queued(agent) == 0, seconds, f"the queue is not empty; the log says:\n{agent.log()}", 0.1)


def check_exactly_once_in_order(messages, expected_ids):
    """Once each, and numbered as the log is: rising in each lane, for one device and epoch. Records of decisions come besides."""
    ids = [message["messageId"] for message in messages if message.get("event") != "Decision Made"]
    repeated = [id for id, count in collections.Counter(ids).items() if count > 1]
    check(not repeated, f"{len(repeated)} messages arrived more than once, such as {repeated[:3]}")
    missing = set(expected_ids) - set(ids)
    check(not missing, f"{len(missing)} of {len(expected_ids)} messages never arrived, such as {sorted(missing)[:3]}")
    equal(len(ids), len(expected_ids), "number of messages")
    origins = [message["context"]["gatehouse"] for message in messages]
    equal(len({(origin["device"], origin["epoch"]) for origin in origins}), 1, "devices and epochs")
    check_order_of_lanes(messages)


def in_log_order(messages):
    return sorted(messages, key=lambda message: message["context"]["gatehouse"]["seq"])


def check_order_of_lanes(messages):
    for is_urgent in (True, False):
        numbers = [message["context"]["gatehouse"]["seq"] for message in messages
                   if (message.get("event") in REALTIME) == is_urgent]
        check(numbers == sorted(set(numbers)), f"the sequence is not that of the log: {numbers[:50]}")


def orders(user, count, begin=0):
    return [track(user, "Order Completed", {"order_id": f"{user}-{number}", "revenue": 1.5})
            for number in range(begin, begin + count)]


def ids_of(events):
    return [event["messageId"] for event in events]


def test_a_filter_sees_the_person_s_audiences(bench):
    hub = bench.hub()
    agent = bench.agent_of(hub, [
        ("""when: 'event.type != "page"'""", """when: 'audience["regular"] && age.profile < duration("1h")'""")])
    events = [orders("ada", 4), orders("ben", 2)]
    for some in events:
        agent.batch(some)
    wait_for_delivery(agent)
    equal(sorted({message["messageId"] for message in arrivals(hub)}), sorted(ids_of(events[0])), "what only regulars send")


def test_p2_every_event_reaches_the_hub_once_in_log_order(bench):
    hub = bench.hub()
    agent = bench.agent_of(hub)
    sent = []
    for round in range(8):
        events = orders(f"u{round}", 5) + [track(f"u{round}", "Product Viewed", {"product_id": str(round)})]
        agent.batch(events, compress=round % 2 == 1)
        sent += events
    wait_for_delivery(agent)
    messages = arrivals(hub)
    check_exactly_once_in_order(messages, ids_of(sent))
    for kind in ("Order Completed", "Product Viewed"):
        equal([message["messageId"] for message in messages if message["event"] == kind],
              [event["messageId"] for event in sent if event["event"] == kind], "order")
    for message in messages:
        origin = message["context"]["gatehouse"]
        equal(origin["device"], "run", "device")
        equal(sorted(origin["consent"]), ["analytics", "personalization"], "consent")
        equal(origin["bundle"], 1, "bundle")
        check("timestamp" in message and message["type"] == "track", f"{message}")
    events, destinations = agent.check_accounts()
    equal((events["admitted"], destinations["hub"]["delivered"]), (len(sent), len(sent)), "accounts")
    # The hub counts too, and knows a repeat: the same batch again is no second arrival.
    equal(hub.call("POST", "/v1/batch", {"batch": messages[:10]}).status, 200, "the same again")
    equal(len(arrivals(hub)), len(sent), "arrivals after a repeat")
    equal(hub.check_accounts()[0]["duplicate"], 10, "duplicates at the hub")


def test_p2_only_what_the_bundle_allows_leaves(bench):
    hub = bench.hub()
    agent = bench.agent_of(hub)
    context = {**CONSENT, "ip": "203.0.113.77", "page": {"path": "/kept"}, "device": {"id": "raw-device-4711"}}
    agent.batch([
        {"type": "identify", "userId": "private-user", "anonymousId": "private-till", "context": context,
         "traits": {"email": "Private.Person@Example.org", "plan": "kept-trait"}},
        track("private-user", "Order Completed",
              {"order_id": "1", "revenue": 12.25, "notes": "private-notes", "email": "private.person@example.org",
               "nested": {"notes": "kept-note"}}, context=context, anonymousId="private-till"),
        {"type": "page", "userId": "private-user", "name": "filtered-page", "context": context},
        track("private-user", "Product Viewed", {"product_id": "last"}, context=context),
    ])
    wait_for_delivery(agent)
    messages = in_log_order(arrivals(hub))
    equal([message["type"] for message in messages], ["identify", "track", "track"], "types: the page event is filtered")
    _, destinations = agent.check_accounts()
    equal((destinations["hub"]["delivered"], destinations["hub"]["filtered"]), (3, 1), f"{destinations}")
    text = json.dumps(messages).lower()
    for raw in ("private-user", "private-till", "private.person", "raw-device-4711", "private-notes", "203.0.113.77",
                "filtered-page"):
        check(raw not in text, f"{raw} has left: {text}")
    for kept in ("kept-trait", "/kept", "kept-note", "12.25"):
        check(kept in text, f"{kept} is missing: {text}")
    # E-mail and user id may leave as hashes; the till may not at all.
    for message in messages:
        identifiers = message["context"]["identifiers"]
        check(set(identifiers) <= {"email", "user_id"}, f"{identifiers}")
        check(all(len(value) == 64 and int(value, 16) >= 0 for value in identifiers.values()), f"{identifiers}")
    plain = hashlib.sha256(b"private.person@example.org").hexdigest()
    equal(messages[0]["context"]["identifiers"]["email"], plain, "e-mail: SHA-256 of the normalised address")
    equal(messages[1]["context"]["identifiers"]["email"], plain, "e-mail in properties")
    equal(len({message["context"]["identifiers"]["user_id"] for message in messages}), 1, "one person, one user_id")
    user = messages[0]["context"]["identifiers"]["user_id"]
    check(user != hashlib.sha256(b"private-user").hexdigest(), "user_id left as a plain hash")
    # The hash is keyed: another device, with another pepper, calls the same person something else.
    other = bench.agent_of(hub, name="other")
    other.batch([track("private-user", "Product Viewed", {"product_id": "last"}, context=context)])
    wait_for_delivery(other)
    message = arrivals(hub)[-1]
    equal(message["context"]["gatehouse"]["device"], "other", "device")
    check(message["context"]["identifiers"]["user_id"] != user, "two devices with one pepper")


def test_p2_an_event_that_may_wait_leaves_after_its_delay(bench):
    hub = bench.hub()
    agent = bench.agent_of(hub)
    time.sleep(1.5)  # the sender has gone to rest
    agent.batch([track("u", "Product Viewed", {"product_id": "1"})])  # tier batch, and delay: 1s
    begin = time.monotonic()
    wait_for_delivery(agent, 8)
    check(time.monotonic() - begin > 0.5, "it left at once: the events of a batch do not wait for each other")
    equal(len(arrivals(hub)), 1, "arrivals")


def test_p2_a_hub_that_comes_late_gets_everything(bench):
    hub = bench.hub()
    hub.stop()
    agent = bench.agent_of(hub)
    first = orders("early", 20)
    agent.batch(first)
    agent.kill()
    agent.start()
    second = orders("early", 20, 20)
    agent.batch(second)
    agent.stop()
    agent.start()
    third = orders("late", 20)
    agent.batch(third)
    equal(queued(agent), 60, "queued while the hub is down")
    agent.check_accounts()
    hub.start()
    wait_for_delivery(agent)
    check_exactly_once_in_order(arrivals(hub), ids_of(first + second + third))
    _, destinations = agent.check_accounts()
    equal(destinations["hub"]["delivered"], 60, f"{destinations}")


def test_p2_a_hub_killed_in_the_middle_loses_and_repeats_nothing(bench):
    hub = bench.hub()
    agent = bench.agent_of(hub, [("batch: { events: 500,", "batch: { events: 20,")])
    sent = []
    for round in range(30):
        events = orders(f"u{round}", 20)
        agent.batch(events)
        sent += events
        time.sleep(0.04)
        if round in (6, 14, 22):
            check(arrivals(hub), "the hub has nothing yet: it was not killed in the middle")
            hub.process.send_signal(signal.SIGKILL)
            hub.process.wait()
        if round in (8, 16, 24):
            hub.start()
    wait_for_delivery(agent)
    check_exactly_once_in_order(arrivals(hub), ids_of(sent))
    agent.check_accounts()
    hub.check_accounts()


def test_p2_a_dead_destination_stalls_no_other(bench):
    hub = bench.hub()
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections and never says a word
    dead = free_port()
    agent = bench.agent_of(hub, [("destinations:\n", (
        "destinations:\n"
        f"  silent: {{ url: 'https://localhost:{silent.getsockname()[1]}/v1/batch', purpose: analytics }}\n"
        f"  dead: {{ url: 'https://localhost:{dead}/v1/batch', purpose: analytics }}\n"))])
    sent = []
    for round in range(5):
        events = orders(f"u{round}", 10)
        agent.batch(events)
        sent += events
        wait_for_delivery(agent, 5)
    check_exactly_once_in_order(arrivals(hub), ids_of(sent))
    _, destinations = agent.check_accounts()
    equal({name: (terms["delivered"], terms["queued"]) for name, terms in destinations.items()},
          {"hub": (50, 0), "silent": (0, 50), "dead": (0, 50)}, "delivered and queued")
    begin = time.monotonic()
    agent.stop()
    silent.close()
    check(time.monotonic() - begin < 5, "a silent destination holds up the end")


def test_p2_nothing_leaves_for_a_hub_that_cannot_prove_its_name(bench):
    hub = bench.hub()
    folder = os.path.join(bench.folder, "other")
    os.mkdir(folder)
    stranger = TLSFiles(folder)
    hub_authority, hub.tls.authority = hub.tls.authority, stranger.authority
    agent = bench.agent_of(hub)
    hub.tls.authority = hub_authority
    agent.batch(orders("u", 10))
    wait_until(lambda: "certificate" in agent.log().lower(), 15, f"the log says why nothing leaves:\n{agent.log()}")
    time.sleep(1)
    equal(arrivals(hub), [], "arrivals")
    _, destinations = agent.check_accounts()
    equal((destinations["hub"]["queued"], destinations["hub"]["delivered"]), (10, 0), f"{destinations}")
    equal(agent.decide("layout", "u", width=2000)["value"], "wide", "decisions go on")


def test_p4_revocation_stops_what_is_queued(bench):
    hub = bench.hub()
    hub.stop()
    agent = bench.agent_of(hub)
    withdrawn, kept = orders("withdrawn", 10), orders("kept", 5)
    agent.batch(withdrawn + kept)
    equal(queued(agent), 15, "queued")
    answer = agent.call("PUT", "/v1/profiles/user_id:withdrawn/consent", {"analytics": False})
    equal(answer.status, 200, f"PUT consent ({answer.body!r})")
    agent.kill()  # a revocation that was answered is as durable as an event
    agent.start()
    hub.start()
    wait_for_delivery(agent)
    check_exactly_once_in_order(arrivals(hub), ids_of(kept))
    _, destinations = agent.check_accounts()
    equal((destinations["hub"]["delivered"], destinations["hub"]["filtered"]), (5, 10), f"{destinations}")


def test_p2_events_leave_as_cloudevents_where_a_destination_asks_for_them(bench):
    hub = bench.hub()
    agent = bench.agent_of(hub, bundle_changes=[("/v1/batch", "/v1/events\n    format: cloudevents")])
    events = orders("zora", 20)
    agent.batch(events)
    wait_for_delivery(agent)
    check_exactly_once_in_order(arrivals(hub), ids_of(events))
    equal(agent.check_accounts()[1]["hub"]["rejected"], 0, "rejected")
