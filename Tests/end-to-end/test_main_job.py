"""The main job: from an event to a decision to the hub, with the real binary."""

import gzip
import json
import os
import subprocess

from harness import CONSENT, TOP, Skip, basic, binary, check, equal, track, wait_until


def test_a_decision_changes_because_of_what_the_customer_did(bench):
    agent = bench.agent()
    before = agent.decide("checkout_offer", "ada")
    equal((before["variant"], before["value"]), ("none", {"discount": 0}), "decision before")
    agent.batch([track("ada", "Order Completed", {"order_id": "1", "revenue": 1200.5})])
    after = agent.decide("checkout_offer", "ada")
    equal((after["variant"], after["value"]), ("ten", {"discount": 10}), "decision after")
    equal(after["reason"], "TARGETING_MATCH", "reason")
    equal(after["key"], "checkout_offer", "key")
    person = agent.profile("user_id:ada")
    equal(person["attributes"]["lifetime_value"], 1200.5, "lifetime_value")
    equal(person["attributes"]["orders"], 1, "orders")
    check(person["attributes"]["vip"] is True, f"vip: {person}")
    equal(person["consent"], {"analytics": True, "personalization": True, "advertising": False}, "consent")


def test_an_audience_looks_at_the_consent_of_its_own_person(bench):
    path = os.path.join(bench.folder, "bundle.yaml")
    with open(path, "w") as file:
        file.write("""
version: 1
purposes: [analytics, advertising]
identifiers: { user_id: { from: [userId, context.targetingKey], send: hmac, unique: true } }
events: { "*": { purpose: analytics, tier: batch } }
attributes: { orders: { type: counter } }
audiences: { reachable: consent.advertising }
decisions:
  banner: { purpose: advertising, variants: { off: 0, on: 1 }, default: off, rules: [{ when: audience.reachable, serve: on }] }
""")
    agent = bench.agent(bundle=path)
    for user, advertising in (("ada", True), ("ben", False)):
        consent = {"consent": {"categoryPreferences": {"analytics": True, "advertising": advertising}}}
        agent.batch([{**track(user, "Order Completed"), "context": consent}])
    # Whatever was asked last, on every serving thread.
    for _ in range(20):
        equal(agent.decide("banner", "ada")["variant"], "on", "ada's banner")
        equal(agent.profile("user_id:ben")["audiences"], [], "ben's audiences after a question about ada")
        equal(agent.decide("banner", "ben")["variant"], "off", "ben's banner")
        equal(agent.profile("user_id:ada")["audiences"], ["reachable"], "ada's audiences after a question about ben")


def test_copying_in_the_shipped_binary_is_the_c_library_s(bench):
    here = os.path.dirname(os.path.abspath(__file__))
    sources, sysroot = os.path.join(TOP, "Sources", "CPlatform"), os.path.join(TOP, ".build", "sysroot", "amd64")
    test = os.path.join(bench.folder, "copying")
    subprocess.run(
        ["clang", "-O2", "-nostdlibinc", "-isystem", f"{sysroot}/include", f"-I{sources}/include", "-fno-stack-protector",
         "-fno-builtin", "-nostdlib", "-static", "-no-pie", "-fuse-ld=lld", "-o", test, f"{sysroot}/lib/crt1.o",
         f"{here}/copying_test.c", f"{sources}/Copying.c", f"{sysroot}/lib/libc.a"], check=True)
    equal(subprocess.run([test], capture_output=True, text=True).stdout, "same\n", "copying_test.c")


def test_printing_in_the_shipped_binary_is_the_c_library_s(bench):
    here, test = os.path.dirname(os.path.abspath(__file__)), os.path.join(bench.folder, "printing")
    subprocess.run(["gcc", "-O1", "-I", os.path.join(TOP, "Sources", "CPlatform"), "-o", test, f"{here}/printing_test.c"], check=True)
    equal(subprocess.run([test], capture_output=True, text=True).stdout, "same\n", "printing_test.c")


def test_every_call_of_the_segment_api_is_taken(bench):
    agent = bench.agent()
    for kind, extra in {
        "identify": {"traits": {"email": "Ada@Example.com"}}, "track": {"event": "Product Viewed"}, "page": {"name": "Home"},
        "screen": {"name": "Cart"}, "group": {"groupId": "g"}, "alias": {"previousId": "before"},
    }.items():
        answer = agent.call("POST", f"/v1/{kind}", {"userId": "ada", "context": CONSENT, **extra})
        equal((answer.status, answer.json()), (200, {"success": True}), kind)
    events, _ = agent.check_accounts()
    equal((events["received"], events["admitted"]), (6, 6), f"accounts {events}")


