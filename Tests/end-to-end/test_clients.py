"""The clients that people have: the SDKs of Segment and RudderStack and that of CloudEvents, as published, talk to a real
agent; what arrives at a hub behind it is what they were told."""

import contextlib
import datetime
import glob
import hashlib
import importlib
import json
import os
import sys
import time

from harness import CONSENT, TOP, Skip, check, equal, track
from test_delivery import arrivals, in_log_order, wait_for_delivery

ALL_EVENTS = [("    when: 'event.type != \"page\"'\n", "")]
MOMENT = datetime.datetime(2026, 1, 31, 9, 15, 0, 250000, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))


def package(name, environment="clients", requirements="requirements.txt"):
    """A package of requirements.txt, by its module's name."""
    installed = os.path.join(TOP, ".build", "python-" + environment)
    if not os.path.exists(os.path.join(installed, ".complete")):
        raise Skip(f"the packages of Tests/end-to-end/{requirements} are not installed; Tools/test does it where it can")
    for folder in glob.glob(os.path.join(installed, "lib", "python3*", "site-packages")):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        raise Skip(f"{name} cannot be imported: {problem}")


def consent():
    """The SDKs write into the context that they are given."""
    return {key: dict(value) for key, value in CONSENT.items()}


def make_client(module, agent, key="key", **options):
    errors = []
    client = module.Client(
        key, host=f"http://127.0.0.1:{agent.port}", on_error=lambda error, batch: errors.append((error, batch)),
        max_retries=1, **options)
    return client, errors


def finish(client, errors):
    client.flush()
    client.join()
    check(not errors, f"the client says: {errors}")


def call_everything(client, user):
    """One call of each kind; returns how many."""
    client.identify(user, {"email": f"{user}@example.org", "tier": "gold"}, context=consent())
    client.track(
        user, "Order Completed", {"order_id": "77", "revenue": 12.5}, context=consent(), timestamp=MOMENT,
        message_id=f"order-of-{user}")
    client.page(user, "Shop", "Home", {"path": "/"}, context=consent())
    client.screen(user, "Shop", "Cart", {"width": 7}, context=consent())
    client.group(user, f"company-{user}", {"email": "office@example.com", "employees": 7}, context=consent())
    client.alias(f"before-{user}", user, context=consent())
    return 6


def check_everything(bench, module_name, **options):
    module = package(module_name)
    hub = bench.hub()
    agent = bench.agent_of(hub, ALL_EVENTS)
    client, errors = make_client(module, agent, **options)
    count = call_everything(client, "caroline") + call_everything(client, "davidson")
    finish(client, errors)
    # The same again, as after an answer that was lost.
    again, errors = make_client(module, agent, **options)
    again.track("caroline", "Order Completed", {"revenue": 1}, context=consent(), message_id="order-of-caroline")
    finish(again, errors)

    events, _ = agent.check_accounts()
    equal((events["received"], events["admitted"], events["duplicate"]), (count + 1, count, 1), f"accounts {events}")
    for user in ("caroline", "davidson"):
        person = agent.profile(f"user_id:{user}")
        equal(person["attributes"]["lifetime_value"], 12.5, f"lifetime_value of {user}")
        equal(person["consent"], {"analytics": True, "personalization": True, "advertising": False}, "consent")
        equal(agent.profile(f"email:{user}@example.org")["id"], person["id"], "the person by e-mail")
    agent.profile("email:office@example.com", expect=404)

    wait_for_delivery(agent)
    messages = in_log_order(arrivals(hub))
    check_messages(messages, count)


def seconds(timestamp):
    return datetime.datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


