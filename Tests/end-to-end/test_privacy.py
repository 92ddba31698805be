"""Consent, rights and the proof of them, with the real binary: promises P4 and P8."""

import collections
import copy
import json
import os
import random
import re
import subprocess
import time

from harness import CONSENT, TOP, binary, check, equal, track, wait_until

PREFERENCES = "Segment Consent Preference Updated"


def preferences(**purposes):
    return {"consent": {"categoryPreferences": purposes}}


def silent(user, event, properties=None, **fields):
    """An event that says nothing about consent."""
    return track(user, event, properties, context={}, **fields)


def files_with(folder, *needles):
    """Names of the files below a folder that hold one of these byte strings."""
    found = []
    for path, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(path, name), "rb") as file:
                data = file.read()
            found += [f"{name}: {needle!r}" for needle in needles if needle in data]
    return found


def gatehouse(*arguments):
    return subprocess.run([*binary(), *arguments], capture_output=True, text=True, timeout=60)


def audit(agent):
    return agent.call("GET", "/v1/audit?limit=1000").json()["lines"]


# --- Consent -------------------------------------------------------------------------------------------------------


def test_p4_events_wait_in_memory_for_a_choice_which_admits_or_purges_them(bench):
    agent = bench.agent()
    stamp = "2026-01-31T09:30:00.000Z"
    order = {"order_id": "waiting-order", "revenue": 70}
    waiting = silent("late", "Order Completed", order, timestamp=stamp)
    agent.batch([waiting, waiting, silent("never", "Order Completed", order)])
    events, _ = agent.check_accounts()
    equal((events["waiting"], events["duplicate"], events["admitted"]), (2, 1, 0), f"accounts {events}")
    agent.profile("user_id:late", expect=404)
    equal(files_with(agent.data, b"waiting-order"), [], "files with an event that waits")
    # One says yes, the other no.
    agent.batch([
        track("late", PREFERENCES, context=preferences(analytics=True, personalization=True)),
        track("never", PREFERENCES, context=preferences(analytics=False)),
    ])
    events, _ = agent.check_accounts()
    equal((events["waiting"], events["admitted"]), (0, 2), f"accounts {events}")
    equal(agent.profile("user_id:late")["attributes"]["lifetime_value"], 70.0, "what had waited")
    agent.profile("user_id:never", expect=404)
    record = agent.call("GET", "/v1/profiles/user_id:late/export").json()
    equal([event["event"]["timestamp"] for event in record["events"]][-1], stamp, "its own time")


def test_p4_what_waits_is_denied_when_its_time_is_up_and_by_a_restart(bench):
    with open(os.path.join(TOP, "Firmware-Config", "bundles", "shop.yaml")) as file:
        text = file.read()
    bundle = os.path.join(bench.folder, "waits.yaml")
    with open(bundle, "w") as file:
        file.write(text + "\nconsent: { wait: 2s }\n")
    agent = bench.agent(bundle=bundle)
    agent.batch([silent("late", "Order Completed", {"order_id": "1", "revenue": 70})])
    equal(agent.accounts()[0]["waiting"], 1, "waiting")
    wait_until(lambda: agent.accounts()[0]["waiting"] == 0, 8, "the event waits on")
    equal(agent.check_accounts()[0]["denied"], 1, "denied")
    agent.batch([silent("late", "Order Completed", {"order_id": "2", "revenue": 70})])
    agent.kill()
    agent.start()
    agent.batch([track("late", "Order Completed", {"order_id": "3", "revenue": 5})])
    events, _ = agent.check_accounts()
    equal((events["waiting"], events["denied"], events["admitted"]), (0, 2, 1), f"accounts {events}")
    equal(agent.profile("user_id:late")["attributes"]["lifetime_value"], 5.0, "lifetime_value")


