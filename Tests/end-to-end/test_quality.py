"""Quality at the door, with the real binary: what breaks its schema, and the quarantine."""

import os

from harness import check, equal, track

BUNDLE = """
version: {version}
purposes: [analytics]
identifiers:
  user_id: {{ from: [userId, context.targetingKey], send: hmac, unique: true }}
  email: {{ from: [traits.email, properties.email], normalize: email, send: hmac }}
events:
  Order Completed:
    purpose: analytics
    invalid: {invalid}
    schema:
      type: object
      required: [revenue]
      properties:
        revenue: {{ type: number, minimum: 0, maximum: {maximum} }}
        coupon: {{ type: string, pattern: '^[A-Z]+$' }}
        items: {{ type: array, items: {{ type: object, properties: {{ price: {{ type: number }} }} }} }}
attributes:
  spent: {{ type: sum, when: event.event == "Order Completed", value: event.properties.revenue }}
"""
CONSENT = {"consent": {"categoryPreferences": {"analytics": True}}}


def order(user, properties):
    return track(user, "Order Completed", properties, context=CONSENT)


def agent_with(bench, **settings):
    path = os.path.join(bench.folder, "plan.yaml")
    with open(path, "w") as file:
        file.write(BUNDLE.format(**{"version": 1, "invalid": "quarantine", "maximum": 100, **settings}))
    return bench.agent(bundle=path), path


def test_quarantine_says_why_and_where_and_lets_go_when_the_plan_is_mended(bench):
    agent, path = agent_with(bench)
    agent.batch([
        order("zora", {"revenue": 500}), order("zora", {"revenue": 1, "items": [{"price": 1}, {"price": "x"}]}),
        order("zora", {"revenue": 2, "coupon": "zora@example.org"})])
    agent.profile("user_id:zora", expect=404)
    listed = agent.call("GET", "/v1/quarantine").json()["quarantined"]
    reasons = [(entry["what"]["keyword"], entry["what"]["rule"], entry["what"]["pointer"]) for entry in listed]
    equal(reasons, [
        ("maximum", "/properties/revenue/maximum", "/properties/revenue"),
        ("type", "/properties/items/items/properties/price/type", "/properties/items/1/price"),
        ("pattern", "/properties/coupon/pattern", "/properties/coupon")], "why")
    check("zora" not in str(listed), f"an identifier is shown: {listed}")
    answer = agent.call("POST", "/v1/quarantine/1/release")
    equal(answer.status, 409, "release before the plan is mended")
    equal(answer.json()["kept"][0]["pointer"], "/properties/revenue", "why it stays")
    with open(path, "w") as file:
        file.write(BUNDLE.format(version=2, invalid="quarantine", maximum=1000))
    agent.process.send_signal(1)
    agent.call("GET", "/healthz")
    import time
    time.sleep(0.5)
    equal(agent.call("POST", "/v1/quarantine/all/release").json()["released"], 1, "released")
    equal(agent.profile("user_id:zora")["attributes"]["spent"], 500.0, "spent")
    events, _ = agent.check_accounts()
    equal((events["admitted"], events["quarantined"]), (1, 2), f"accounts {events}")
    equal(agent.call("DELETE", "/v1/quarantine/2").json(), {"deleted": 1}, "delete")
    equal(agent.call("DELETE", "/v1/quarantine/2").status, 404, "delete again")
    equal(agent.call("DELETE", "/v1/quarantine/all").json(), {"deleted": 1}, "delete all")
    equal(agent.call("GET", "/v1/quarantine").json()["quarantined"], [], "what is left")
    agent.check_accounts()
    for route in ("/v1/quarantine/x", "/v1/quarantine/", "/v1/quarantine/0"):
        equal(agent.call("DELETE", route).status, 404, route)


def test_strip_takes_an_event_without_what_is_wrong_with_it(bench):
    agent, _ = agent_with(bench, invalid="strip")
    agent.batch([order("zora", {"revenue": 50, "coupon": "not allowed", "shop": "kept"}), order("zora", {"coupon": "GOOD"})])
    record = agent.call("GET", "/v1/profiles/user_id:zora/export").json()
    equal([event["event"]["properties"] for event in record["events"]], [{"revenue": 50, "shop": "kept"}], "what was kept")
    events, _ = agent.check_accounts()
    equal((events["admitted"], events["quarantined"]), (1, 1), f"accounts {events}")


def test_drop_refuses_and_says_where(bench):
    agent, _ = agent_with(bench, invalid="drop")
    answer = agent.call("POST", "/v1/track", order("zora", {"revenue": -1}))
    equal(answer.status, 400, f"{answer.body}")
    error = answer.json()["errors"][0]
    equal((error["code"], error["pointer"], error["rule"]),
          ("invalid", "/properties/revenue", "/properties/revenue/minimum"), f"{error}")
    events, _ = agent.check_accounts()
    equal(events["refused"], 1, f"accounts {events}")
