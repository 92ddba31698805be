"""Decisions that come with an event (POST /v1/decide), and what is kept of decisions: caps, records, explanations."""

import os
import re
import subprocess
import time

from harness import binary, check, equal, wait_until

BUNDLE = """
version: 5
purposes: [analytics, personalization]
identifiers:
  user_id: { from: [userId, context.targetingKey], send: hmac, unique: true }
events:
  Order Completed: { purpose: analytics, invalid: quarantine, schema: { type: object, required: [revenue] } }
  Named Only: { purpose: analytics }
attributes:
  orders: { type: counter, when: 'event.event == "Order Completed"' }
decisions:
  thanks:
    purpose: personalization
    variants: { none: 0, first: 1, regular: 5 }
    default: none
    rules:
      - { name: regular, when: profile.orders >= 2, serve: regular }
      - { name: this order is large, when: 'event.properties.revenue > 100.0', serve: regular }
      - { name: first order, when: profile.orders == 1 && context.channel == "till", serve: first }
  capped: { purpose: personalization, cap: { serves: 3, per: 1d }, variants: { no: 0, yes: 1 }, default: no, rules: [ { serve: yes } ] }
  plain: { variants: { on: true }, default: on }
"""
GRANTS = {"consent": {"categoryPreferences": {"analytics": True, "personalization": True}}}


def order(user, revenue=10.0, **more):
    return {"type": "track", "userId": user, "event": "Order Completed", "properties": {"revenue": revenue}, "context": GRANTS,
            **more}


def agent_with(bench, settings=""):
    path = os.path.join(bench.folder, "decide.yaml")
    with open(path, "w") as file:
        file.write(BUNDLE)
    return bench.agent(bundle=path, settings=settings)


def decide(agent, event, keys=None, status=200, **more):
    body = {"event": event, **({"decisions": keys} if keys is not None else {}), **more}
    answer = agent.call("POST", "/v1/decide", body)
    equal(answer.status, status, f"status of /v1/decide ({answer.body[:300]!r})")
    return answer.json()


def test_a_decision_includes_the_event_that_it_comes_with(bench):
    agent = agent_with(bench)
    answer = decide(agent, order("ada"), ["thanks", "plain", "nothing"], context={"channel": "till"})
    thanks = answer["decisions"]["thanks"]
    equal((answer["event"], thanks["variant"], thanks["value"], thanks["reason"]), ("admitted", "first", 1, "TARGETING_MATCH"), "one order")
    check(re.fullmatch("[0-9a-f]{16}", thanks["id"]), f"id: {thanks}")
    equal(thanks["rule"], "first order", "the rule")
    equal(answer["decisions"]["plain"]["value"], True, "a decision about nobody")
    equal(answer["decisions"]["nothing"]["errorCode"], "FLAG_NOT_FOUND", "a decision that is not there")
    # What was answered is on the disk.
    agent.kill()
    agent.start()
    equal(agent.profile("user_id:ada")["attributes"]["orders"], 1, "the order after a kill")
    check(agent.metrics()["gatehouse_events_generated_total"] >= 1, "the record of the decision after a kill")
    equal(decide(agent, order("ada"))["decisions"]["thanks"]["variant"], "regular", "two orders, all decisions asked for")
    # The event itself is there for rules, too.
    equal(decide(agent, order("eve", 101.5), ["thanks"])["decisions"]["thanks"]["rule"], "this order is large", "event in a rule")
    # Once more, and under no consent.
    again = order("bob", messageId="m-1")
    equal(decide(agent, again, ["thanks"])["event"], "admitted", "a message")
    equal(decide(agent, again, ["thanks"])["event"], "duplicate", "the same message")
    refusing = order("cyd", context={"consent": {"categoryPreferences": {"analytics": False, "personalization": False}}})
    answer = decide(agent, refusing, ["thanks"])
    equal((answer["event"], answer["decisions"]["thanks"]["consent"]), ("denied", "denied"), "somebody who refuses")
    answer = decide(agent, {**order("ada"), "properties": {}}, ["thanks"])
    equal(answer["event"], "quarantined", "an event against its schema")
    agent.check_accounts()