def test_p4_the_room_for_waiting_events_is_bounded(bench):
    agent = bench.agent()
    for turn in range(4):
        agent.batch([
            silent(f"w{turn}-{number}", "Order Completed", {"order_id": f"{turn}-{number}", "revenue": 1})
            for number in range(250)])
    events, _ = agent.check_accounts()
    equal(events["waiting"] + events["denied"], 1000, f"accounts {events}")
    check(0 < events["waiting"] <= 512, f"waiting: {events}")


def test_p4_a_revocation_holds_against_what_an_sdk_goes_on_to_report(bench):
    agent = bench.agent()
    agent.batch([track("zora", "Order Completed", {"order_id": "1", "revenue": 5})])
    answer = agent.call("PUT", "/v1/profiles/user_id:zora/consent", {"analytics": False})
    equal(answer.status, 200, "PUT consent")
    agent.batch([track("zora", "Order Completed", {"order_id": "2", "revenue": 5})])
    events, _ = agent.check_accounts()
    equal((events["admitted"], events["denied"]), (1, 1), f"accounts {events}")
    record = agent.call("GET", "/v1/profiles/user_id:zora/export").json()["record"]
    choice = next(choice for choice in record["choices"] if choice["purpose"] == "analytics")
    equal((choice["state"], choice["source"]), ("revoked", "api"), f"{choice}")
    agent.batch([track("zora", PREFERENCES, context=preferences(analytics=True))])
    agent.batch([track("zora", "Order Completed", {"order_id": "3", "revenue": 5})])
    equal(agent.check_accounts()[0]["admitted"], 3, "admitted after a new choice")


def test_p4_global_privacy_control_is_a_refusal(bench):
    agent = bench.agent()
    everything = preferences(analytics=True, personalization=True, advertising=True)
    answer = agent.call(
        "POST", "/v1/track", track("zora", "Order Completed", {"order_id": "1", "revenue": 5}, context=everything),
        {"Sec-GPC": "1"})
    equal(answer.status, 200, f"{answer.body}")
    equal(agent.profile("user_id:zora")["consent"],
          {"analytics": True, "personalization": True, "advertising": False}, "consent")


def test_p4_a_consent_can_be_given_before_the_first_event(bench):
    agent = bench.agent()
    path = "/v1/profiles/email:desk@example.org/consent"
    equal(agent.call("PUT", path, {"analytics": False}).status, 404, "a refusal of somebody unknown")
    equal(agent.call("PUT", path, {"analytics": True}).status, 200, "a grant")
    agent.batch([silent("desk", "Order Completed", {"order_id": "1", "revenue": 5, "email": "Desk@example.org"})])
    equal(agent.check_accounts()[0]["admitted"], 1, "admitted")


# --- Erasure -------------------------------------------------------------------------------------------------------


def digests(agent, reference):
    """Every hash by which a person is known here, as bytes, and the profile's id."""
    person = agent.profile(reference)
    found = [bytes.fromhex(identifier["hmac"]) for identifier in person["identifiers"]]
    return found + [bytes.fromhex(person["id"])]


