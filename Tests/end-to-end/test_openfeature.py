"""Decisions as applications ask for them: OpenFeature's own Python SDK with its provider for the Remote Evaluation Protocol, as
published, talks to a real agent.

OpenFeature's public scenarios (`evaluation_v2.feature`, `metadata.feature` and `test-flags.json` of its specification, in
`specification/assets/gherkin`) run where GATEHOUSE_GHERKIN names their folder; they are not part of this repository.
"""

import json
import os
import re
import signal

from harness import Skip, check, equal, wait_until
from test_clients import package

TYPES = {"Boolean": bool, "String": str, "Integer": int, "Float": float, "Object": dict}


def make_client(agent):
    """A client of the SDK whose provider is the agent."""
    api, ofrep = package("openfeature.api"), package("openfeature.contrib.provider.ofrep")
    api.set_provider(ofrep.OFREPProvider(f"http://127.0.0.1:{agent.port}", timeout=20))
    return api.get_client()


def evaluate(client, kind, key, default, context=None, targeting_key=None):
    evaluation = package("openfeature.evaluation_context")
    call = getattr(client, f"get_{kind.lower()}_details")
    return call(key, default, evaluation.EvaluationContext(targeting_key=targeting_key, attributes=context or {}))


def write_bundle(bench, flags, head="version: 3\n"):
    path = os.path.join(bench.folder, "flags.yaml")
    with open(path, "w") as file:
        file.write(head + "decisions: " + json.dumps(flags) + "\n")
    return path


FLAGS = {
    "yes": {"variants": {"on": True, "off": False}, "default": "on"},
    "text": {"variants": {"hello": "Grüße", "none": ""}, "default": "hello"},
    "whole": {"variants": {"ten": 10, "zero": 0}, "default": "zero"},
    "real": {"variants": {"half": 0.5, "zero": 0.0, "round": 100.0, "tiny": 1e-7}, "default": "zero"},
    "list": {"variants": {"some": [1, {"a": None}], "none": []}, "default": "some"},
    "object": {"variants": {"full": {"title": "x", "count": 3, "deep": {"list": [1.5]}}, "empty": {}}, "default": "full",
               "metadata": {"team": "shop", "weight": 0.5, "stage": 2, "live": True}},
    "off": {"enabled": False, "variants": {"on": True}, "default": "on"},
    "code": {"variants": {"big": 1000}, "rules": [{"when": "context.tier == 'gold'", "serve": "big"}]},
    "target": {"variants": {"in": "INTERNAL", "out": "EXTERNAL"}, "default": "out", "rules": [
        {"name": "staff", "when": "context.mail.endsWith('@shop.example') && context.age > 10 && !context.guest", "serve": "in"}]},
    "split": {"variants": {"a": "A", "b": "B"}, "default": "a", "rules": [{"split": {"a": 50, "b": 50}}]},
    "a/b ü%": {"variants": {"on": True}, "default": "on"},
}
HEAD = "version: 3\nidentifiers: { user_id: { from: [userId, context.targetingKey], send: hmac } }\n"


def test_openfeature_sdk_gets_all_types_defaults_and_errors(bench):
    agent = bench.agent(bundle=write_bundle(bench, FLAGS, HEAD))
    client = make_client(agent)
    for kind, key, default, value, variant in [
        ("Boolean", "yes", False, True, "on"), ("String", "text", "x", "Grüße", "hello"), ("Integer", "whole", 5, 0, "zero"),
        ("Float", "real", 5.0, 0.0, "zero"), ("Object", "list", [], [1, {"a": None}], "some"),
        ("Object", "object", {}, FLAGS["object"]["variants"]["full"], "full"),
    ]:
        answer = evaluate(client, kind, key, default)
        equal((answer.value, answer.variant, answer.reason, answer.error_code), (value, variant, "STATIC", None), key)
        equal(type(answer.value), type(value), f"type of {key}")
    metadata = evaluate(client, "Object", "object", {}).flag_metadata
    equal({name: metadata[name] for name in ("team", "weight", "stage", "live", "bundle", "consent")},
          {"team": "shop", "weight": 0.5, "stage": 2, "live": True, "bundle": 3, "consent": "not needed"}, "metadata")
    check(re.fullmatch("[0-9a-f]{16}", metadata["id"]) and metadata["bundleAgeSeconds"] >= 0, f"id and age: {metadata}")
    # The code's own default.
    for key, reason in [("off", "DISABLED"), ("code", "DEFAULT")]:
        kind, default = ("Boolean", False) if key == "off" else ("Integer", 7)
        answer = evaluate(client, kind, key, default)
        equal((answer.value, answer.reason, answer.error_code), (default, reason, None), key)
    equal(evaluate(client, "Integer", "code", 7, {"tier": "gold"}).value, 1000, "a rule of a flag without default")
    # Context, and its types.
    for context, value, reason in [
        ({"mail": "a@shop.example", "age": 29, "guest": False}, "INTERNAL", "TARGETING_MATCH"),
        ({"mail": "a@shop.example", "age": 9.5, "guest": False}, "EXTERNAL", "DEFAULT"),
        ({"mail": None, "age": 29, "guest": False}, "EXTERNAL", "DEFAULT"), ({}, "EXTERNAL", "DEFAULT"),
    ]:
        answer = evaluate(client, "String", "target", "x", context)
        equal((answer.value, answer.reason), (value, reason), f"{context}")
    # Errors: the default comes back, and why.
    for kind, key, default, code in [
        ("String", "nobody", "x", "FLAG_NOT_FOUND"), ("Integer", "text", 13, "TYPE_MISMATCH"), ("String", "yes", "x", "TYPE_MISMATCH"),
        ("Object", "whole", {}, "TYPE_MISMATCH"), ("String", "split", "x", "TARGETING_KEY_MISSING"),
    ]:
        answer = evaluate(client, kind, key, default)
        equal((answer.value, answer.reason, answer.error_code), (default, "ERROR", code), key)
    variants = {evaluate(client, "String", "split", "x", targeting_key=f"u{n}").value for n in range(30)}
    equal(variants, {"A", "B"}, "a split by targeting key")
    again = {evaluate(client, "String", "split", "x", targeting_key="u7").value for _ in range(3)}
    equal(len(again), 1, "the same answer again")


