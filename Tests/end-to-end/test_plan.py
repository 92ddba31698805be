"""The tracking plan at work, with the real binary: renamed fields, freshness, and fields that are not as usual."""

import hashlib
import os
import signal
import time

from harness import CONSENT, basic, check, equal, track, wait_until

BUNDLE = """
version: {version}
purposes: [analytics, personalization]
identifiers:
  user_id: {{ from: [userId, context.targetingKey], send: hmac, unique: true }}
  phone: {{ from: [traits.phone, properties.phone], normalize: digits, send: hmac }}
events:
  Order Completed:
    purpose: analytics
    fresh: 1h
    invalid: quarantine
    schema: {{ type: object, required: [revenue], properties: {{ revenue: {{ type: number }} }} }}
    fields: {{ {fields} }}
  Page Viewed: {{ purpose: analytics, fresh: 2s }}
  '*': {{ purpose: analytics }}
sources:
  pos: {{ fresh: 1h }}
  elsewhere: {{ fresh: 1s }}
attributes:
  spent: {{ type: sum, when: event.event == "Order Completed", value: event.properties.revenue }}
"""


def agent_with(bench, fields="revenue: { was: [cart_value, total] }", **options):
    path = os.path.join(bench.folder, "plan.yaml")
    with open(path, "w") as file:
        file.write(BUNDLE.format(version=1, fields=fields))
    return bench.agent(bundle=path, **options), path


def order(user, properties, **fields):
    return track(user, "Order Completed", properties, **fields)


def test_a_renamed_field_is_mended_for_everybody(bench):
    agent, path = agent_with(bench)
    agent.batch([
        order("zora", {"cart_value": 5, "note": "a"}), order("zora", {"total": 7}), order("zora", {"revenue": 1, "total": 9}),
        order("zora", {"price": 3})])
    equal(agent.profile("user_id:zora")["attributes"]["spent"], 13.0, "spent")
    record = agent.call("GET", "/v1/profiles/user_id:zora/export").json()
    equal([event["event"]["properties"] for event in record["events"]],
          [{"revenue": 5, "note": "a"}, {"revenue": 7}, {"revenue": 1, "total": 9}], "what was kept")
    name = 'gatehouse_fields_mended_total{event="Order Completed",field="revenue"}'
    equal(agent.metrics()[name], 2, name)
    # What was set aside for want of the new name comes back once the plan knows the old one.
    with open(path, "w") as file:
        file.write(BUNDLE.format(version=2, fields="revenue: { was: price }"))
    agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: agent.metrics()["gatehouse_bundle_version"] == 2, 5, "the bundle is not in force")
    equal(agent.call("POST", "/v1/quarantine/1/release").json()["released"], 1, "released")
    equal(agent.profile("user_id:zora")["attributes"]["spent"], 16.0, "spent")
    agent.check_accounts()


def test_p3_an_alias_does_not_carry_an_identifier_to_where_it_is_kept(bench):
    # The bundle that would do so is refused, and the one in force stays (promise P9).
    agent, path = agent_with(bench, fields="note: { was: remark }")
    for number, fields in enumerate(("note: { was: phone }", "note: { was: email }", "phone: { was: mobile }")):
        with open(path, "w") as file:
            file.write(BUNDLE.format(version=3, fields=fields))
        agent.process.send_signal(signal.SIGHUP)
        wait_until(lambda: agent.log().count("this is a place for identifiers") > number, 5, f"{fields}: {agent.log()}")
    secret = "0171 23456789"
    agent.batch([order("zora-4711", {
        "revenue": 1, "phone": secret, "remark": {"call": f"zora-4711 on {secret}", secret: 1, "number": 17123456789}})])
    record = agent.call("GET", "/v1/profiles/user_id:zora-4711/export").json()["events"][0]["event"]
    check(record["properties"]["note"]["call"] == "[redacted]", f"{record}")
    agent.stop()
    for folder, _, files in os.walk(agent.data):
        for file in files:
            with open(os.path.join(folder, file), "rb") as stored:
                content = stored.read()
            for raw in (secret.encode(), b"017123456789", b"zora-4711"):
                check(raw not in content, f"{raw} is in {file}")
    check(secret not in agent.log() and "zora-4711" not in agent.log(), "an identifier is in the log")