def check_messages(messages, count):
    equal(len(messages), count, "messages at the hub")
    equal(len({message["messageId"] for message in messages}), count, "different messages")
    kinds = ["identify", "track", "page", "screen", "group", "alias"]
    equal([message["type"] for message in messages], kinds * 2, "kinds in their order")
    for message in messages:
        text = str(message)
        check("caroline" not in text and "davidson" not in text and "example" not in text, f"an identifier in {message}")
        check("user_id" in message["context"]["identifiers"], f"no user_id in {message}")
    identify, track, page, screen, group, _ = messages[:6]
    equal(identify["traits"]["tier"], "gold", "traits")
    check("email" in identify["context"]["identifiers"], f"no e-mail in {identify}")
    equal(track["event"], "Order Completed", "the order")
    # The clocks are one, but `sentAt` was written a moment before the request came.
    check(0 <= seconds(track["timestamp"]) - MOMENT.timestamp() < 5, f"the time of {track}")
    equal(track["properties"]["revenue"], 12.5, "revenue")
    equal((page["name"], page["properties"]["path"]), ("Home", "/"), "page")
    equal((screen["name"], screen["properties"]["width"]), ("Cart", 7), "screen")
    equal(group["traits"]["employees"], 7, "group")
    check("email" not in group["context"]["identifiers"], f"the group's address is somebody's: {group}")
    check("library" in track["context"], f"no library in {track}")


def test_segment_s_client_plain(bench):
    check_everything(bench, "segment.analytics", gzip=False)


def test_segment_s_client_gzip(bench):
    check_everything(bench, "segment.analytics", gzip=True)


def test_rudderstack_s_client_plain(bench):
    check_everything(bench, "rudderstack.analytics", gzip=False)


def test_rudderstack_s_client_gzip(bench):
    check_everything(bench, "rudderstack.analytics")


def test_a_queue_of_a_thousand_calls_arrives_once_and_in_order(bench):
    hub = bench.hub()
    agent = bench.agent_of(hub)
    client, errors = make_client(package("segment.analytics"), agent, gzip=True, upload_size=90)
    for number in range(1000):
        client.track("erin", "Product Viewed", {"product_id": str(number)}, context=consent())
    finish(client, errors)
    wait_for_delivery(agent)
    equal([int(message["properties"]["product_id"]) for message in arrivals(hub)], list(range(1000)), "products")
    agent.check_accounts()


@contextlib.contextmanager
def fast_clock(module_name, seconds):
    """Within it, the client's clock is fast."""
    module = package(module_name)

    class Fast(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.datetime.now(tz) + datetime.timedelta(seconds=seconds)

    real = module.datetime
    module.datetime = Fast
    try:
        yield
    finally:
        module.datetime = real


def check_clock_skew(bench, name):
    hub = bench.hub()
    agent = bench.agent_of(hub)
    with fast_clock(f"{name}.request", 3600):
        client, errors = make_client(package(name), agent)
        ahead = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=3600 - 60)
        client.track("frank", "Product Viewed", {}, context=consent(), timestamp=ahead)
        finish(client, errors)
    wait_for_delivery(agent)
    seen = seconds(arrivals(hub)[0]["timestamp"])
    check(abs(time.time() - 60 - seen) < 15, f"a minute ago by a clock that is an hour fast: {seen - time.time()} s")


def test_segment_s_client_with_a_fast_clock(bench):
    check_clock_skew(bench, "segment.analytics")


def test_rudderstack_s_client_with_a_fast_clock(bench):
    check_clock_skew(bench, "rudderstack.analytics")


def test_clients_are_told_why_they_are_refused(bench):
    tokens = "tokens:\n  - { sha256: %s, roles: [%s] }\n  - { sha256: %s, roles: [decide] }\n"
    hashes = [hashlib.sha256(word.encode()).hexdigest() for word in ("key", "other")]
    agent = bench.agent(settings=tokens % (hashes[0], "collect, privacy, operate", hashes[1]))
    for name in ("segment.analytics", "rudderstack.analytics"):
        for key, code in (("wrong", "unauthorized"), ("other", "forbidden")):
            client, errors = make_client(package(name), agent, key=key)
            client.track("gina", "Product Viewed", {}, context=consent())
            client.flush()
            client.join()
            equal([getattr(error, "code", error) for error, _ in errors], [code], f"{name} with the key {key!r}")
        client, errors = make_client(package(name), agent, key="key")
        client.track("gina", "Product Viewed", {}, context=consent())
        finish(client, errors)


