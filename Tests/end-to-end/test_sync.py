"""Devices of a fleet that know the same people, by way of their hubs: who is known, erased or refuses at one is so at all; and
who may tell and hear. GATEHOUSE_AGENTS=50 runs the fleet of the README, GATEHOUSE_ERASURES=3300 a long list of the erased."""

import hashlib
import hmac
import os
import random
import shutil
import struct
import time

from harness import CONSENT, Failure, basic, check, equal, track, wait_until
from test_delivery import orders
from test_hub import hub_below
from test_privacy import PREFERENCES, digests, files_with, gatehouse, preferences

PEPPER = bytes(range(32))
AGENTS = int(os.environ.get("GATEHOUSE_AGENTS", "6"))
# Each question is a handshake, and all share one machine.
POLL = f"{max(1, AGENTS // 10)}s"


def mac(key, text):
    return hmac.new(key, text, hashlib.sha256).digest()


def fingerprint(pepper=PEPPER):
    return mac(mac(pepper, b"root"), b"fleet" + mac(pepper, b"fleet")).hex()[:32]


FLEET = f"fleet: {fingerprint()}\n"


def of_fleet(bench, hub, more="", pepper=PEPPER, token=None, purpose=", purpose: analytics"):
    """Settings of a device that tells its hub of people and hears of others; all have one pepper."""
    path = os.path.join(bench.folder, f"pepper-{pepper[:4].hex()}")
    if not os.path.exists(path):
        with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
            file.write(pepper)
    secret = f", token: {token}" if token else ""
    return f"pepper: {path}\nhub: {{ url: 'https://localhost:{hub.port}'{purpose}, poll: {POLL}{secret} }}\n{more}"


def device_of(bench, hub, name, **options):
    return bench.agent_of(hub, settings=of_fleet(bench, hub, **options), name=name)


def person(node, ref):
    """What is known of somebody, but for what each device names them; None for nobody."""
    answer = node.call("GET", f"/v1/profiles/{ref}")
    if answer.status != 200:
        return None
    found = answer.json()
    return {"attributes": found["attributes"], "audiences": sorted(found["audiences"]), "consent": found["consent"],
            "identifiers": sorted((one["kind"], one["hmac"]) for one in found["identifiers"])}


def attributes(node, ref):
    found = person(node, ref)
    return found and found["attributes"]


def checksum_of_numbers(data):
    """Store/LogEntry.swift, Checksum."""
    full = 2**64 - 1

    def mix(value):
        product = value * 0xFF51AFD7ED558CCD & full
        return product ^ product >> 32
    state = mix(0x9E3779B97F4A7C15 ^ len(data))
    for (word,) in struct.iter_unpack("<Q", data):
        state = mix(state ^ word)
    return mix(state) & 0xFFFFFFFF


def piece(kind, content):
    return struct.pack("<BI", kind, len(content)) + content


def pieces(text):
    found, place = [], 0
    while place < len(text):
        kind, length = struct.unpack_from("<BI", text, place)
        found.append((kind, text[place + 5:place + 5 + length]))
        check(len(found[-1][1]) == length, "half a piece")
        place += 5 + length
    return found


def question(device="watcher", epoch=1, fleet=None, hub=0, heard=0, changes=()):
    """What a device asks; see SyncPage."""
    numbers = struct.pack("<7Q", epoch, int(time.time() * 1000), 1, 0, 0, hub, heard)
    print_ = fingerprint().encode() if fleet is None else fleet.encode()
    return (piece(0, struct.pack("<I", checksum_of_numbers(numbers)) + numbers) + piece(2, print_) + piece(3, device.encode())
            + b"".join(piece(1, change) for change in changes))


def ask(node, headers=None, expect=200, body=None, **members):
    """A question as a device's, and what is answered."""
    answer = node.call("POST", "/v1/sync", question(**members) if body is None else body, headers=headers)
    equal(answer.status, expect, f"status ({answer.body[:300]!r})")
    if expect != 200:
        return answer.json()
    found = pieces(answer.body)
    check(found[0][0] == 0, "no numbers")
    hub, _, last, flags = struct.unpack_from("<4Q", found[0][1], 4)
    return {"hub": hub, "to": last, "more": bool(flags & 1), "changes": [change for kind, change in found if kind == 1]}