def test_gzip_and_chunked_bodies_are_taken(bench):
    agent = bench.agent()
    agent.batch([track("zip", "Order Completed", {"order_id": "1", "revenue": 5})], compress=True)
    body = gzip.compress(json.dumps(track("zip", "Order Completed", {"order_id": "2", "revenue": 6})).encode())
    head = (
        "POST /v1/track HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"
        "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n").encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 7]), body[i:i + 7]) for i in range(0, len(body), 7))
    received = agent.raw(head + chunks + b"0\r\n\r\n")
    check(received.startswith(b"HTTP/1.1 200"), f"{received[:200]}")
    equal(agent.profile("user_id:zip")["attributes"]["lifetime_value"], 11.0, "lifetime_value")


def test_repeats_are_counted_once_also_after_a_restart(bench):
    agent = bench.agent()
    event = track("twice", "Order Completed", {"order_id": "1", "revenue": 10})
    agent.batch([event, event])
    agent.batch([event])
    agent.kill()
    agent.start()
    agent.batch([event])
    equal(agent.profile("user_id:twice")["attributes"]["orders"], 1, "orders")
    events, _ = agent.check_accounts()
    equal((events["received"], events["admitted"], events["duplicate"]), (4, 1, 3), f"accounts {events}")


def test_identifiers_join_one_person_but_two_customers_stay_two(bench):
    agent = bench.agent()
    events = [
        {"type": "identify", "userId": "u1", "traits": {"email": "one@example.org"}, "context": CONSENT},
        track("u1", "Order Completed", {"order_id": "1", "revenue": 10}),
        {"type": "track", "event": "Order Completed", "anonymousId": "till-1", "context": CONSENT,
         "properties": {"order_id": "2", "revenue": 20, "email": " One@Example.org "}},
        {"type": "identify", "userId": "u2", "traits": {"email": "one@example.org"}, "context": CONSENT},
        track("u2", "Order Completed", {"order_id": "3", "revenue": 100}),
    ]
    # The address stays with whoever used it first.
    for second, event in enumerate(events):
        event["timestamp"] = f"2026-01-31T09:00:0{second}Z"
    agent.batch(events)
    equal(agent.profile("user_id:u1")["attributes"]["lifetime_value"], 30.0, "u1")
    equal(agent.profile("email:one@example.org")["attributes"]["lifetime_value"], 30.0, "by e-mail")
    equal(agent.profile("user_id:u2")["attributes"]["lifetime_value"], 100.0, "u2")
    agent.profile("user_id:nobody", expect=404)


def test_p4_without_consent_nothing_is_kept_and_the_default_is_served(bench):
    agent = bench.agent()
    denied = {"consent": {"categoryPreferences": {"analytics": False, "personalization": True}}}
    agent.batch([
        track("shy", "Order Completed", {"order_id": "private-order", "revenue": 5000}, context=denied),
        track("silent", "Order Completed", {"order_id": "private-order", "revenue": 5000}, context={}),
    ])
    events, _ = agent.check_accounts()
    equal((events["denied"], events["waiting"], events["admitted"]), (1, 1, 0), f"accounts {events}")
    equal(agent.decide("checkout_offer", "shy")["variant"], "none", "decision")
    agent.profile("user_id:silent", expect=404)
    # Analytics alone is not personalization.
    only = {"consent": {"categoryPreferences": {"analytics": True}}}
    agent.batch([track("half", "Order Completed", {"order_id": "1", "revenue": 5000}, context=only)])
    decision = agent.decide("checkout_offer", "half")
    equal((decision["variant"], decision["metadata"]["consent"]), ("none", "denied"), f"{decision}")
    agent.kill()
    for name in os.listdir(agent.data):
        with open(os.path.join(agent.data, name), "rb") as file:
            check(b"private-order" not in file.read(), f"{name} holds a denied event")


def test_consent_can_be_given_and_taken_by_the_privacy_call(bench):
    agent = bench.agent()
    agent.batch([track("eve", "Order Completed", {"order_id": "1", "revenue": 5000})])
    equal(agent.decide("checkout_offer", "eve")["variant"], "ten", "with consent")
    answer = agent.call("PUT", "/v1/profiles/user_id:eve/consent", {"personalization": False})
    equal(answer.status, 200, f"status of PUT consent ({answer.body!r})")
    decision = agent.decide("checkout_offer", "eve")
    equal((decision["variant"], decision["metadata"]["consent"]), ("none", "denied"), "after the revocation")
    equal(agent.profile("user_id:eve")["consent"]["personalization"], False, "consent")