def test_the_write_key_may_stand_in_the_body(bench):
    hashes = [hashlib.sha256(word.encode()).hexdigest() for word in ("key", "other")]
    agent = bench.agent(settings="tokens:\n  - { sha256: %s, roles: [collect] }\n  - { sha256: %s, roles: [decide] }\n"
                        % tuple(hashes))
    event = {"userId": "hal", "event": "Product Viewed", "context": CONSENT}
    for body, status in (({}, 401), ({"writeKey": "wrong"}, 401), ({"writeKey": "other"}, 403), ({"writeKey": "key"}, 200),
                         ({"writeKey": 7}, 401)):
        answer = agent.call("POST", "/v1/track", {**event, **body})
        equal(answer.status, status, f"{body}")
        if status != 200:
            check(answer.json()["code"] and answer.json()["message"], f"{answer.body!r}")
        answer = agent.call("POST", "/v1/batch", {"batch": [{"type": "track", **event}], **body})
        equal(answer.status, status, f"batch with {body}")
    # A header that is there decides alone.
    answer = agent.call("POST", "/v1/track", {**event, "writeKey": "key"}, {"Authorization": "Bearer wrong"})
    equal(answer.status, 401, "a wrong token and a good key")


def test_a_batch_s_context_is_that_of_its_events(bench):
    hub = bench.hub()
    agent = bench.agent_of(hub)
    context = {**CONSENT, "app": {"name": "till"}, "locale": "de", "traits": {"email": "ida@example.org"}}
    refusal = {"consent": {"categoryPreferences": {"analytics": False}}}
    agent.batch(
        [{"type": "track", "event": "A", "userId": "ida", "context": {"app": {"version": "2"}}},
         {"type": "track", "event": "B", "userId": "ida", "integrations": {"All": True}},
         {"type": "track", "event": "C", "userId": "noemi", "context": {**refusal, "traits": {}}}, 7],
        context=context, integrations={"All": False, "CRM": True})
    events, _ = agent.check_accounts()
    equal((events["admitted"], events["denied"], events["refused"]), (2, 1, 1), f"accounts {events}")
    wait_for_delivery(agent)
    first, second = arrivals(hub)
    equal((first["context"]["app"], first["context"]["locale"]), ({"version": "2"}, "de"), "context of the first")
    equal((second["context"]["app"], second["context"]["locale"]), ({"name": "till"}, "de"), "context of the second")
    equal((first["integrations"], second["integrations"]), ({"All": False, "CRM": True}, {"All": True, "CRM": True}),
          "integrations")
    equal(agent.profile("email:ida@example.org")["id"], agent.profile("user_id:ida")["id"], "whose address it is")
    check("example.org" not in str(first), f"an identifier in {first}")
    answer = agent.batch([track("ida", "A")], context={"note": "x" * 9000})
    equal((answer.json()["refused"], answer.json()["errors"][0]["code"]), (1, "too_large"), "a context of 9 KB")


def test_an_alias_joins_two_ids_where_the_bundle_says_so(bench):
    path = os.path.join(bench.folder, "bundle.yaml")
    with open(path, "w") as file:
        file.write("""
version: 1
purposes: [analytics, personalization, advertising]
identifiers: { user_id: { from: [userId, previousId], send: hmac } }
events: { "*": { purpose: analytics } }
attributes: { sold: { type: sum, when: 'event.event == "Order Completed"', value: event.properties.revenue } }
decisions: { d: { variants: { a: 1 }, default: a } }
""")
    agent = bench.agent(bundle=path)
    client, errors = make_client(package("segment.analytics"), agent)
    client.track("old", "Order Completed", {"revenue": 1.0}, context=consent())
    client.track("new", "Order Completed", {"revenue": 2.0}, context=consent())
    client.alias("old", "new", context=consent())
    finish(client, errors)
    person = agent.profile("user_id:new")
    equal((person["attributes"]["sold"], agent.profile("user_id:old")["id"]), (3.0, person["id"]), "sold, and the person")


