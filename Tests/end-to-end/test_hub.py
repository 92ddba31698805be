"""Hubs: what agents deliver to them goes on to the next, once and in order; people are erased there, too; and the operator
sees who delivers. GATEHOUSE_AGENTS=50 runs the fleet of the README; without it there are fewer."""

import hashlib
import os
import threading
import time

from harness import CONSENT, Failure, basic, check, equal, track, wait_until
from test_delivery import arrivals, ids_of, orders
from test_privacy import PREFERENCES, digests, files_with, gatehouse, preferences

HUB_BUNDLE = """version: 1
purposes: {purposes}
identifiers:
  user_id: {{ from: [userId], send: hmac, unique: true }}
  email: {{ from: [traits.email], normalize: email, send: sha256 }}
events: {{ "*": {{ purpose: analytics, tier: realtime }} }}
destinations:
  centre:
    url: https://localhost:{port}/v1/batch
    purpose: {purpose}
    identifiers: [user_id, email]
    batch: {{ delay: 1s }}
"""


def hub_below(bench, parent, name, purposes="[analytics, personalization, advertising]", purpose="analytics", change=None,
              settings="", tls=None):
    """A hub that delivers to another."""
    path = os.path.join(bench.folder, f"{name}-bundle.yaml")
    text = HUB_BUNDLE.format(port=parent.port, purposes=purposes, purpose=purpose)
    if change:
        check(change[0] in text, change[0])
        text = text.replace(*change)
    with open(path, "w") as file:
        file.write(text)
    return bench.hub(tls=tls or parent.tls, bundle=path, name=name, settings=settings)


def settled(*nodes):
    """Whether nothing is on its way from any of them."""
    return all(terms["queued"] == 0 for node in nodes for terms in node.accounts()[1].values())


def origin(message):
    gatehouse = message["context"]["gatehouse"]
    return gatehouse["device"], gatehouse["epoch"], gatehouse["seq"]


def by_device(messages):
    found = {}
    for message in messages:
        found.setdefault(origin(message)[:2], []).append(origin(message)[2])
    return found


def test_p2_what_arrives_at_a_hub_goes_on_to_its_parent(bench):
    """With origin, id and consent as the device has given them; but the name for a person is one of its own."""
    centre = bench.hub(name="centre")
    region = hub_below(bench, centre, "region")
    agent = bench.agent_of(region)
    agent.batch([{"type": "identify", "userId": "ada", "traits": {"email": "ada@example.org"}, "context": CONSENT,
                  "messageId": "first"}] + orders("ada", 30) + orders("ben", 30))
    wait_until(lambda: settled(agent, region), 30, "something is queued on")
    below, above = arrivals(region), arrivals(centre)
    equal(len(above), 61, "messages at the top")
    for mine, theirs in zip(below, above):
        equal(theirs["context"]["gatehouse"].pop("via"), "region", "who has passed it on")
        check("via" not in mine["context"]["gatehouse"], f"{mine}")
        check(mine.pop("anonymousId") != theirs.pop("anonymousId"), "one name for a person at two destinations")
        equal(theirs, mine, "the message")
    equal(len({message["context"]["identifiers"]["user_id"] for message in above}), 2, "people")
    for hub in (region, centre):
        events, destinations = hub.check_accounts()
        equal((events["received"], events["admitted"]), (61, 61), f"{events}")
    equal(region.check_accounts()[1]["centre"]["delivered"], 61, "delivered")


def test_p4_a_hub_passes_on_only_what_was_consented_to(bench):
    """The consent that came with the message, for the purpose of the hub's destination; then its filter and denied fields."""
    centre = bench.hub(name="centre")
    region = hub_below(bench, centre, "region", purpose="advertising")
    second = hub_below(
        bench, centre, "second", change=("    purpose: analytics\n    identifiers: [user_id, email]", (
            "    purpose: analytics\n    when: event.properties.revenue > 10.0\n    deny: [properties.order_id]")))
    agent = bench.agent_of(region, name="first-agent")
    agent.batch(orders("ada", 3))
    yes = {"consent": {"categoryPreferences": {"analytics": True, "advertising": True}}}
    agent.batch([track("ben", "Order Completed", {"order_id": "b", "revenue": 1}, context=yes)])
    wait_until(lambda: settled(agent, region), 30, "something is queued on")
    equal([message["properties"]["order_id"] for message in arrivals(centre)], ["b"], "what may be used for advertising")
    terms = region.check_accounts()[1]["centre"]
    equal((terms["delivered"], terms["filtered"]), (1, 3), f"{terms}")
    other = bench.agent_of(second, name="second-agent")
    other.batch([track("ada", "Order Completed", {"order_id": str(n), "revenue": n}) for n in (5, 15)])
    wait_until(lambda: settled(other, second), 30, "something is queued on")
    message = arrivals(centre)[-1]
    equal((message["properties"], message["context"]["identifiers"]), ({"revenue": 15}, {}), "what leaves the second")