def test_bulk_evaluation_and_its_etag(bench):
    agent = bench.agent()
    answer = agent.call("POST", "/ofrep/v1/evaluate/flags", {"context": {"targetingKey": "ada", "width": 1920}})
    equal(answer.status, 200, "status")
    flags = {flag["key"]: flag for flag in answer.json()["flags"]}
    equal(set(flags), {"checkout_offer", "layout"}, "keys")
    equal(flags["layout"]["value"], "wide", "layout")
    tag = answer.headers["ETag"]
    again = agent.call(
        "POST", "/ofrep/v1/evaluate/flags", {"context": {"targetingKey": "ada", "width": 1920}}, {"If-None-Match": tag})
    equal((again.status, again.body), (304, b""), "unchanged")
    other = agent.call(
        "POST", "/ofrep/v1/evaluate/flags", {"context": {"targetingKey": "ada", "width": 100}}, {"If-None-Match": tag})
    equal(other.status, 200, "another context")


def test_ofrep_errors_are_those_of_the_protocol(bench):
    agent = bench.agent()
    answer = agent.call("POST", "/ofrep/v1/evaluate/flags/nothing", {"context": {"targetingKey": "ada"}})
    equal((answer.status, answer.json()["errorCode"], answer.json()["key"]), (404, "FLAG_NOT_FOUND", "nothing"), "unknown")
    answer = agent.call("POST", "/ofrep/v1/evaluate/flags/layout", "{", {"Content-Type": "application/json"})
    equal((answer.status, answer.json()["errorCode"]), (400, "PARSE_ERROR"), "malformed")
    answer = agent.call("POST", "/ofrep/v1/evaluate/flags/layout", {"context": []})
    equal((answer.status, answer.json()["errorCode"]), (400, "INVALID_CONTEXT"), "context")
    # A decision without a purpose needs no key; one with a purpose serves its default to nobody in particular.
    answer = agent.call("POST", "/ofrep/v1/evaluate/flags/layout", {"context": {"width": 2000}})
    equal((answer.status, answer.json()["value"]), (200, "wide"), "anonymous")


def test_tokens_have_roles(bench):
    import hashlib
    tokens = "tokens:\n" + "".join(
        f"  - {{ sha256: {hashlib.sha256(name.encode()).hexdigest()}, roles: [{name}] }}\n"
        for name in ("collect", "decide", "privacy", "operate"))
    agent = bench.agent(settings=tokens)
    event = track("ada", "Order Completed", {"order_id": "1", "revenue": 10})
    question = {"context": {"targetingKey": "ada"}}
    calls = {
        "collect": ("POST", "/v1/track", event),
        "decide": ("POST", "/ofrep/v1/evaluate/flags/checkout_offer", question),
        "privacy": ("GET", "/v1/profiles/user_id:ada", None),
        "operate": ("GET", "/metrics", None),
    }
    for role, (method, path, body) in calls.items():
        equal(agent.call(method, path, body).status, 401, f"{path} without a token")
        equal(agent.call(method, path, body, basic("wrong")).status, 401, f"{path} with a wrong token")
        for other in calls:
            answer = agent.call(method, path, body, {"Authorization": f"Bearer {other}"})
            equal(answer.status, 200 if other == role else 403, f"{path} as {other} ({answer.body[:200]!r})")
    equal(agent.call("POST", "/v1/track", event, basic("collect")).status, 200, "write key as Basic user name")


def _one_decision(bench, arch):
    agent = bench.agent(arch=arch)
    agent.batch([track("ada", "Order Completed", {"order_id": "1", "revenue": 1200.5})], compress=True)
    decision = agent.decide("checkout_offer", "ada", channel="kiosk")
    equal((decision["variant"], decision["value"]), ("ten", {"discount": 10}), "decision")
    equal(agent.profile("user_id:ada")["attributes"]["lifetime_value"], 1200.5, "lifetime_value")
    agent.kill()
    agent.start()
    equal(agent.decide("checkout_offer", "ada")["variant"], "ten", "decision after kill -9")


def test_aarch64_decides_under_qemu(bench):
    _one_decision(bench, "aarch64")


def test_armv7_decides_under_qemu(bench):
    _one_decision(bench, "armv7")