def changes(hub, **members):
    """All that a hub tells, as bytes."""
    found, answer = [], {"hub": 0, "to": 0, "more": True}
    while answer["more"]:
        answer = ask(hub, **members, hub=answer["hub"], heard=answer["to"])
        found += answer["changes"]
    return found


def knows(node, ref, count, seconds=30):
    wait_until(lambda: (attributes(node, ref) or {}).get("orders") == count, seconds, f"{node.name} does not know {ref}", 0.2)


def settings_with_tokens(*tokens):
    lines = [f"  - {{ sha256: {hashlib.sha256(word.encode()).hexdigest()}, {rest} }}" for word, rest in tokens]
    return FLEET + "tokens:\n" + "\n".join(lines) + "\n"


def test_who_is_seen_at_one_device_is_known_at_another(bench):
    """With one profile at both, whichever took the events; a decision at one goes by what was bought at the other. P3: nothing
    on the way says who they are."""
    hub = bench.hub(name="centre", settings=FLEET)
    first, second = (device_of(bench, hub, name) for name in ("first", "second"))
    first.batch([{"type": "identify", "userId": "ada", "traits": {"email": "ada@example.org"}, "context": CONSENT}])
    first.batch(orders("ada", 2))
    second.batch(orders("ada", 1, 2))
    for node in (first, second):
        knows(node, "user_id:ada", 3)
        # Somebody who has ordered three times, wherever that was.
        equal(node.decide("checkout_offer", "ada")["variant"], "five", f"decision at {node.name}")
    equal(person(second, "email:ada@example.org"), person(first, "user_id:ada"), "profiles")
    wait_until(lambda: [(row["device"], row["queued"], row["lost"], row["bundle"])
                        for row in hub.call("GET", "/v1/devices").json()["devices"]]
               == [("first", 0, 0, 1), ("second", 0, 0, 1)], 20, "rows", 0.2)
    told = b"".join(changes(hub))
    check(digests(first, "user_id:ada")[0] in told, "the test looks in the wrong place")
    plain = hashlib.sha256(b"ada@example.org").digest()
    check(not any(secret in told for secret in (b"ada", b"example.org", plain)), "somebody is named on the way")
    for node in (hub, first, second):
        equal(files_with(node.data, b"ada@example.org"), [], f"files of {node.name}")
    # What has been told is not told over and over.
    newest = ask(hub)["to"]
    time.sleep(2.5)
    equal(ask(hub)["to"], newest, "the newest change")
    shown = gatehouse("pepper", "fingerprint", "--config", first.config)
    equal(shown.stdout.strip(), fingerprint(), f"fingerprint {shown.stderr}")