def test_p8_a_hub_erases_whom_its_agent_has_erased(bench):
    """And its parent after it: nothing of the person is left in the files of either, and all have the same receipt."""
    centre = bench.hub(name="centre")
    region = hub_below(bench, centre, "region")
    agent = bench.agent_of(region)
    for user in ("zora", "ben"):
        agent.batch([{"type": "identify", "userId": user, "traits": {"email": f"{user}@example.org", "city": f"city-of-{user}"},
                      "context": CONSENT}] + orders(user, 20))
    wait_until(lambda: settled(agent, region), 30, "something is queued on")
    equal(len(arrivals(centre)), 42, "messages at the top")
    needles = [b"zora-1", b"city-of-zora", *digests(agent, "user_id:zora")[:-1]]
    names = {message["anonymousId"].encode() for hub in (region, centre) for message in arrivals(hub)
             if message.get("properties", {}).get("order_id", "").startswith("zora")}
    equal(len(names), 2, "her names at the two")
    needles += names
    plain = hashlib.sha256(b"zora@example.org")
    needles += [plain.digest(), plain.hexdigest().encode()]
    needles += [needle.hex().encode() for needle in digests(agent, "user_id:zora")[:-1]]
    for node in (region, centre):
        check(len(files_with(node.data, *needles)) > 5, f"the test looks in the wrong place at {node.name}")
    receipt = agent.call("DELETE", "/v1/profiles/user_id:zora").json()["receipt"]
    for node in (agent, region, centre):
        wait_until(lambda: node.call("GET", f"/v1/erasures/{receipt}").status == 200, 20, f"{node.name} has not heard")
        wait_until(lambda: node.call("GET", f"/v1/erasures/{receipt}").json()["state"] == "erased", 20, f"{node.name} goes on")
        equal(node.call("GET", f"/v1/erasures/{receipt}").json()["events"], 21, f"events erased at {node.name}")
    for hub in (region, centre):
        equal(len(arrivals(hub)), 21, f"what is left at {hub.name}")
        hub.check_accounts()
        lines = hub.call("GET", "/v1/audit").json()["lines"]
        equal([line["actor"] for line in lines if line["action"] == "erase"], ["device:run"], f"{lines}")
    for node in (agent, region, centre):
        node.stop()
        done = gatehouse("store", "compact", "--config", node.config)
        equal(done.returncode, 0, done.stderr)
        equal(files_with(node.data, *needles), [], f"files of {node.name} with something of her")


def test_p6_a_hub_keeps_no_more_than_it_may(bench):
    """Of what its parent has, limits.history; of what its parent has not, everything. A hub that delivers nowhere keeps all."""
    centre = bench.hub(name="centre")
    region = hub_below(bench, centre, "region", settings="limits: { history: 64KiB }")
    agent = bench.agent_of(region)
    centre.stop()
    sent = []
    for turn in range(5):
        batch = orders(f"u{turn}", 200)
        sent += batch
        agent.batch(batch)
    wait_until(lambda: settled(agent), 30, "the agent cannot deliver")
    equal(len(arrivals(region)), 1000, "what waits at the hub")
    centre.start()
    wait_until(lambda: settled(region), 30, "the hub cannot deliver")
    agent.batch(orders("last", 1))
    wait_until(lambda: settled(agent, region), 30, "something is queued on")
    wait_until(lambda: len(arrivals(region)) < 300, 20, "what was delivered stays")
    equal(len(arrivals(centre)), 1001, "messages at the top")
    check(set(ids_of(sent)) <= set(ids_of(arrivals(centre))), "messages are missing at the top")
    region.check_accounts()
    # It still knows what it had: the same again is no second arrival.
    equal(centre.check_accounts()[0]["duplicate"], 0, "duplicates at the top")
    first = arrivals(centre)[0]
    del first["context"]["gatehouse"]["via"]
    equal(region.call("POST", "/v1/batch", {"batch": [first]}).status, 200, "the first again")
    equal(region.check_accounts()[0]["duplicate"], 1, "duplicates at the hub")


def test_the_operator_sees_who_delivers(bench):
    hub = bench.hub(name="centre")
    agent = bench.agent_of(hub, name="till-1")
    agent.batch(orders("ada", 5))
    agent.batch([{"type": "page", "userId": "ada", "context": CONSENT}])      # not sent there
    agent.batch(orders("ada", 2))
    wait_until(lambda: settled(agent), 30, "something is queued on")
    rows = hub.call("GET", "/v1/devices").json()["devices"]
    equal(len(rows), 1, "devices")
    row = rows[0]
    check(abs(row.pop("clockAheadMs")) < 5000 and row.pop("lastHeard").startswith("20"), f"{row}")
    equal(row, {"device": "till-1", "isLate": False, "lastSeq": 8, "messages": 7, "missing": 1, "repeats": 0, "restarts": 0,
                "queued": 0, "lost": 0, "bundle": 1}, "the row")
    done = gatehouse("status", "--url", f"https://localhost:{hub.port}", "--ca", hub.tls.authority)
    check("device till-1" in done.stdout and "missing 1" in done.stdout, f"{done.stdout} {done.stderr}")
    metrics = hub.metrics()
    equal((metrics["gatehouse_devices"], metrics["gatehouse_devices_late"], metrics["gatehouse_device_messages_missing"]),
          (1, 0, 1), "metrics")
    equal(agent.call("GET", "/v1/devices").status, 404, "an agent is no hub")
    for query in ("limit=0", "limit=x", "after=%zz", "after=" + 65 * "x"):
        equal(hub.call("GET", f"/v1/devices?{query}").status, 400, query)
    equal(hub.call("POST", "/v1/devices").status, 405, "POST")