def post(agent, message):
    requests = package("requests")
    return requests.post(f"http://127.0.0.1:{agent.port}/v1/events", headers=message.headers, data=message.body, timeout=30)


def grant(agent, *users):
    """CloudEvents say nothing of consent: it comes from the person's record."""
    agent.batch([{"type": "identify", "userId": user, "context": CONSENT} for user in users])


def test_cloudevents_client_in_both_modes(bench):
    events = package("cloudevents.core.v1.event")
    http = package("cloudevents.core.bindings.http")
    hub = bench.hub()
    agent = bench.agent_of(hub)
    grant(agent, "jo")
    moment = datetime.datetime.now(MOMENT.tzinfo).replace(microsecond=250000) - datetime.timedelta(minutes=5)
    for number, mode in enumerate((http.to_binary_event, http.to_structured_event) * 2):
        event = events.CloudEvent(
            {"type": "Order Completed", "source": "/shop/till-1", "id": f"order-{number // 2}",
             "subject": "jo", "time": moment, "datacontenttype": "application/json", "lane": "n° 3 \"left\""},
            {"order_id": str(number), "revenue": 1000.5})
        answer = post(agent, mode(event))
        equal((answer.status_code, answer.json()), (200, {"success": True}), f"{mode.__name__}")
    # The second of each is the first again, in the other mode.
    accounts, _ = agent.check_accounts()
    equal((accounts["admitted"], accounts["duplicate"]), (3, 2), f"accounts {accounts}")
    equal(agent.profile("user_id:jo")["attributes"]["lifetime_value"], 2001.0, "lifetime_value")
    equal(agent.decide("checkout_offer", "jo")["variant"], "ten", "decision")
    wait_for_delivery(agent)
    order = in_log_order(arrivals(hub))[1]
    equal((order["type"], order["event"]), ("track", "Order Completed"), "kind")
    equal((order["messageId"], seconds(order["timestamp"])), ("/shop/till-1 order-0", moment.timestamp()), "id and time")
    equal(order["context"]["cloudevents"],
          {"source": "/shop/till-1", "type": "Order Completed", "datacontenttype": "application/json",
           "lane": "n° 3 \"left\""}, "context")
    check("'jo'" not in str(order), f"{order}")


def test_cloudevents_older_client_in_both_modes(bench):
    http = package("cloudevents.v1.http")
    conversion = package("cloudevents.v1.conversion")
    agent = bench.agent()
    grant(agent, "kim")
    for mode in (conversion.to_binary, conversion.to_structured):
        event = http.CloudEvent(
            {"type": "Order Completed", "source": "/shop", "userid": "kim"}, {"order_id": "1", "revenue": 2})
        headers, body = mode(event)
        answer = agent.call("POST", "/v1/events", body, headers)
        equal((answer.status, answer.json()), (200, {"success": True}), mode.__name__)
    equal(agent.profile("user_id:kim")["attributes"]["lifetime_value"], 4.0, "lifetime_value")


def cloud_event(number, **members):
    return {"specversion": "1.0", "id": f"{number}", "source": "/shop", "type": "Product Viewed", "subject": "lu",
            "data": {"product_id": f"{number}"}, **members}


def send_batch(agent, events):
    return agent.call("POST", "/v1/events", json.dumps(events), {
        "Content-Type": "application/cloudevents-batch+json; charset=UTF-8"})