def test_a_decision_from_memory_includes_the_event_before_its_commit(bench):
    agent = agent_with(bench)
    decide(agent, order("ada"), ["plain"])
    answer = decide(agent, order("ada"), ["thanks"], durable=False)
    equal(answer["event"], "pending", "what becomes of the event")
    equal(answer["decisions"]["thanks"]["variant"], "regular", "the second order counts at once")
    wait_until(lambda: agent.profile("user_id:ada")["attributes"]["orders"] == 2, 5, "the event is written all the same")
    # Of somebody whom nobody knows nothing is presumed: they may have been erased.
    answer = decide(agent, order("new"), ["thanks"], durable=False)
    equal(answer["decisions"]["thanks"]["consent"], "denied", "nobody yet")
    wait_until(lambda: agent.call("GET", "/v1/profiles/user_id:new").status == 200, 5, "then they are known")
    # A repeat does not count again, nor does an event whose own purpose is refused.
    again = order("ada", messageId="m-2")
    equal(agent.call("POST", "/v1/track", again).status, 200, "a message")
    decide(agent, again, ["thanks"], durable=False)
    equal(agent.profile("user_id:ada")["attributes"]["orders"], 3, "the repeat")
    agent.call("PUT", "/v1/profiles/user_id:fay/consent", {"analytics": False, "personalization": True})
    for durable in (False, True):
        fay = order("fay", 500.0, context={})
        equal(decide(agent, fay, ["thanks"], durable=durable)["decisions"]["thanks"]["variant"], "none", "an event that is not taken")
    # A refusal in the event counts at once.
    refusal = order("ada", context={"consent": {"categoryPreferences": {"personalization": False}}})
    equal(decide(agent, refusal, ["thanks"], durable=False)["decisions"]["thanks"]["consent"], "denied", "a refusal")
    agent.check_accounts()


def test_an_event_of_somebody_else_allows_nothing(bench):
    agent = agent_with(bench)
    for user in ("ada", "bob"):
        decide(agent, order(user, context={"consent": {"categoryPreferences": {"analytics": True}}}), ["plain"])
    for durable in (False, True):
        answer = decide(agent, order("ada"), ["thanks"], context={"targetingKey": "bob"}, durable=durable)
        equal(answer["decisions"]["thanks"]["consent"], "denied", "Ada's event grants for Ada")


# limit: Activation.decisionsAsked
def test_what_is_wrong_with_a_question_is_said(bench):
    agent = agent_with(bench)
    for body, code in [
        ({}, "no_event"), ({"event": 1}, "no_event"), ({"event": order("a"), "decisions": "thanks"}, "bad_decisions"),
        ({"event": order("a"), "decisions": [1]}, "bad_decisions"),
        ({"event": order("a"), "decisions": ["d"] * 101}, "bad_decisions"), ({"event": order("a"), "durable": "no"}, "bad_durable"),
        ({"event": order("a"), "context": []}, "bad_context"), ({"event": order("a"), "context": {"targetingKey": 5}}, None), ({"event": {"type": "track", "event": "x"}}, "no_identity"),
        ({"event": {**order("a"), "event": "Not In Plan"}}, "not_in_plan"), ("{", "bad_json"), ("[]", "not_an_object"),
    ]:
        for durable in (True, False):
            sent = {**body, "durable": durable} if isinstance(body, dict) and "durable" not in body else body
            answer = agent.call("POST", "/v1/decide", sent)
            equal((answer.status, answer.json().get("code")), (400, code), f"{sent}")
    equal(agent.call("GET", "/v1/decide").status, 405, "GET")
    events, _ = agent.check_accounts()
    equal(events["admitted"], 0, "with a question that is none the event is not taken")


