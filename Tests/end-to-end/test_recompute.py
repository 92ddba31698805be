"""A new rule and the events that came before it, with the real binary: counted from the log, or said to be lacking."""

import hashlib
import os
import signal

from harness import check, equal, track, wait_until
from test_privacy import files_with, gatehouse

BUNDLE = """
version: %(version)d
purposes: [analytics]
identifiers:
  user_id: { from: [userId, context.targetingKey], send: hmac, unique: true }
  email: { from: [properties.email], normalize: email, send: sha256 }
events: { "*": { purpose: analytics } }
attributes:
  orders: { type: counter, when: 'event.event == "Order Completed"' }
%(more)s
destinations:
  hub: { url: "https://localhost:%(port)d/v1/batch", purpose: analytics, identifiers: [user_id, email], batch: { delay: 100ms } }
"""

MORE = """
  spent: { type: sum, when: 'event.event == "Order Completed"', value: event.properties.revenue }
  viewed: { type: set, when: 'event.event == "Product Viewed"', value: event.properties.product_id, limit: 1000 }
  vip: { type: badge, when: profile.spent > 100.0 }
"""

ANALYTICS = {"consent": {"categoryPreferences": {"analytics": True}}}


def event(user, name, **properties):
    return track(user, name, properties, context=dict(ANALYTICS))


def write_bundle(bench, hub, version=1, more=""):
    path = os.path.join(bench.folder, "rules.yaml")
    with open(path, "w") as file:
        file.write(BUNDLE % {"version": version, "more": more, "port": hub.port})
    return path


def agent_with(bench, hub, settings=""):
    return bench.agent(bundle=write_bundle(bench, hub), settings=f"tls: {{ ca: {hub.tls.authority} }}\n{settings}")


def outcomes(agent):
    metrics = agent.metrics()
    return {word: metrics[f'gatehouse_recompute_events_total{{outcome="{word}"}}'] for word in ("counted", "unchanged", "denied", "missing")}


def is_done(agent, version=2):
    metrics = agent.metrics()
    return metrics["gatehouse_bundle_version"] == version and metrics["gatehouse_recompute_pending"] == 0 and \
        "new attributes were computed" in agent.log()


def delivered(agent, count):
    return agent.accounts()[1]["hub"]["delivered"] == count


def shown(agent, reference):
    answer = gatehouse("profile", "show", reference, "--config", agent.config)
    equal(answer.returncode, 0, answer.stderr)
    return answer.stdout


def test_a_new_rule_counts_the_events_that_the_log_still_has(bench):
    """Events that have all been delivered, a new bundle by SIGHUP, a kill in the middle, and events meanwhile."""
    hub = bench.hub()
    agent = agent_with(bench, hub)
    users = [f"u{number}" for number in range(50)]
    for turn in range(40):
        agent.batch([event(user, "Product Viewed", product_id=f"p-{turn}") for user in users]
                    + [event(user, "Order Completed", revenue=turn) for user in users])
    wait_until(lambda: delivered(agent, 4000), 90, "not everything arrives")
    equal(agent.check_accounts()[1]["hub"]["queued"], 0, "queued")
    write_bundle(bench, hub, 2, MORE)
    agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: outcomes(agent)["counted"] > 200, 20, "nothing is counted")
    agent.batch([event("u7", "Order Completed", revenue=1000)])
    agent.kill()
    agent.start()
    agent.batch([event("u8", "Order Completed", revenue=1000)])
    wait_until(lambda: is_done(agent), 60, f"it does not end: {agent.log()}")
    before = outcomes(agent)
    check(0 < before["counted"] < 4000 and before["missing"] == 0, f"after the kill only the rest is counted: {before}")
    for user in users:
        profile = agent.profile(f"user_id:{user}")
        more = 1000 if user in ("u7", "u8") else 0
        equal(profile["attributes"]["spent"], 780.0 + more, f"spent of {user}")
        equal(profile["attributes"]["orders"], 40 + (more > 0), f"orders of {user}")
        equal(len(profile["attributes"]["viewed"]), 40, f"viewed of {user}")
        equal((profile["attributes"]["vip"], "incomplete" in profile), (True, False), f"{profile}")
    agent.check_accounts()