def test_a_batch_of_cloudevents_refuses_only_what_is_wrong(bench):
    agent = bench.agent()
    grant(agent, "lu")
    events = [cloud_event(0), cloud_event(1, id=""), cloud_event(2), 7, cloud_event(4, type="Order Completed", data={}),
              cloud_event(5, Lane="1")]
    answer = send_batch(agent, events)
    equal((answer.status, answer.json()["refused"]), (200, 3), f"{answer.body!r}")
    equal([(error["index"], error["code"], error.get("member")) for error in answer.json()["errors"]],
          [(1, "bad_attribute", "/id"), (3, "not_an_object", None), (5, "bad_attribute_name", None)], "errors")
    accounts, _ = agent.check_accounts()
    equal((accounts["received"], accounts["admitted"], accounts["quarantined"], accounts["refused"]), (7, 3, 1, 3),
          f"accounts {accounts}")
    equal(send_batch(agent, []).json(), {"success": True}, "nothing")
    equal(send_batch(agent, [1, 2]).json()["refused"], 2, "nothing but what is wrong")
    equal(send_batch(agent, {}).json()["code"], "not_an_array", "no list")
    equal(send_batch(agent, [0] * 2501).json()["code"], "too_many", "too many")
    answer = send_batch(agent, [cloud_event(number) for number in range(10, 1010)])
    equal(answer.json(), {"success": True}, "a thousand")
    accounts, _ = agent.check_accounts()
    equal((accounts["received"], accounts["refused"]), (1009, 5), f"accounts {accounts}")


def test_one_cloudevent_that_is_wrong_is_refused_and_counted(bench):
    agent = bench.agent()
    structured = {"Content-Type": "application/cloudevents+json"}
    binary = {"ce-id": "1", "ce-source": "/shop", "ce-type": "T", "ce-specversion": "1.0", "ce-subject": "lu"}
    cases = [
        (cloud_event(1, specversion="0.3"), structured, 400, "bad_specversion"),
        ({}, structured, 400, "bad_specversion"),
        ([], structured, 400, "not_an_object"),
        ("", structured, 400, "empty_body"),
        (cloud_event(1, data="x" * 33000), structured, 413, "too_large"),
        (cloud_event(1), {"Content-Type": "application/cloudevents+avro"}, 415, "bad_format"),
        ("", {}, 400, "bad_specversion"),
        ("{", binary, 400, "bad_data"),
        ("", {**binary, "ce-time": "soon"}, 400, "bad_attribute"),
        ("", {**binary, "ce-lane": "%C0%A0"}, 400, "bad_attribute"),
        ("x" * 33000, {**binary, "Content-Type": "text/plain"}, 413, "too_large"),
    ]
    for body, headers, status, code in cases:
        text = body if isinstance(body, str) else json.dumps(body)
        answer = agent.call("POST", "/v1/events", text, headers)
        equal((answer.status, answer.json()["code"]), (status, code), f"{text[:80]} with {headers}")
        check(answer.json()["message"], f"{answer.body!r}")
    repeated = "".join(f"{name}: {value}\r\n" for name, value in [*binary.items(), ("CE-ID", "2")])
    received = agent.raw(f"POST /v1/events HTTP/1.1\r\nHost: localhost\r\n{repeated}Content-Length: 0\r\n"
                         "Connection: close\r\n\r\n".encode())
    check(received.startswith(b"HTTP/1.1 400") and b'"repeated_attribute"' in received and b'"ce-id"' in received,
          f"{received}")
    accounts, _ = agent.check_accounts()
    equal((accounts["received"], accounts["refused"], accounts["admitted"]), (7, 7, 0), f"accounts {accounts}")
    equal(agent.call("GET", "/v1/events").status, 405, "GET")


def test_a_hub_takes_the_messages_of_agents_as_cloudevents_too(bench):
    hub = bench.hub()
    message = {"type": "track", "event": "A", "messageId": "m", "context": {"gatehouse": {"device": "d", "epoch": 1, "seq": 1}}}
    event = {"specversion": "1.0", "id": "1", "source": "/d", "type": "com.example.track", "data": message}
    answer = send_batch(hub, [event, cloud_event(2), event])
    equal([(error["index"], error["code"]) for error in answer.json()["errors"]], [(1, "no_origin")], f"{answer.body!r}")
    equal([message["messageId"] for message in arrivals(hub)], ["m"], "arrivals")