def test_ofrep_by_hand(bench):
    """What the protocol's document says and its Python provider does not ask for."""
    agent = bench.agent(bundle=write_bundle(bench, FLAGS, HEAD))
    path = "/ofrep/v1/evaluate/flags"
    answer = agent.call("POST", f"{path}/a%2Fb%20%C3%BC%25", {"context": {}})
    equal((answer.status, answer.json()["value"]), (200, True), "a key that needs encoding")
    check(b'"value":0.0,' in agent.call("POST", f"{path}/real", {"context": {}}).body, "a float keeps its point")
    for body, code in [
        ("{", "PARSE_ERROR"), ("[]", "INVALID_CONTEXT"), ('{"context": 1}', "INVALID_CONTEXT"),
        ('{"context": {"targetingKey": 1}}', "INVALID_CONTEXT"),
    ]:
        for target in (f"{path}/yes", path):
            answer = agent.call("POST", target, body)
            equal((answer.status, answer.json()["errorCode"]), (400, code), f"{target} {body}")
            check(len(answer.json()["errorDetails"]) > 20, "errorDetails say what is wrong")
    answer = agent.call("POST", f"{path}/none", {"context": {}})
    equal((answer.status, answer.json()["errorCode"], answer.json()["key"]), (404, "FLAG_NOT_FOUND", "none"), "no flag")
    equal(agent.call("GET", f"{path}/yes").status, 405, "GET")
    # All at once: values and failures side by side.
    answer = agent.call("POST", path, {"context": {"tier": "gold"}})
    flags = {flag["key"]: flag for flag in answer.json()["flags"]}
    equal((answer.status, set(flags)), (200, set(FLAGS)), "all flags")
    equal((flags["split"]["errorCode"], flags["code"]["value"]), ("TARGETING_KEY_MISSING", 1000), "of all")
    check("value" not in flags["off"] and flags["off"]["reason"] == "DISABLED", "a disabled flag has no value")
    equal(answer.json()["metadata"]["bundle"], 3, "metadata of the set")
    # The tag is of the flags and of the context.
    tag = answer.headers["ETag"]
    for seen, context, status in [
        (tag, {"tier": "gold"}, 304), (tag.strip('"'), {"tier": "gold"}, 304), (tag, {"tier": "silver"}, 200),
        (tag, {"tier": "gold", "more": 1}, 200), ('"other"', {"tier": "gold"}, 200),
    ]:
        again = agent.call("POST", path, {"context": context}, {"If-None-Match": seen})
        equal((again.status, again.body == b""), (status, status == 304), f"{seen} {context}")
        equal(again.headers["ETag"] == tag, status == 304 or seen == '"other"', "the tag")
    # Other flags, other tag.
    with open(os.path.join(bench.folder, "flags.yaml"), "w") as file:
        file.write(HEAD.replace("3", "4") + "decisions: " + json.dumps(FLAGS) + "\n")
    agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: agent.metrics().get("gatehouse_bundle_version") == 4, 10, "the new bundle")
    equal(agent.call("POST", path, {"context": {"tier": "gold"}}, {"If-None-Match": tag}).status, 200, "after a new bundle")


# Scenarios