# limit: Serving.devicesAtOnce
def test_a_long_list_of_devices_comes_in_pages(bench):
    hub = bench.hub(name="centre")
    for start in (0, 600):
        hub.batch([
            {"type": "track", "event": "x", "messageId": f"m{number}",
             "context": {"gatehouse": {"device": f"d-{number:04}", "epoch": 1, "seq": 1, "consent": [], "bundle": 1}}}
            for number in range(start, start + 600)])
    first = hub.call("GET", "/v1/devices").json()
    second = hub.call("GET", f"/v1/devices?after={first['last']}").json()
    equal((len(first["devices"]), first["last"], len(second["devices"])), (1000, "d-0999", 200), "pages")
    equal(len(hub.call("GET", "/v1/devices?limit=7").json()["devices"]), 7, "limit")


def test_bad_input_a_device_may_say_any_number(bench):
    """Of each number there is a sum over all devices."""
    hub = bench.hub(name="centre")
    hub.batch([
        {"type": "track", "event": "x", "messageId": f"{device}{number}",
         "context": {"gatehouse": {"device": device, "epoch": 1, "seq": number, "consent": [], "bundle": 1}}}
        for device in "abcde" for number in (1, 2**63 - 1, 2**64 - 2)])
    check(hub.metrics()["gatehouse_device_messages_missing"] >= 2**62, "numbers that have not come")
    equal(len(hub.call("GET", "/v1/devices").json()["devices"]), 5, "devices")


def test_the_operator_s_routes_ask_for_the_role(bench):
    tokens = "tokens: [{ name: till, sha256: %s, roles: [collect] }, { name: boss, sha256: %s, roles: [operate] }]"
    hub = bench.hub(name="centre", settings=tokens % tuple(hashlib.sha256(word).hexdigest() for word in (b"till", b"boss")))
    equal(hub.call("GET", "/v1/devices").status, 401, "no token")
    equal(hub.call("GET", "/v1/devices", headers=basic("till")).status, 403, "another role")
    equal(hub.call("GET", "/v1/devices", headers=basic("boss")).status, 200, "the role")


def test_fleet_all_events_of_a_tree_of_hubs_are_at_the_top_once(bench):
    """Agents under two regions under a centre, each sending in rounds; a region and some agents are killed in between."""
    count = int(os.environ.get("GATEHOUSE_AGENTS", "6"))
    rounds, size = 4, 50
    centre = bench.hub(name="centre")
    regions = [hub_below(bench, centre, f"region-{number}") for number in range(2)]
    agents = [bench.agent_of(regions[number % 2], name=f"till-{number}") for number in range(count)]
    sent = [[] for _ in agents]
    problems = []

    def send(number, turn):
        try:
            batch = orders(f"customer-{number}-{turn}", size, turn * size)
            agents[number].batch(batch)
            sent[number] += ids_of(batch)
        except (OSError, Failure) as problem:
            problems.append(problem)

    for turn in range(rounds):
        threads = [threading.Thread(target=send, args=(number, turn)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        equal(problems, [], "problems while sending")
        victim = agents[turn % count] if turn % 2 else regions[turn // 2 % 2]
        victim.kill()
        victim.start()
    wait_until(lambda: settled(*agents, *regions), 120, "something is queued on", 0.5)
    messages = arrivals(centre)
    equal(len(messages), count * rounds * size, "messages at the top")
    equal(sorted(ids_of(messages)), sorted(id for ids in sent for id in ids), "ids")
    found = by_device(messages)
    equal(len(found), count, "devices")
    for device, numbers in found.items():
        check(numbers == sorted(set(numbers)), f"{device} is out of order: {numbers[:50]}")
    for node in [*agents, *regions, centre]:
        node.check_accounts()
        check(node.rss_anon_kib() < 8192, f"{node.name} takes {node.rss_anon_kib()} KiB")
    rows = centre.call("GET", "/v1/devices").json()["devices"]
    equal([(row["missing"], row["isLate"], row["restarts"]) for row in rows], [(0, False, 0)] * count, "rows")
    equal({row["via"] for row in rows}, {"region-0", "region-1"}, "ways")