def test_p8_after_erasure_and_compaction_nothing_of_the_person_is_left(bench):
    hub = bench.hub()
    agent = bench.agent_of(hub)
    hub.kill()
    for user in ("zora", "ben"):
        agent.batch([
            {"type": "identify", "userId": user, "traits": {"email": f"{user}@example.org", "city": f"city-of-{user}"},
             "context": CONSENT},
            *[track(user, "Order Completed", {"order_id": f"{user}-order-{number}", "revenue": 5}) for number in range(50)],
            track(user, "Order Completed", {"order_id": f"{user}-quarantined"}),
        ])
    needles = [b"zora-order", b"city-of-zora", b"zora-quarantined", b"zora@example.org", *digests(agent, "user_id:zora")]
    check(files_with(agent.data, needles[0]), "the test looks in the wrong place")
    answer = agent.call("DELETE", "/v1/profiles/email:zora@example.org")
    equal(answer.status, 200, f"{answer.body}")
    receipt = answer.json()
    agent.profile("user_id:zora", expect=404)
    equal(agent.decide("checkout_offer", "zora")["variant"], "none", "decision")
    equal(agent.call("GET", f"/v1/erasures/{receipt['receipt']}").json()["events"], 51, "events that were erased")
    equal(receipt["quarantined"], 1, "quarantined events that were erased")
    # The destination is told; the other person's events arrive, hers do not.
    hub.start()
    wait_until(lambda: agent.accounts()[1]["hub"]["queued"] == 0, 30, "events are queued on")
    events, destinations = agent.check_accounts()
    equal((destinations["hub"]["delivered"], destinations["hub"]["erased"]), (52, 51), f"{destinations}")
    messages = hub.call("GET", "/v1/arrivals?limit=10000").json()["arrivals"]
    equal(sum("zora" in json.dumps(message) for message in messages), 0, "messages about her")
    # A hub keeps the notice until it has done what it says (test_hub.py).
    equal(hub.call("GET", f"/v1/erasures/{receipt['receipt']}").status, 200, "the hub has not heard of the erasure")
    wait_until(
        lambda: agent.call("GET", f"/v1/erasures/{receipt['receipt']}").json()["state"] == "erased", 10,
        "the erasure does not end")
    agent.stop()
    done = gatehouse("store", "compact", "--config", agent.config)
    equal(done.returncode, 0, done.stderr)
    equal(files_with(agent.data, *needles), [], "files with something of her")
    agent.start()
    equal(agent.profile("user_id:ben")["attributes"]["orders"], 50, "the other person's orders")
    equal(gatehouse("audit", "verify", "--config", agent.config).returncode, 0, "the audit log")


def test_p8_an_erased_person_does_not_come_back_unless_they_choose_to(bench):
    agent = bench.agent()
    agent.batch([track("zora", "Order Completed", {"order_id": "1", "revenue": 5})])
    equal(agent.call("DELETE", "/v1/profiles/user_id:zora").status, 200, "DELETE")
    equal(agent.call("DELETE", "/v1/profiles/user_id:zora").status, 404, "DELETE again")
    agent.batch([track("zora", "Order Completed", {"order_id": "2", "revenue": 5})])
    agent.kill()
    agent.start()
    agent.batch([track("zora", "Order Completed", {"order_id": "3", "revenue": 5})])
    agent.profile("user_id:zora", expect=404)
    equal(agent.check_accounts()[0]["denied"], 2, "denied")
    time.sleep(0.01)
    agent.batch([track("zora", PREFERENCES, context=preferences(analytics=True))])
    agent.batch([track("zora", "Order Completed", {"order_id": "4", "revenue": 5})])
    equal(agent.profile("user_id:zora")["attributes"]["orders"], 1, "orders")


def test_p8_a_restart_in_the_middle_of_an_erasure_finishes_it(bench):
    hub = bench.hub()
    agent = bench.agent_of(hub)
    hub.kill()
    for turn in range(12):
        agent.batch([
            track("zora" if number % 2 else f"u{turn}", "Order Completed", {"order_id": f"mid-{turn}-{number}", "revenue": 1})
            for number in range(1000)])
    answer = agent.call("DELETE", "/v1/profiles/user_id:zora").json()
    equal(answer["state"], "erasing", "the first step goes through a part of the log only")
    agent.kill()
    agent.start()
    path = f"/v1/erasures/{answer['receipt']}"
    wait_until(lambda: agent.call("GET", path).json()["state"] != "erasing", 20, "the erasure does not go on")
    equal(agent.call("GET", path).json()["events"], 6000, "events that were erased")
    hub.start()
    wait_until(lambda: agent.call("GET", path).json()["state"] == "erased", 40, "the erasure does not end")
    agent.check_accounts()