def test_a_path_that_is_no_text_is_refused(bench):
    """What is percent-encoded is UTF-8 in every path: what comes back in an answer is, too."""
    agent = agent_with(bench)
    agent.call("POST", "/v1/track", order("ada"))
    for path in ("/ofrep/v1/evaluate/flags/%ff", "/ofrep/v1/evaluate/flags/thanks%c3", "/ofrep/v1/evaluate/flags/%ed%a0%80",
                 "/ofrep/v1/evaluate/flags/%zz"):
        answer = agent.call("POST", path, {"context": {"targetingKey": "ada"}})
        equal(answer.status, 400, f"status of {path}")
        check("UTF-8" in answer.json()["detail"], f"what is wrong: {answer.body!r}")
    for method, path in (("GET", "user_id:%ff"), ("GET", "user_id:%c0%80/export"), ("DELETE", "%ff"),
                         ("POST", "user_id:%e2%82/unlink"), ("POST", "user_id:ada/unlink?from=user_id:%ff")):
        answer = agent.call(method, f"/v1/profiles/{path}")
        equal(answer.status, 400, f"status of {method} {path}")
        answer.json()
    # Bytes that are not encoded at all.
    raw = (b"POST /ofrep/v1/evaluate/flags/\xff HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n"
           b"Connection: close\r\n\r\n{}")
    check(agent.raw(raw).startswith(b"HTTP/1.1 400 "), f"the answer to {raw!r}")
    answer = agent.call("POST", "/ofrep/v1/evaluate/flags/gr%C3%BC%C3%9Fe", {"context": {"targetingKey": "ada"}})
    equal((answer.status, answer.json()["key"]), (404, "gr\u00fc\u00dfe"), "a key that is UTF-8")


def test_a_cap_holds_across_a_restart(bench):
    agent = agent_with(bench)
    decide(agent, order("ada"), ["plain"])
    seen = [agent.decide("capped", "ada")["variant"] for _ in range(2)]
    seen.append(decide(agent, order("ada"), ["capped"])["decisions"]["capped"]["variant"])
    answer = agent.decide("capped", "ada")
    equal((seen, answer["variant"], answer["metadata"]["capped"]), (["yes"] * 3, "no", True), "three serves")
    wait_until(lambda: agent.metrics()['gatehouse_decision_records_total{outcome="kept"}'] >= 4, 5, "the records")
    agent.kill()
    agent.start()
    equal(agent.decide("capped", "ada")["variant"], "no", "after a kill")


def test_a_cap_holds_for_somebody_without_a_profile(bench):
    agent = agent_with(bench)
    agent.call("PUT", "/v1/profiles/user_id:gus/consent", {"personalization": True})
    seen = []
    for _ in range(6):
        seen.append(agent.decide("capped", "gus")["variant"])
        time.sleep(0.4)
    check(seen.count("yes") <= 3, f"six asks over commits: {seen}")


def test_a_decision_is_explained(bench):
    agent = agent_with(bench)
    decide(agent, order("ada"), ["plain"])
    answer = agent.decide("thanks", "ada", channel="till")
    number = answer["metadata"]["id"]
    wait_until(lambda: agent.metrics()['gatehouse_decision_records_total{outcome="kept"}'] >= 1, 5, "the record")

    def explain(*arguments):
        return subprocess.run(
            binary() + ["explain", *arguments, "--config", agent.config], capture_output=True, text=True, timeout=30)

    wait_until(lambda: explain(number).returncode == 0, 5, "the record's commit")
    told = explain(number)
    equal(told.returncode, 0, f"explain: {told.stderr}")
    lines = {line[:14].strip(): line[14:] for line in told.stdout.splitlines()}
    for label, value in [
        ("decision", "thanks"), ("answer", "first"), ("reason", "TARGETING_MATCH"), ("rule", "first order"), ("rule number", "3"),
        ("rules", "3"), ("consent", "granted"), ("bundle", "5"),
    ]:
        equal(lines.get(label), value, f"{label} in {told.stdout}")
    check('"decision":"thanks"' in explain(number, "--json").stdout, "as JSON")
    equal([explain("0" * 16).returncode, explain("x").returncode, explain().returncode], [1, 2, 2], "exit codes")
    answer = agent.call(
        "POST", "/ofrep/v1/evaluate/flags/thanks?explain=true", {"context": {"targetingKey": "ada", "channel": "till"}}).json()
    said = {rule["rule"]: rule["said"] for rule in answer["explanation"]}
    equal((said[1], said[3]), ("false", "true"), f"{answer}")
    check(said[2].startswith("failed: "), f"a rule that misses the event: {said}")
    agent.call("PUT", "/v1/profiles/user_id:ada/consent", {"personalization": False})
    answer = agent.call("POST", "/ofrep/v1/evaluate/flags/thanks?explain=true", {"context": {"targetingKey": "ada"}}).json()
    equal(answer["explanation"], [], "of somebody who refuses")
    check("ada" not in told.stdout and "ada" not in agent.log(), "nobody is named")