def test_p8_who_is_erased_at_one_device_is_erased_at_all(bench):
    """And does not come back at any of them, nor to the hub, until they choose to at one, which then holds at all."""
    hub = bench.hub(name="centre", settings=FLEET)
    first, second = (device_of(bench, hub, name) for name in ("first", "second"))
    for node in (first, second):
        node.batch([track("zora", "Order Completed", {"order_id": node.name, "revenue": 5}, traits={"email": "z@example.org"})])
        node.batch([track("ben", "Order Completed", {"order_id": node.name, "revenue": 5})])
    for node in (first, second):
        for user in ("zora", "ben"):
            knows(node, f"user_id:{user}", 2)
    needles = digests(first, "user_id:zora")[:-1]
    check(files_with(hub.data, *needles), "the test looks in the wrong place")
    receipt = first.call("DELETE", "/v1/profiles/user_id:zora").json()["receipt"]
    wait_until(lambda: second.call("GET", "/v1/profiles/user_id:zora").status == 404, 20, "the other device keeps her")
    second.batch([track("zora", "Order Completed", {"order_id": "again", "revenue": 5})])
    second.profile("user_id:zora", expect=404)
    equal(second.check_accounts()[0]["denied"], 1, "denied")
    wait_until(lambda: first.call("GET", f"/v1/erasures/{receipt}").json()["state"] == "erased", 20, "the erasure does not end")
    wait_until(lambda: all(row["state"] == "erased" for row in second.call("GET", "/v1/erasures").json()["erasures"]), 20,
               "the other's erasure does not end")
    equal(attributes(second, "user_id:ben")["orders"], 2, "somebody else's orders")
    actors = {line["actor"] for line in hub.call("GET", "/v1/audit").json()["lines"] if line["action"] == "erase"}
    check("device:first" in actors, f"audit: {actors}")
    for node in (hub, first, second):
        node.stop()
        equal(gatehouse("store", "compact", "--config", node.config).returncode, 0, "compact")
        equal(files_with(node.data, *needles), [], f"files of {node.name}")
        node.start()
    second.batch([track("zora", PREFERENCES, context=preferences(analytics=True))])
    second.batch([track("zora", "Order Completed", {"order_id": "new", "revenue": 5})])
    knows(first, "user_id:zora", 1)
    equal(attributes(second, "user_id:zora"), attributes(first, "user_id:zora"), "profiles")


def test_p8_a_hub_that_has_lost_its_store_brings_nobody_back(bench):
    """It is told whom it has known, and the whole list of the erased: a device that was off meanwhile hears of it."""
    hub = bench.hub(name="centre", settings=FLEET)
    first, second = (device_of(bench, hub, name) for name in ("first", "second"))
    first.batch(orders("zora", 2) + orders("ben", 2))
    for user in ("zora", "ben"):
        knows(second, f"user_id:{user}", 2)
    second.kill()
    receipt = first.call("DELETE", "/v1/profiles/user_id:zora").json()["receipt"]
    wait_until(lambda: first.call("GET", f"/v1/erasures/{receipt}").json()["state"] == "erased", 20, "the erasure does not end")
    hub.stop()
    shutil.rmtree(hub.data)
    hub.start()
    second.start()
    third = device_of(bench, hub, "third")
    wait_until(lambda: second.call("GET", "/v1/profiles/user_id:zora").status == 404, 20, "she is still there")
    knows(third, "user_id:ben", 2)
    wait_until(lambda: third.call("GET", "/v1/profiles/user_id:zora").status == 404, 20, "she has come back")
    third.batch(orders("zora", 1, 5))
    third.profile("user_id:zora", expect=404)


def test_p4_who_opts_out_at_one_device_has_opted_out_at_all(bench):
    hub = bench.hub(name="centre", settings=FLEET)
    first, second = (device_of(bench, hub, name) for name in ("first", "second"))
    first.batch([track("ada", "Order Completed", {"order_id": "1", "revenue": 5})])
    knows(second, "user_id:ada", 1)
    equal(first.call("PUT", "/v1/profiles/user_id:ada/consent", {"analytics": False}).status, 200, "PUT")
    wait_until(lambda: not second.profile("user_id:ada")["consent"]["analytics"], 20, "the other has not heard of it")
    second.batch([track("ada", "Order Completed", {"order_id": "2", "revenue": 5})])
    equal(second.check_accounts()[0]["denied"], 1, "denied")
    # The hub has what she has chosen, and nothing that was counted.
    wait_until(lambda: not files_in_parts(hub, first), 20, "what was counted stays at the hub")


def files_in_parts(hub, device):
    epoch = device_epoch(hub, device.name)
    return [change for change in changes(hub) if epoch in change and len(change) > 200]


def device_epoch(hub, name):
    """The number of a device's store, as parts on the wire have it."""
    return struct.pack(">Q", next(
        message["context"]["gatehouse"]["epoch"] for message in hub.call("GET", "/v1/arrivals").json()["arrivals"]
        if message["context"]["gatehouse"]["device"] == name))