def test_p8_a_kiosk_is_not_erased_with_its_visitor(bench):
    agent = bench.agent()
    with open(os.path.join(TOP, "Firmware-Config", "bundles", "shop.yaml")) as file:
        check("shared: true" in file.read(), "the sample bundle has no shared identifier")
    for user in ("zora", "ben"):
        agent.batch([track(user, "Order Completed", {"order_id": user, "revenue": 5}, anonymousId="kiosk-1")])
    equal(agent.call("DELETE", "/v1/profiles/user_id:zora").status, 200, "DELETE")
    agent.batch([track("ben", "Order Completed", {"order_id": "b2", "revenue": 5}, anonymousId="kiosk-1")])
    equal(agent.profile("user_id:ben")["attributes"]["orders"], 2, "the next visitor's orders")


# --- Export and the audit log --------------------------------------------------------------------------------------


def test_an_export_holds_everything_about_one_person_and_nothing_about_another(bench):
    agent = bench.agent()
    for user in ("zora", "ben"):
        agent.batch([track(user, "Order Completed", {"order_id": f"{user}-1", "revenue": 5}),
                     track(user, "Order Completed", {"order_id": f"{user}-2"})])
    record = agent.call("GET", "/v1/profiles/user_id:zora/export").json()
    equal(record["record"]["attributes"]["orders"], 1, "orders")
    equal([event["event"]["properties"]["order_id"] for event in record["events"]], ["zora-1"], "events")
    equal(len(record["quarantined"]), 1, "quarantined")
    check("ben" not in json.dumps(record), f"somebody else is in it: {record}")
    equal([line["action"] for line in record["audit"]], ["consent"], "what was done so far")
    again = agent.call("GET", "/v1/profiles/user_id:zora/export").json()
    equal([line["action"] for line in again["audit"]], ["consent", "export"], "what was done so far")


def test_the_audit_log_tells_what_was_done_and_shows_if_it_was_changed(bench):
    agent = bench.agent()
    agent.batch([track("zora", "Order Completed", {"order_id": "1", "revenue": 5})])
    agent.profile("user_id:zora")
    agent.call("PUT", "/v1/profiles/user_id:zora/consent", {"advertising": True})
    agent.call("DELETE", "/v1/profiles/user_id:zora")
    lines = audit(agent)
    equal([line["action"] for line in lines], ["configuration", "consent", "read", "consent", "erase"], "actions")
    equal(len({line["subject"] for line in lines if "subject" in line}), 1, "subjects")
    check(re.fullmatch("[0-9a-f]{32}", lines[1]["subject"]), f"{lines[1]}")
    equal(lines[3]["granted"], ["advertising"], f"{lines[3]}")
    check("zora" not in json.dumps(lines), f"{lines}")
    # Also while the agent runs.
    done = gatehouse("audit", "verify", "--config", agent.config)
    equal((done.returncode, done.stdout), (0, "the audit log is intact: lines 1 to 5\n"), done.stderr)
    equal(len(gatehouse("audit", "show", "--config", agent.config).stdout.splitlines()), 5, "lines shown")
    agent.stop()
    path = os.path.join(agent.data, "data.mdb")
    with open(path, "r+b") as file:
        data = file.read()
        changed = data.replace(b'"action":"erase"', b'"action":"eraze"')
        check(changed != data, "the line is not in the file")
        file.seek(0)
        file.write(changed)
    done = gatehouse("audit", "verify", "--config", agent.config)
    equal(done.returncode, 1, f"{done}")
    check("line 5 was altered" in done.stderr, f"{done}")