def test_what_the_log_has_lost_is_said_of_whom_it_concerns(bench):
    hub = bench.hub()
    agent = agent_with(bench, hub, "limits: { history: 0 }")
    agent.batch([event("ada", "Order Completed", revenue=5)])
    wait_until(lambda: delivered(agent, 1), 20, "nothing arrives")
    write_bundle(bench, hub, 2, MORE)
    agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: agent.metrics()["gatehouse_bundle_version"] == 2, 10, "the bundle is not in force")
    agent.batch([event("ada", "Order Completed", revenue=7), event("ben", "Order Completed", revenue=7)])
    ada, ben = agent.profile("user_id:ada"), agent.profile("user_id:ben")
    equal((ada["attributes"]["orders"], ada["attributes"]["spent"], ada["incomplete"]), (2, 7.0, ["spent", "viewed", "vip"]), "Ada")
    equal((ben["attributes"]["spent"], "incomplete" in ben), (7.0, False), "Ben")
    check("incomplete" in shown(agent, "user_id:ada") and "incomplete" not in shown(agent, "user_id:ben"), "profile show")


# limit: limits.history
def test_the_history_is_bounded_and_goes_before_anything_that_waits(bench):
    """A small history; then a store that gets full while the hub is away: what waits stays, what was delivered goes."""
    hub = bench.hub()
    agent = agent_with(bench, hub, "limits: { history: 100KiB, disk: 16MiB }")

    def exported():
        return len(agent.call("GET", "/v1/profiles/user_id:ada/export").json()["events"])

    for turn in range(10):
        agent.batch([event("ada", "Noted", text=f"note-{turn}-{number}-" + "x" * 500) for number in range(100)])
    wait_until(lambda: delivered(agent, 1000), 60, "not everything arrives")
    agent.batch([event("ada", "Noted", text="the last")])
    wait_until(lambda: delivered(agent, 1001), 60, "not everything arrives")
    wait_until(lambda: 50 < exported() < 200, 20, f"{exported()} events are kept")
    hub.kill()
    agent.batch([event("ada", "Noted", text=f"later-{number}-" + "x" * 500) for number in range(500)])
    equal(agent.check_accounts()[1]["hub"]["queued"], 500, "queued")
    equal(exported(), 500, "events kept: those that wait")
    hub.start()
    wait_until(lambda: delivered(agent, 1501), 60, "not everything arrives")
    agent.check_accounts()


def test_p3_the_history_has_no_hash_that_others_can_make(bench):
    plain = hashlib.sha256(b"ada@example.org").digest()
    hub = bench.hub()
    agent = agent_with(bench, hub)
    hub.kill()
    agent.batch([event("ada", "Noted", email="ada@example.org") for _ in range(600)])
    check(files_with(agent.data, plain), "the test looks in the wrong place")
    hub.start()
    wait_until(lambda: delivered(agent, 600), 60, "not everything arrives")
    message = hub.call("GET", "/v1/arrivals").json()["arrivals"][0]
    equal(message["context"]["identifiers"]["email"], plain.hex(), "what the hub was told")
    events = agent.call("GET", "/v1/profiles/user_id:ada/export").json()["events"]
    equal(len(events), 600, "events in the history")
    agent.stop()
    done = gatehouse("store", "compact", "--config", agent.config)
    equal(done.returncode, 0, done.stderr)
    equal(files_with(agent.data, plain), [], "files with the hash")
    agent.start()
    equal(len(agent.call("GET", "/v1/profiles/user_id:ada/export").json()["events"]), 600, "events in the history")