def test_events_and_sources_are_fresh_or_stale_over_a_restart(bench):
    tokens = "\n".join(
        ["tokens:"] + [f"  - {{ {name} sha256: {hashlib.sha256(token.encode()).hexdigest()}, roles: [{roles}] }}"
                       for name, token, roles in (
                           ("name: pos,", "till-1", "collect"), ("name: pos,", "till-2", "collect"),
                           ("", "web", "collect"), ("name: eye,", "eye", "operate"))])
    agent, _ = agent_with(bench, settings=tokens)

    def metrics():
        text = agent.call("GET", "/metrics", headers=basic("eye")).body.decode()
        return dict(line.rpartition(" ")[::2] for line in text.splitlines() if line.startswith(("gatehouse_event_", "gatehouse_source_")))

    seen = metrics()
    web = "token:" + hashlib.sha256(b"web").hexdigest()[:8]
    equal({name for name in seen if name.startswith("gatehouse_source_age")},
          {'gatehouse_source_age_seconds{source="pos"}', f'gatehouse_source_age_seconds{{source="{web}"}}'}, "sources")
    equal(seen['gatehouse_event_objective_seconds{event="Order Completed"}'], "3600", "objective")
    check('gatehouse_event_stale{event="*"}' not in seen, "an event without an objective is stale or not")
    check("elsewhere" not in str(seen), "a source that this device does not have is shown")
    for token in ("till-1", "web"):
        answer = agent.call("POST", "/v1/track", track("zora", "Page Viewed"), headers=basic(token))
        equal(answer.status, 200, f"{answer.body}")
    time.sleep(3.1)
    seen = metrics()
    equal(seen['gatehouse_event_stale{event="Page Viewed"}'], "1", "three seconds are more than two")
    equal(seen['gatehouse_event_stale{event="Order Completed"}'], "0", "never came, but was expected within an hour")
    equal(seen['gatehouse_source_stale{source="pos"}'], "0", "a source")
    agent.call("POST", "/v1/track", track("zora", "Page Viewed"), headers=basic("till-2"))
    seen = metrics()
    equal((seen['gatehouse_event_stale{event="Page Viewed"}'], seen['gatehouse_source_age_seconds{source="pos"}']), ("0", "0"),
          "seen just now, by the other token of the same name")
    check(int(seen[f'gatehouse_source_age_seconds{{source="{web}"}}']) >= 3, f"{seen}")
    agent.stop()
    time.sleep(1.5)
    agent.start()
    age = int(metrics()[f'gatehouse_source_age_seconds{{source="{web}"}}'])
    check(4 <= age <= 60, f"after a restart the source's last event is {age} s old")


def test_a_field_that_is_not_as_usual_is_counted_and_named(bench):
    agent, _ = agent_with(bench)

    def send(times, **properties):
        agent.batch([track("zora-4711", "Page Viewed", {"title": "x", "count": 1, "shop": {"id": 1}, **properties})
                     for _ in range(times)])

    def drift():
        return {tuple(name.split('"')[1::2]): value for name, value in agent.metrics().items()
                if name.startswith("gatehouse_schema_drift_total{")}

    send(200)
    equal(drift(), {}, "while learning")
    send(1, referrer="y", **{"zora-4711": 1, "Zora Müller": 1})
    send(16, count="1")
    changes = drift()
    equal(changes[("Page Viewed", "referrer", "new")], 1, f"{changes}")
    equal(changes[("Page Viewed", "other", "new")], 1, f"{changes}")
    check(changes[("Page Viewed", "count", "type")] >= 1, f"{changes}")
    agent.batch([track("zora-4711", "Page Viewed", {"title": "x", "count": 1}) for _ in range(60)])
    equal(drift()[("Page Viewed", "shop", "missing")], 1, f"{drift()}")
    lines = [line for line in agent.log().splitlines() if "a field is not as it usually is" in line]
    equal(len(lines), 4, f"one line for each: {lines}")
    before = drift()
    agent.kill()
    agent.start()
    equal(drift(), before, "after a restart")
    send(1, referrer="y")
    equal(drift()[("Page Viewed", "referrer", "new")], 1, "a field that is known is not new again")
    text = agent.call("GET", "/metrics").body.decode() + agent.log()
    check("zora" not in text.lower(), "a person's data is shown")
    agent.check_accounts()