def test_who_may_tell_and_hear(bench):
    """Whoever has the role sync, as the device whose token it is, with the fleet's pepper; erasures need the role privacy."""
    hub = bench.hub(name="centre", settings=settings_with_tokens(
        ("first", "roles: [collect, sync, privacy], device: first"), ("second", "roles: [collect, sync], device: second"),
        ("collector", "roles: [collect, privacy, operate, decide]"), ("region", "roles: [sync, collect], hub: region")))
    for headers, status in ((None, 401), (basic("wrong"), 401), (basic("collector"), 403), (basic("first"), 403)):
        ask(hub, headers, status)
    ask(hub, basic("first"), device="first", epoch=5)
    ask(hub, basic("region"), device="region", epoch=6)
    ask(hub, basic("second"), 403, device="first")
    said = ask(hub, basic("second"), 409, device="second", fleet="0" * 32)["message"]
    check("one pepper" in said, said)
    ask(hub, basic("second"), 409, device="second", fleet="")
    said = ask(hub, basic("second"), 409, device="second", epoch=5)["message"]
    check("copy" in said, said)
    sound = question(device="second")
    for wrong in (question(device="second", epoch=0), question(device="a b"), question(device=""), b"", b"{}", sound[:20],
                  sound[:70], sound[:-1], piece(0, b"") + sound[65:], b"\1" + sound[1:], sound[:30] + b"x" + sound[31:]):
        ask(hub, basic("second"), 400, wrong)
    # Messages, too, are those of the token's device.
    def message(device, **origin):
        gatehouse = {"device": device, "epoch": 5, "seq": random.randrange(1, 10**9), "consent": [], "bundle": 1, **origin}
        return {"type": "track", "event": "x", "messageId": str(random.random()), "context": {"gatehouse": gatehouse}}
    for token, device, origin, status in (
            ("first", "first", {}, 200), ("first", "second", {}, 403), ("first", "second", {"via": "first"}, 403),
            ("region", "second", {"via": "region"}, 200), ("region", "second", {}, 403), ("collector", "second", {}, 200)):
        answer = hub.call("POST", "/v1/batch", {"batch": [message(device, **origin)]}, headers=basic(token))
        equal(answer.status, status, f"{token} as {device} {origin} ({answer.body[:200]!r})")
    # An erasure without the role is not taken, and said so; the device goes on hearing.
    first, second = (device_of(bench, hub, name, token=name) for name in ("first", "second"))
    first.batch(orders("ada", 1) + orders("ben", 1))
    for user in ("ada", "ben"):
        knows(second, f"user_id:{user}", 1)
    second.call("DELETE", "/v1/profiles/user_id:ada")
    wait_until(lambda: "needs the role privacy" in second.log(), 20, "it does not say so")
    first.call("DELETE", "/v1/profiles/user_id:ben")
    wait_until(lambda: second.call("GET", "/v1/profiles/user_id:ben").status == 404, 20, "it does not hear any more")
    equal(first.profile("user_id:ada")["attributes"]["orders"], 1, "whom the other could not erase")
    # Everything else it tells; and once it may, whom it had erased meanwhile.
    second.batch(orders("cleo", 1) + orders("dan", 1))
    for user in ("cleo", "dan"):
        knows(first, f"user_id:{user}", 1)
    second.call("DELETE", "/v1/profiles/user_id:cleo")
    second.batch(orders("eve", 1))
    knows(first, "user_id:eve", 1)
    equal(second.log().count("needs the role privacy"), 1, "how often it says so")
    hub.stop()
    with open(hub.config) as file:
        text = file.read()
    with open(hub.config, "w") as file:
        file.write(text.replace("roles: [collect, sync], device: second", "roles: [collect, sync, privacy], device: second"))
    second.kill()
    second.start()
    hub.start()
    for user in ("ada", "cleo"):
        wait_until(lambda: first.call("GET", f"/v1/profiles/user_id:{user}").status == 404, 20, f"{user} is not erased")
    equal(first.profile("user_id:eve")["attributes"]["orders"], 1, "who was not erased")