def test_privacy_calls_need_the_privacy_role_and_name_who_called(bench):
    def token(name, roles):
        done = subprocess.run(["sha256sum"], input=name.encode(), capture_output=True)
        return f"  - {{ sha256: {done.stdout.decode().split()[0]}, roles: [{roles}] }}\n"
    settings = "tokens:\n" + token("writer", "collect, decide, operate") + token("officer", "privacy")
    agent = bench.agent(settings=settings)
    writer, officer = ({"Authorization": f"Bearer {name}"} for name in ("writer", "officer"))
    answer = agent.call("POST", "/v1/track", track("zora", "Order Completed", {"order_id": "1", "revenue": 5}), writer)
    equal(answer.status, 200, f"{answer.body}")
    for method, path in [("GET", ""), ("DELETE", ""), ("GET", "/export"), ("PUT", "/consent")]:
        body = {"analytics": True} if method == "PUT" else None
        equal(agent.call(method, "/v1/profiles/user_id:zora" + path, body, writer).status, 403, f"{method} {path}")
        equal(agent.call(method, "/v1/profiles/user_id:zora" + path, copy.copy(body)).status, 401, f"{method} {path}")
    for path in ("/v1/audit", "/v1/erasures/00"):
        equal(agent.call("GET", path, headers=writer).status, 403, path)
    equal(agent.call("GET", "/v1/profiles/user_id:zora", headers=officer).status, 200, "the officer reads")
    line = agent.call("GET", "/v1/audit", headers=officer).json()["lines"][-1]
    check(re.fullmatch("token:[0-9a-f]{8}", line["actor"]), f"{line}")


# --- Accounts ------------------------------------------------------------------------------------------------------


def test_p7_the_accounts_hold_after_a_mixed_load_with_restarts(bench):
    hub = bench.hub()
    agent = bench.agent_of(hub, bundle_changes=[("version: 1", "version: 1\nconsent: { wait: 1s }")])
    hub.kill()
    sent = collections.Counter()
    chance = random.Random(7)
    known = []
    for turn in range(12):
        batch = []
        for number in range(60):
            kind = chance.choice(["valid", "invalid", "duplicate", "denied", "waiting", "refused"])
            user = f"u{chance.randrange(40)}-{kind if kind in ('denied', 'waiting') else 'x'}"
            properties = {"order_id": f"{turn}-{number}", "revenue": 1}
            if kind == "invalid":
                event = track(user, "Order Completed", {"order_id": f"{turn}-{number}"})
            elif kind == "duplicate" and known:
                event = chance.choice(known)
            elif kind == "denied":
                event = track(user, "Order Completed", properties, context=preferences(analytics=False))
            elif kind == "waiting":
                event = silent(user, "Order Completed", properties)
            elif kind == "refused":
                event = {"type": "track", "userId": user}
            else:
                kind, event = "valid", track(user, "Order Completed", properties)
                known.append(event)
            batch.append(event)
            sent[kind] += 1
        agent.batch(batch)
        agent.check_accounts()
        if turn % 3 == 2:
            agent.kill()
            agent.start()
        if turn == 6:
            agent.call("DELETE", "/v1/profiles/user_id:u1-x")
            agent.call("DELETE", "/v1/profiles/user_id:u2-x")
    wait_until(lambda: agent.accounts()[0]["waiting"] == 0, 10, "events wait on")
    events, destinations = agent.check_accounts()
    # Two people were erased: what names them afterwards is denied, whatever it would have been.
    equal(events["received"], 720, f"accounts {events}")
    check(events["admitted"] <= sent["valid"] and events["quarantined"] <= sent["invalid"], f"{events} {sent}")
    equal((events["refused"], events["waiting"]), (sent["refused"], 0), f"{events} {sent}")
    check(events["denied"] >= sent["denied"] + sent["waiting"], f"{events} {sent}")
    hub.start()
    wait_until(lambda: agent.accounts()[1]["hub"]["queued"] == 0, 30, "events are queued on")
    events, destinations = agent.check_accounts()
    terms = destinations["hub"]
    equal(terms["delivered"] + terms["erased"] + terms["filtered"], events["admitted"] + 2, f"{terms} {events}")


# --- What was once wrong -------------------------------------------------------------------------------------------


def test_p4_a_till_does_not_make_one_visitor_s_choice_another_s(bench):
    agent = bench.agent()
    order = {"order_id": "bens-secret", "revenue": 5}
    agent.batch([silent("ben-no-choice", "Order Completed", order, anonymousId="kiosk-1")])
    agent.batch([track("zora-says-yes", "Order Completed", {"order_id": "z", "revenue": 5}, anonymousId="kiosk-1")])
    agent.profile("user_id:ben-no-choice", expect=404)
    equal(agent.check_accounts()[0]["waiting"], 1, "ben's event waits on")
    agent.batch([track("mia-says-no", PREFERENCES, context=preferences(analytics=False), anonymousId="kiosk-1")])
    equal(agent.check_accounts()[0]["waiting"], 1, "ben's event waits on")
    equal(files_with(agent.data, b"bens-secret"), [], "files with an event that waits")


