"""Keeping nothing longer than the bundle says, and telling nobody what is restricted, with the real binary."""

import os
import time

from harness import check, equal, track, wait_until
from test_privacy import audit, digests, files_with, gatehouse

BUNDLE = """
version: 1
purposes: { analytics: { ttl: %(purpose)s }, personalization: {} }
identifiers:
  user_id: { from: [userId, context.targetingKey], send: hmac, unique: true }
events:
  Note Taken: { purpose: analytics, ttl: %(event)s, restricted: [properties.notes] }
  Order Completed: { purpose: analytics, schema: { type: object, required: [revenue] } }
  "*": { purpose: analytics }
attributes:
  city: { type: string, value: event.properties.city, ttl: %(attribute)s }
  orders: { type: counter, when: 'event.event == "Order Completed"' }
"""

HUB = """
destinations:
  hub: { url: "https://localhost:%d/v1/batch", purpose: analytics, identifiers: [user_id], batch: { delay: 1s } }
"""

ANALYTICS = {"consent": {"categoryPreferences": {"analytics": True}}}


def event(user, name, properties=None):
    return track(user, name, properties, context=dict(ANALYTICS))


def agent_with(bench, hub=None, purpose="90d", event="90d", attribute="90d"):
    text = BUNDLE % {"purpose": purpose, "event": event, "attribute": attribute}
    if hub:
        text += HUB % hub.port
    path = os.path.join(bench.folder, "keeps.yaml")
    with open(path, "w") as file:
        file.write(text)
    return bench.agent(bundle=path, settings=f"tls: {{ ca: {hub.tls.authority} }}" if hub else "")


def purged(agent, what):
    return agent.metrics()[f'gatehouse_purged_total{{what="{what}"}}']


def compact(agent):
    agent.stop()
    done = gatehouse("store", "compact", "--config", agent.config)
    equal(done.returncode, 0, done.stderr)


def test_an_attribute_is_purged_although_its_person_never_comes_again(bench):
    agent = agent_with(bench, attribute="2s", event="2s")
    for number in range(3):
        agent.batch([event(f"u{turn}-{number}", "Note Taken", {"city": f"city-of-u{turn}"}) for turn in range(100)])
    agent.batch([event("zora", "Note Taken", {"city": "city-of-zora"}), event("zora", "Order Completed", {"revenue": 5})])
    check(files_with(agent.data, b"city-of-zora"), "the test looks in the wrong place")
    wait_until(lambda: purged(agent, "attributes") == 301 and purged(agent, "events") == 301, 30, "something stays")
    equal(agent.metrics()["gatehouse_profiles"], 301, "profiles")
    equal(agent.profile("user_id:zora")["attributes"], {"orders": 1}, "attributes")
    wait_until(lambda: "retention" in {line["action"] for line in audit(agent)}, 5, "no line in the audit log")
    purge = next(line for line in audit(agent) if line["action"] == "retention")
    equal((purge["actor"], "subject" in purge), ("device", False), f"{purge}")
    compact(agent)
    equal(files_with(agent.data, b"city-of-"), [], "files with what was purged")
    agent.start()
    equal(agent.profile("user_id:zora")["attributes"], {"orders": 1}, "attributes")
    equal(gatehouse("audit", "verify", "--config", agent.config).returncode, 0, "the audit log")


def test_a_person_is_purged_when_the_purposes_that_they_grant_are_over(bench):
    agent = agent_with(bench, purpose="4s")
    granted = {"consent": {"categoryPreferences": {"analytics": True, "personalization": True}}}
    agent.batch([
        event("zora", "Order Completed", {"city": "city-of-zora", "revenue": 5}),
        event("zora", "Order Completed", {"city": "quarantined-zora"}),
        track("ben", "Order Completed", {"city": "city-of-ben", "revenue": 5}, context=granted),
    ])
    needles = [b"zora", *digests(agent, "user_id:zora")[:-1]]
    check(files_with(agent.data, *needles), "the test looks in the wrong place")
    wait_until(lambda: purged(agent, "profiles") == 1 and purged(agent, "quarantined") == 1, 40, "the profile stays")
    agent.profile("user_id:zora", expect=404)
    equal(agent.profile("user_id:ben")["attributes"]["orders"], 1, "who grants what has no end")
    events, _ = agent.check_accounts()
    equal((events["admitted"], events["quarantined"]), (2, 1), f"accounts {events}")
    compact(agent)
    equal(files_with(agent.data, *needles), [], "files with something of her")
    agent.start()
    agent.batch([event("zora", "Order Completed", {"revenue": 7})])
    equal(agent.profile("user_id:zora")["attributes"]["orders"], 1, "orders of who comes again")


def test_p7_events_whose_time_is_up_are_expired_at_every_destination(bench):
    hub = bench.hub()
    agent = agent_with(bench, hub, event="3s")
    hub.kill()
    agent.batch([event("zora", "Note Taken", {"notes": f"note-{number}"}) for number in range(300)])
    agent.batch([event("zora", "Visited", {"page": f"page-{number}"}) for number in range(5)])
    equal(agent.check_accounts()[1]["hub"]["queued"], 305, "queued")
    wait_until(lambda: purged(agent, "events") == 300, 30, "events stay")
    agent.check_accounts()
    agent.kill()
    agent.start()
    compact(agent)
    equal(files_with(agent.data, b"note-1"), [], "files with expired events")
    check(files_with(agent.data, b"page-1"), "what is not over is gone, too")
    agent.start()
    hub.start()
    wait_until(lambda: agent.accounts()[1]["hub"]["queued"] == 0, 60, "events are queued on")
    _, destinations = agent.check_accounts()
    terms = destinations["hub"]
    equal((terms["delivered"], terms["expired"], terms["admitted"]), (5, 300, 305), f"{terms}")
    messages = hub.call("GET", "/v1/arrivals?limit=10000").json()["arrivals"]
    equal(sorted(message["properties"]["page"] for message in messages), [f"page-{number}" for number in range(5)], "arrivals")


def test_a_restricted_field_does_not_reach_a_destination_that_does_not_name_it(bench):
    hub = bench.hub()
    agent = agent_with(bench, hub)
    agent.batch([event("zora", "Note Taken", {"notes": "secret-note", "length": 3})])
    wait_until(lambda: agent.accounts()[1]["hub"]["delivered"] == 1, 20, "nothing arrives")
    message = hub.call("GET", "/v1/arrivals").json()["arrivals"][0]
    equal(message["properties"], {"length": 3}, "properties at the hub")
    hub.stop()
    equal(files_with(hub.data, b"secret-note"), [], "files of the hub with the field")


def test_the_sweep_does_not_disturb_events(bench):
    """Thousands of profiles end while events come in: each is answered, and none waits long."""
    agent = agent_with(bench, attribute="1s")
    for turn in range(4):
        agent.batch([event(f"u{turn}-{number}", "Visited", {"city": "x" * 200}) for number in range(400)])
    slowest = 0
    end = time.monotonic() + 40
    count = 0
    while time.monotonic() < end and (count % 20 or purged(agent, "attributes") < 1600):
        begin = time.monotonic()
        equal(agent.call("POST", "/v1/track", event("busy", "Order Completed", {"revenue": 1})).status, 200, "POST")
        slowest = max(slowest, time.monotonic() - begin)
        count += 1
    print(f"      {count} events, the slowest took {slowest * 1000:.0f} ms; {purged(agent, 'attributes'):.0f} attributes purged", flush=True)
    equal(purged(agent, "attributes"), 1600, "purged")
    check(slowest < 1.0, f"an event waited {slowest} s")
    agent.check_accounts()