def test_a_device_with_another_pepper_is_no_member_of_the_fleet(bench):
    hub = bench.hub(name="centre", settings=FLEET)
    first = device_of(bench, hub, "first")
    wait_until(lambda: hub.call("GET", "/v1/devices").json()["devices"], 20, "the first has not asked")
    other = device_of(bench, hub, "other", pepper=bytes(32))
    wait_until(lambda: fingerprint(bytes(32)) in other.log() and "one pepper" in other.log(), 20, "it does not say so")
    check("trouble" not in first.log(), first.log())
    equal(other.call("POST", "/v1/sync", question()).status, 404, "an agent is no hub")
    none = bench.hub(name="none", tls=hub.tls)
    check("fingerprint" in ask(none, expect=409)["message"], "a hub of no fleet")


def part(entries, time_of=None):
    """A profile record as a device would write it, with its own checksum."""
    now = time_of or int(time.time() * 1000)
    body = b"".join(entries)
    record = struct.pack("<HBBHHI", 0x5047, 2, 0, len(entries), 0, 0) + bytes(16) + struct.pack("<qqQQ", now, now, 0, 1) + body
    return struct.pack("<I", checksum(b"\0\0\0\0" + record)) + record


def checksum(record):
    """Unification/ProfileRecord.swift, RecordChecksum."""
    full = 2**64 - 1

    def mix(value):
        product = value * 0xFF51AFD7ED558CCD & full
        return product ^ product >> 32
    state = mix(len(record) ^ 0x9E3779B97F4A7C15)
    other, offset = ~state & full, 4
    while offset + 16 <= len(record):
        one, two = struct.unpack_from("<QQ", record, offset)
        state, other, offset = mix(state ^ one), mix(other ^ two), offset + 16
    state = mix(state ^ (other << 1 & full | other >> 63))
    if offset + 8 <= len(record):
        state, offset = mix(state ^ struct.unpack_from("<Q", record, offset)[0]), offset + 8
    return mix(state ^ int.from_bytes(record[offset:], "big")) & 0xFFFFFFFF


def test_bad_input_a_part_of_no_device_stops_nobody(bench):
    """Windows whose newest bucket is at the end of time, under right checksums: they are left out and counted, what comes with
    them is taken, and everybody starts again."""
    hub = bench.hub(name="centre", settings=FLEET)
    first, second = (device_of(bench, hub, name) for name in ("first", "second"))
    first.batch([track("ada", "Product Viewed", {"product_id": "1", "category": "x"})] + orders("ada", 1))
    knows(second, "user_id:ada", 1)
    # Its windowed attribute is of form 17.
    epoch = device_epoch(hub, "first")
    state = next(change for change in changes(hub) if epoch in change and b"\x11\0" in change)
    name, key = state[1:17], state[17:53]
    place = state.index(epoch)
    own = state[place + 8:place + struct.unpack_from("<I", state, place - 4)[0]]
    equal(struct.pack("<I", checksum(own)), own[:4], "the test's checksum")
    count, offset = 0, 64
    while own[offset + 4] != 17:
        offset += 16 + struct.unpack_from("<H", own, offset + 6)[0]
        count += 1
    tag = own[offset:offset + 4]
    bad = []
    for bucket in (2**63 - 1, -2**63):
        payload = struct.pack("<q", bucket) + b"\0" + struct.pack("<I", 1)
        entry = tag + struct.pack("<BBHq", 17, 0, len(payload), int(time.time() * 1000)) + payload
        record = part([entry])
        bad.append(b"\1" + name + key + piece(2, struct.pack(">Q", 7) + record))
    odd = [b"", bytes(3), b"\1" + bytes(150), b"\2" + bytes(21), b"\xff" * 120, b"\1" + name + key + b"\2"]
    sound = orders("ben", 1)
    ask(hub, device="odd", epoch=7, changes=odd + bad)
    equal(hub.metrics()["gatehouse_shared_changes_refused_total"], len(odd) + 2, "counted at the hub")
    second.batch(sound)
    knows(first, "user_id:ben", 1)
    for node in (hub, first, second):
        node.kill()
        node.start()
        check("trap" not in node.log(), node.log())
    equal(attributes(second, "user_id:ada")["views_10m"], 1, "views")