def test_p4_a_refusal_purges_what_waits_for_somebody_unknown(bench):
    agent = bench.agent()
    agent.batch([silent("zora", "Order Completed", {"order_id": "1", "revenue": 5})])
    equal(agent.call("PUT", "/v1/profiles/user_id:zora/consent", {"analytics": False}).status, 200, "PUT")
    events, _ = agent.check_accounts()
    equal((events["waiting"], events["denied"]), (0, 1), f"accounts {events}")


def test_p4_a_refusal_counts_although_its_event_is_set_aside_or_not_in_the_plan(bench):
    agent = bench.agent()
    everything = preferences(analytics=True, personalization=True, advertising=True)
    agent.batch([track("zora", "Order Completed", {"order_id": "1", "revenue": 5}, context=everything)])
    less = preferences(analytics=True, advertising=False)
    agent.batch([track("zora", "Order Completed", {"order_id": "broken"}, context=less)])
    equal(agent.check_accounts()[0]["quarantined"], 1, "quarantined")
    equal(agent.profile("user_id:zora")["consent"]["advertising"], False, "advertising")


def test_p4_a_person_who_is_joined_with_one_who_refused_is_denied(bench):
    agent = bench.agent()
    agent.batch([track("zora", "Order Completed", {"order_id": "1", "revenue": 5})])
    equal(agent.call("PUT", "/v1/profiles/email:z@example.org/consent", {"analytics": True}).status, 200, "PUT")
    equal(agent.call("PUT", "/v1/profiles/email:z@example.org/consent", {"analytics": False}).status, 200, "PUT")
    agent.batch([track("zora", "Order Completed", {"order_id": "joined-order", "revenue": 5, "email": "z@example.org"})])
    equal(agent.profile("user_id:zora")["consent"]["analytics"], False, "analytics")
    events, _ = agent.check_accounts()
    equal((events["admitted"], events["denied"]), (1, 1), f"accounts {events}")
    equal(files_with(agent.data, b"joined-order"), [], "files with the denied event")


def test_p4_global_privacy_control_holds_for_cloudevents_and_after_quarantine(bench):
    agent = bench.agent()
    everything = preferences(analytics=True, personalization=True, advertising=True)
    event = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "com.example.track",
             "data": track("zora", "Order Completed", {"order_id": "1", "revenue": 5}, context=everything)}
    answer = agent.call("POST", "/v1/events", json.dumps(event),
                        {"Content-Type": "application/cloudevents+json", "Sec-GPC": "1"})
    equal(answer.status, 200, f"{answer.body}")
    equal(agent.profile("user_id:zora")["consent"]["advertising"], False, "advertising")


def test_a_new_bundle_without_a_kind_of_identifier_does_not_disturb_who_waits(bench):
    with open(os.path.join(TOP, "Firmware-Config", "bundles", "shop.yaml")) as file:
        text = file.read()
    path = os.path.join(bench.folder, "bundle.yaml")
    with open(path, "w") as file:
        file.write(text)
    agent = bench.agent(bundle=path)
    agent.batch([silent("zora", "Order Completed", {"order_id": "1", "revenue": 5, "email": "z@example.org"}, anonymousId="k")])
    lines = [line for line in text.splitlines() if not line.startswith("  device:")]
    changed = "\n".join(lines).replace("version: 1", "version: 2", 1)
    with open(path, "w") as file:
        file.write(changed)
    agent.process.send_signal(1)
    wait_until(lambda: agent.metrics()["gatehouse_bundle_version"] == 2, 10, "the bundle is not in force")
    agent.batch([track("zora", PREFERENCES, context=preferences(analytics=True))])
    equal(agent.check_accounts()[0]["waiting"], 0, "waiting")
    equal(agent.profile("user_id:zora")["attributes"]["orders"], 1, "orders")