def read_scenarios(text):
    """Each scenario of a feature with its tags, an outline once for each of its examples."""
    rows, tags, scenarios = None, [], []
    for line in (line.strip() for line in text.splitlines()):
        if line.startswith("@"):
            tags += line.split()
        elif match := re.match(r"(Scenario|Scenario Outline|Background|Feature): *(.*)", line):
            scenarios.append({"name": match[2], "tags": tags, "steps": [], "examples": [], "kind": match[1]})
            tags, rows = [], None
        elif line.startswith("Examples:"):
            rows = {"names": None, "tags": tags}
            tags = []
        elif line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if rows is None:
                scenarios[-1]["steps"][-1][1].append(cells)
            elif rows["names"] is None:
                rows["names"] = cells
            else:
                scenarios[-1]["examples"].append(dict(zip(rows["names"], cells)))
        elif match := re.match(r"(Given|When|Then|And) (.*)", line):
            scenarios[-1]["steps"].append((match[2], []))
    for scenario in scenarios:
        if scenario["kind"] not in ("Scenario", "Scenario Outline"):
            continue
        for example in scenario["examples"] or [{}]:
            def fill(text):
                for name, value in example.items():
                    text = text.replace(f"<{name}>", value)
                return text
            yield scenario["name"], scenario["tags"], [(fill(step), table) for step, table in scenario["steps"]], example


def convert(kind, text):
    if kind == "Boolean":
        return text == "true"
    if kind == "Object":
        return json.loads(text.replace('\\"', '"'))
    return TYPES[kind](text)


def bundle_of(flags):
    """The scenarios' flags as a bundle: their targeting is CEL already, over names of the context."""
    decisions = {}
    for key, flag in flags.items():
        decision = {"variants": flag["variants"]}
        if flag.get("defaultVariant"):
            decision["default"] = flag["defaultVariant"]
        if flag.get("disabled"):
            decision["enabled"] = False
        if flag.get("flagMetadata"):
            decision["metadata"] = flag["flagMetadata"]
        if match := re.fullmatch(r"(.*) \? '(.*)' : ''", flag.get("contextEvaluator", "")):
            condition = re.sub(r"\b(email|customer|age|role)\b", r"context.\1", match[1])
            decision["rules"] = [{"when": condition, "serve": match[2]}]
        decisions[key] = decision
    return decisions


def run_scenario(client, steps):
    kind = key = default = None
    context, answer = {}, None
    for step, table in steps:
        if match := re.fullmatch(r'an? (\w+)-flag with key "(.*)" and a fallback value "(.*)"', step):
            kind, key, default = match[1], match[2], convert(match[1], match[3])
        elif match := re.fullmatch(r'a context containing a key "(.*)", with type "(.*)" and with value "(.*)"', step):
            context[match[1]] = convert(match[2], match[3])
        elif match := re.fullmatch(r'a context containing a key "(.*)" with null value', step):
            context[match[1]] = None
        elif step == "the flag was evaluated with details":
            answer = evaluate(client, kind, key, default, context)
        elif match := re.fullmatch(r'the resolved details value should be "(.*)"', step):
            equal(answer.value, convert(kind, match[1]), step)
        elif match := re.fullmatch(r'the reason should be "(.*)"', step):
            equal(answer.reason, match[1], step)
        elif match := re.fullmatch(r'the error-code should be "(.*)"', step):
            equal(answer.error_code, match[1], step)
        elif match := re.fullmatch(r'the variant should be "(.*)"', step):
            equal(answer.variant, match[1], step)
        elif match := re.fullmatch(r'the flag key should be "(.*)"', step):
            equal(answer.flag_key, match[1], step)
        elif step == "the resolved metadata should contain":
            for name, of, value in table[1:]:
                equal(answer.flag_metadata.get(name), convert(of, value), f"metadata {name}")
        else:
            check(False, f"a step that this runner does not know: {step}")


# What these look at is the SDK's, whatever answers: states of its provider, hooks, caches, threads.
ABOUT_THE_SDK = {"@provider-status", "@reason-codes-cached", "@hooks", "@immutability", "@async"}


def test_openfeature_scenarios(bench):
    folder = os.environ.get("GATEHOUSE_GHERKIN", "")
    if not folder:
        raise Skip("GATEHOUSE_GHERKIN names no folder with OpenFeature's scenarios")
    with open(os.path.join(folder, "test-flags.json")) as file:
        agent = bench.agent(bundle=write_bundle(bench, bundle_of(json.load(file))))
    client = make_client(agent)
    passed, left = 0, 0
    for name in ("evaluation_v2.feature", "metadata.feature"):
        with open(os.path.join(folder, name)) as file:
            text = file.read()
        for title, tags, steps, example in read_scenarios(text):
            # Gatehouse says of every answer whose it is, so that no metadata is empty; and for Python's provider a truth
            # value is a whole number.
            is_int = title == "Type mismatch error" and (example["key"], example["type"]) == ("boolean-flag", "Integer")
            if ABOUT_THE_SDK & set(tags) or title == "Returns no metadata" or is_int:
                left += 1
                continue
            try:
                run_scenario(client, steps)
            except Exception as problem:
                raise type(problem)(f"{title} {example}: {problem}") from problem
            passed += 1
    print(f"      {passed} scenarios passed; {left} are about the SDK alone, or want no metadata", flush=True)
    check(passed > 30, f"only {passed} scenarios were found")