def test_p6_what_is_told_comes_in_pages(bench):
    """Thirty people of whom 35 KB each is known, and many who were erased while the hub was down."""
    erased = int(os.environ.get("GATEHOUSE_ERASURES", "100"))
    hub = bench.hub(name="centre", settings=FLEET)
    notes = (("  orders:   ", "  notes: { type: set, value: event.properties.note, limit: 1000 }\n  orders:   "),)
    first, second = (bench.agent_of(hub, bundle_changes=notes, settings=of_fleet(bench, hub), name=name)
                     for name in ("first", "second"))
    for start in range(0, erased, 500):
        first.batch([track(f"gone-{number}", "Order Completed", {"order_id": "1", "revenue": 1})
                     for number in range(start, min(erased, start + 500))])
    knows(second, f"user_id:gone-{erased - 1}", 1)
    hub.stop()
    connection = first.connection()
    for number in range(erased):
        equal(first.call("DELETE", f"/v1/profiles/user_id:gone-{number}", connection=connection).status, 200, "DELETE")
    connection.close()
    for number in range(30):
        first.batch([track(f"big-{number}", "Note", {"note": f"{n}-" + "x" * 970}) for n in range(31)]
                    + orders(f"big-{number}", 1))
    check(len(attributes(first, "user_id:big-0")["notes"]) == 31, "notes")
    hub.start()
    for number in range(30):
        wait_until(lambda: attributes(second, f"user_id:big-{number}") == attributes(first, f"user_id:big-{number}"), 60,
                   f"the other does not know of {number}", 0.2)
    wait_until(lambda: all(second.call("GET", f"/v1/profiles/user_id:gone-{number}").status == 404
                           for number in (0, erased // 2, erased - 1)), 60, "somebody is still there", 0.2)
    check("trouble" not in second.log().split("connect")[-1], second.log())
    for node in (hub, first, second):
        check(node.rss_anon_kib() < 8192, f"{node.name} takes {node.rss_anon_kib()} KiB")


def test_p6_a_full_device_hears_who_was_erased(bench):
    """And what it has no room for it does not count as an event."""
    hub = bench.hub(name="centre", settings=FLEET)
    first = device_of(bench, hub, "first")
    second = device_of(bench, hub, "second", more="limits: { disk: 2MiB }\n")
    first.batch(orders("zora", 1) + orders("ada", 1))
    for user in ("zora", "ada"):
        knows(second, f"user_id:{user}", 1)
    hub.stop()
    sent = 0
    while sent < 20000:
        events = [track("ben", "Page Viewed", {"filling": "x" * 2000}) for _ in range(50)]
        if second.call("POST", "/v1/batch", {"batch": events}).status == 503:
            break
        sent += 50
    check(0 < sent < 20000, f"{sent} events on a disk of 2 MiB")
    first.call("DELETE", "/v1/profiles/user_id:zora")
    first.call("PUT", "/v1/profiles/user_id:ada/consent", {"analytics": False})
    first.batch(orders("cleo", 1))
    hub.start()
    before = second.accounts()[0]
    wait_until(lambda: second.call("GET", "/v1/profiles/user_id:zora").status == 404, 30, "she is still there")
    wait_until(lambda: not second.profile("user_id:ada")["consent"]["analytics"], 30, "her refusal is not heard")
    after = second.check_accounts()[0]
    equal((after["received"], after["refused"]), (before["received"], before["refused"]), "events")
    # The backlog leaves, and with it the lack of room: what was missed is heard.
    knows(second, "user_id:cleo", 1, 60)


def test_fleet_profiles_are_equal_on_every_device_that_has_them(bench):
    """Customers who shop at several devices under two regions under a centre, events dealt at random; in the middle one is
    erased, one refuses, a region is killed and another loses its store. In the end every device knows what one would that
    had got all events."""
    count = AGENTS
    begun = time.monotonic()
    people, rounds, chance = 20, 3, random.Random(7)
    centre = bench.hub(name="centre", settings=FLEET)
    up = f"{FLEET}hub: {{ url: 'https://localhost:{centre.port}', purpose: analytics, poll: {POLL} }}\n"
    regions = [hub_below(bench, centre, f"region-{number}", settings=up) for number in range(2)]
    tills = [device_of(bench, regions[number % 2], f"till-{number}") for number in range(count)]
    whole = bench.agent_of(centre, settings=of_fleet(bench, centre).split("hub:")[0], name="whole")
    start = time.time() - 3600
    sent = 0

    def moment():
        nonlocal sent
        sent += 1
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(start + sent // 50)) + f".{sent % 50 * 20:03}Z"

    def send(till, events):
        till.batch(events)
        whole.batch(events)

    def shop(users):
        for till in tills:
            events = []
            for user in chance.sample(users, min(10, len(users))):
                name, traits = f"customer-{user}", {}
                if chance.random() < 0.3:
                    traits = {"traits": {"email": f"{name}@example.org"}}
                events.append(track(name, "Order Completed", {"order_id": f"{sent}", "revenue": chance.randrange(4000) / 4,
                              "country": chance.choice("ABC")}, timestamp=moment(), **traits))
                events.append(track(name, "Product Viewed", {"product_id": f"{chance.randrange(9)}",
                              "category": chance.choice(["x", "y"])}, timestamp=moment()))
            send(till, events)

    def views(node):
        return [person(node, f"user_id:customer-{user}") for user in range(people)]

    def without_badge(profiles):
        """A badge over a sum is granted at an event, by what the device knows then: it may be granted to somebody at the one
        that gets all events, and at no till, which hear of each other's orders later and of no event after."""
        return [one and {**one, "attributes": {**one["attributes"], "vip": None}} for one in profiles]

    def settle(seconds):
        expected = without_badge(views(whole))
        for till in tills:
            try:
                wait_until(lambda: without_badge(views(till)) == expected and views(till) == views(tills[0]), seconds,
                           f"{till.name} knows other profiles", 0.5)
            except Failure:
                wrong = [(n, seen, right) for n, (seen, right) in enumerate(zip(views(till), views(tills[0])))
                         if seen != right or without_badge([seen])[0] != expected[n]]
                raise Failure(f"{till.name} knows {len(wrong)} other profiles, such as {wrong[0]}")

    for turn in range(rounds):
        shop(list(range(people)))
        victim = regions[turn % 2]
        if turn < 2:
            victim.kill()
            victim.start()
    settle(60 + 4 * count)
    # Customer 0 is erased at one device, customer 1 refuses at another; everybody else goes on.
    for node in (tills[-1], whole):
        equal(node.call("DELETE", "/v1/profiles/user_id:customer-0").status, 200, "DELETE")
    send(tills[0], [track("customer-1", PREFERENCES, context=preferences(analytics=False), timestamp=moment())])
    shop(list(range(2, people)))
    regions[0].stop()
    shutil.rmtree(regions[0].data)
    regions[0].start()
    regions[1].kill()
    regions[1].start()
    shop(list(range(2, people)))
    settle(60 + 4 * count)
    equal(views(tills[0])[0], None, "who was erased")
    equal(views(tills[-1])[1]["consent"]["analytics"], False, "who refuses")
    check(views(tills[0])[2]["attributes"]["orders"] > 3, "orders")
    for node in [*tills, *regions, centre, whole]:
        node.check_accounts()
        check(node.rss_anon_kib() < 8192, f"{node.name} takes {node.rss_anon_kib()} KiB")
    print(f"    {count} agents, {sent} events, all profiles equal after {time.monotonic() - begun:.1f} s")