def test_p8_somebody_who_is_only_in_quarantine_can_be_exported_and_erased(bench):
    agent = bench.agent()
    agent.batch([track("zora", "Order Completed", {"order_id": "set-aside-order"})])
    agent.profile("user_id:zora", expect=404)
    record = agent.call("GET", "/v1/profiles/user_id:zora/export")
    equal((record.status, len(record.json()["quarantined"])), (200, 1), f"{record.body}")
    equal(agent.call("GET", "/v1/profiles/user_id:nobody/export").status, 404, "nobody's export")
    equal(agent.call("DELETE", "/v1/profiles/user_id:zora").json()["quarantined"], 1, "erased")
    equal(agent.call("GET", "/v1/quarantine").json()["quarantined"], [], "what is left")
    agent.batch([silent("mia", "Order Completed", {"order_id": "1", "revenue": 5})])
    equal(agent.call("DELETE", "/v1/profiles/user_id:mia").status, 200, "somebody who waits")
    equal(agent.check_accounts()[0]["waiting"], 0, "waiting")
    equal(agent.call("DELETE", "/v1/profiles/user_id:nobody").status, 404, "nobody")


def test_p8_an_identifier_that_the_graph_did_not_believe_is_no_reason_to_take_another_s_events(bench):
    agent = bench.agent()
    agent.batch([
        {"type": "identify", "userId": "mia", "traits": {"email": "x@example.org"}, "context": CONSENT},
        track("zora", "Order Completed", {"order_id": "zoras", "revenue": 5, "email": "x@example.org"}),
        track("mia", "Order Completed", {"order_id": "mias", "revenue": 5})])
    equal("zoras" in json.dumps(agent.call("GET", "/v1/profiles/user_id:mia/export").json()), False, "somebody else's event")
    agent.call("DELETE", "/v1/profiles/user_id:mia")
    kept = agent.call("GET", "/v1/profiles/user_id:zora/export").json()["events"]
    equal(len(kept), 1, "zora's events")


def test_p2_events_of_a_profile_that_became_part_of_another_still_leave(bench):
    hub = bench.hub()
    agent = bench.agent_of(hub)
    hub.kill()
    for number in range(5):
        agent.batch([{"type": "track", "event": "Order Completed", "context": CONSENT, "anonymousId": "till",
                      "messageId": f"early-{number}",
                      "properties": {"order_id": str(number), "revenue": 1, "email": "z@example.org"}}])
    agent.batch([track("zora", "Order Completed", {"order_id": "6", "revenue": 1, "email": "z@example.org"})])
    equal(agent.profile("user_id:zora")["attributes"]["orders"], 6, "orders")
    hub.start()
    wait_until(lambda: agent.accounts()[1]["hub"]["queued"] == 0, 30, "events are queued on")
    equal(agent.check_accounts()[1]["hub"]["delivered"], 6, "delivered")


def test_lists_that_go_on_after_the_largest_number_are_empty(bench):
    agent, hub = bench.agent(), bench.hub(name="listing-hub")
    agent.batch([track("zora", "Order Completed", {"order_id": "1"})])
    most = 2**64 - 1
    for node, path in [(agent, "/v1/audit"), (agent, "/v1/quarantine"), (hub, "/v1/arrivals")]:
        answer = node.call("GET", f"{path}?after={most}")
        equal((answer.status, answer.json()["last"]), (200, most), path)
        for query in ("after=x", "after=-5", "limit=abc", "limit="):
            equal(node.call("GET", f"{path}?{query}").status, 400, f"{path}?{query}")
    for method, path in [("POST", f"/v1/quarantine/{most}/release"), ("DELETE", f"/v1/quarantine/{most}")]:
        check(agent.call(method, path).status in (404, 409), path)
