"""Who is one person, with the real binary: a wrong link taken back by its operator, and devices that exchange what they
know. The replay deals the days of the UCI "Online Retail" set over three devices; without the shared folder it is skipped.

GATEHOUSE_DAYS says how many days (4; all are 61).
"""

import json
import os
import pathlib
import random
import shutil
import subprocess
import time

from harness import SHOP_BUNDLE, TOP, binary, check, equal, track
from test_faults import days
from test_privacy import gatehouse

BUNDLE = """
version: 1
purposes: [analytics]
identifiers:
  user_id: { from: [userId], send: hmac, unique: true }
  card: { from: [properties.card], normalize: digits, send: hmac }
  email: { from: [properties.email], normalize: email, send: sha256 }
  till: { from: [context.device.id], send: hmac, shared: true }
events: { "*": { purpose: analytics } }
attributes:
  events: { type: counter }
  spent: { type: sum, value: event.properties.amount }
"""

CONSENT = {"categoryPreferences": {"analytics": True}}


def agent_with(bench, name, settings="", text=BUNDLE):
    path = os.path.join(bench.folder, f"{name}-bundle.yaml")
    with open(path, "w") as file:
        file.write(text)
    return bench.agent(name=name, bundle=path, settings=settings)


def sale(user=None, amount=1, till=None, **identifiers):
    context = {"consent": CONSENT}
    if till:
        context["device"] = {"id": till}
    event = track(user or "x", "Order Completed", {"amount": amount, **identifiers}, context=context)
    if not user:
        del event["userId"]
        event["anonymousId"] = "somebody"
    return event


def spent(agent, ref):
    return agent.profile(ref)["attributes"]["spent"]


def test_a_wrong_link_is_cut_by_command_and_both_get_back_what_was_theirs(bench):
    agent = agent_with(bench, "till-1")
    agent.batch([sale("ada", 10, card="4711")])
    agent.batch([sale(amount=3, email="finder@example.com")])
    agent.batch([sale(amount=500, card="4711", email="finder@example.com")])
    equal(spent(agent, "user_id:ada"), 513, "the card has joined them")
    links = agent.profile("user_id:ada")["links"]
    equal(sorted((link["between"][0]["kind"], link["between"][1]["kind"], link["state"]) for link in links),
          [("card", "email", "joined"), ("user_id", "card", "joined")], "the links of the person")
    done = gatehouse("profile", "unlink", "card:4711", "--from", "user_id:ada", "--url", f"http://127.0.0.1:{agent.port}")
    equal(done.returncode, 0, done.stderr)
    equal(spent(agent, "user_id:ada"), 10, "what is Ada's")
    equal(spent(agent, "email:finder@example.com"), 503, "what is the finder's")
    equal([link["state"] for link in agent.profile("user_id:ada")["links"]], ["cut"], "the link is shown as cut")
    # It holds after a restart, against a late event, and is on the record.
    agent.stop()
    agent.start()
    agent.batch([sale("ada", 1, card="4711")])
    equal(spent(agent, "user_id:ada"), 11, "a late event joins nobody")
    lines = agent.call("GET", "/v1/audit").json()["lines"]
    check(any(line.get("action") == "unlink" for line in lines), f"no line of the audit log tells of it: {lines}")
    for words, code in [(("card:4711", "--from", "user_id:ada"), 1), (("card:4712",), 1), (("ada",), 1),
                        (("card:4711", "--from", "nothing"), 1)]:
        done = gatehouse("profile", "unlink", *words, "--url", f"http://127.0.0.1:{agent.port}")
        equal(done.returncode, code, f"unlink {words}: {done.stderr}")
        check(done.stderr.strip(), f"unlink {words} says nothing")


def test_a_kiosk_decides_for_whoever_uses_it(bench):
    text = BUNDLE + """
decisions:
  greeting:
    purpose: analytics
    variants: { known: true, unknown: false }
    default: unknown
    rules: [ { name: known, when: profile.events > 0, serve: known } ]
"""
    agent = agent_with(bench, "kiosk", text=text.replace("from: [context.device.id]", "from: [context.device.id, context.targetingKey]"))
    equal(agent.decide("greeting", "kiosk-7")["variant"], "unknown", "before anybody came")
    agent.batch([sale("ada", till="kiosk-7")])
    equal(agent.decide("greeting", "kiosk-7")["variant"], "known", "while Ada uses it")
    agent.batch([sale(till="kiosk-7")])
    equal(agent.profile("user_id:ada")["attributes"]["events"], 2, "what happens at the kiosk counts for Ada")


def test_three_devices_that_exchange_what_they_know_have_the_profiles_of_one(bench):
    count = int(os.environ.get("GATEHOUSE_DAYS", "4"))
    files = days(bench, count)
    printed = subprocess.run([os.path.join(TOP, "Tools", "replay"), *files, "--print"], capture_output=True, text=True, check=True)
    events = [json.loads(line) for line in printed.stdout.splitlines()]
    customers = sorted({event["userId"] for event in events if "userId" in event})
    check(len(customers) > 50, "too few customers to tell anything")
    text = pathlib.Path(SHOP_BUNDLE).read_text()
    pepper = os.urandom(32)

    def device(name):
        path = os.path.join(bench.folder, f"{name}.pepper")
        pathlib.Path(path).write_bytes(pepper)
        os.chmod(path, 0o600)
        return agent_with(bench, name, f"pepper: {path}", text)

    def play(agent, mine):
        for start in range(0, len(mine), 100):
            agent.batch(mine[start:start + 100])

    one = device("one")
    play(one, events)
    devices = [device(f"device-{number}") for number in (1, 2, 3)]
    dealt = list(events)
    random.Random(20101201).shuffle(dealt)
    for number, agent in enumerate(devices):
        play(agent, [event for event in dealt if random.Random(event["messageId"]).randrange(3) == number])
    for agent in devices:
        agent.stop()
        # The store of a device has its pepper beside it, unless it was told another place.
        shutil.copy(os.path.join(bench.folder, f"{agent.name}.pepper"), os.path.join(agent.data, "pepper"))
    for turn in range(2):
        for agent in devices:
            for other in devices:
                if other is not agent:
                    done = gatehouse("store", "merge", other.data, "--config", agent.config)
                    equal(done.returncode, 0, done.stderr)
    for agent in devices:
        agent.start()
    different = []
    for customer in customers:
        for ref in (f"user_id:{customer}", f"email:{customer}@example.com"):
            wanted = one.profile(ref)
            for agent in devices:
                seen = agent.profile(ref)
                # Its rule reads the profile: it says what a device knew when it took an event.
                for record in (seen, wanted):
                    record["attributes"].pop("vip", None)
                for member in ("identifiers", "links", "attributes", "audiences", "consent"):
                    if seen[member] != wanted[member]:
                        different.append((agent.name, ref, member, seen[member], wanted[member]))
    check(not different, f"{len(different)} differences, the first {different[:1]}")
    # What one of them knows now is what the invoices say, by an independent sum.
    done = subprocess.run(
        [os.path.join(TOP, "Tools", "replay"), *files, "--no-play", "--verify", "--quiet", "--url",
         f"http://127.0.0.1:{devices[2].port}"], capture_output=True, text=True)
    equal(done.returncode, 0, done.stdout + done.stderr)


def test_stores_under_another_secret_are_not_merged(bench):
    a, b = agent_with(bench, "a"), agent_with(bench, "b")
    for agent in (a, b):
        agent.batch([sale("ada")])
        agent.stop()
    done = gatehouse("store", "merge", b.data, "--config", a.config)
    equal(done.returncode, 3, done.stdout + done.stderr)
    check("pepper" in done.stderr, done.stderr)
    done = gatehouse("store", "merge", os.path.join(bench.folder, "nowhere"), "--config", a.config)
    equal(done.returncode, 3, done.stdout + done.stderr)
    with open(os.path.join(b.data, "data.mdb"), "r+b") as file:
        file.truncate(os.path.getsize(os.path.join(b.data, "data.mdb")) // 2)
    shutil.copy(os.path.join(a.data, "pepper"), os.path.join(b.data, "pepper"))
    done = gatehouse("store", "merge", b.data, "--config", a.config)
    equal(done.returncode, 3, done.stdout + done.stderr)
    check("cut short" in done.stderr, done.stderr)
    done = gatehouse("store", "merge", a.data, "--config", a.config)
    equal(done.returncode, 3, done.stdout + done.stderr)
    done = gatehouse("store", "merge")
    equal(done.returncode, 2, done.stdout + done.stderr)


# --- The same on every architecture ----------------------------------------------------------------------------------

TOWN = """
version: 1
purposes: [analytics]
identifiers:
  user_id: { from: [userId], send: hmac, unique: true }
  phone: { from: [properties.phone], normalize: digits, send: hmac, unique: true }
  card: { from: [properties.card], normalize: digits, send: hmac }
  email: { from: [properties.email], normalize: email, send: sha256 }
events: { "*": { purpose: analytics } }
attributes:
  events: { type: counter }
  spent: { type: sum, value: event.properties.amount }
  usual: { type: mean, value: event.properties.amount }
  smallest: { type: min, value: event.properties.amount }
  largest: { type: max, value: event.properties.amount }
  seen: { type: set, value: event.properties.product, ttl: 30d }
  liked: { type: tally, value: event.properties.product }
  first_product: { type: first, value: event.properties.product }
  last_product: { type: last, value: event.properties.product }
  named: { type: string, value: event.properties.product }
  paid: { type: number, value: event.properties.amount }
  cheap: { type: boolean, value: event.properties.amount < 1.0 }
  day: { type: date, value: event.timestamp }
  spender: { type: badge, when: event.properties.amount > 100.0 }
  moments: { type: timeline, value: event.properties.product }
  recent: { type: counter, window: 24h }
  recently_spent: { type: sum, value: event.properties.amount, window: 24h }
  lately: { type: mean, value: event.properties.amount, window: 24h }
"""


def town(seed, size):
    """Random events of a few people, whose identifiers meet in all ways, and every identifier that occurs."""
    chance = random.Random(seed)
    pools = {"user_id": [f"user-{n}" for n in range(4)], "phone": [f"4930901820{n}" for n in range(3)],
             "card": [f"40000{n}" for n in range(3)], "email": [f"person{n}@example.com" for n in range(4)]}
    begin = int(time.time()) - 36_000
    events = []
    for number in range(size):
        chosen = {chance.choice(list(pools)): None}
        while chance.random() < 0.4:
            chosen[chance.choice(list(pools))] = None
        chosen = {kind: chance.choice(pools[kind]) for kind in chosen}
        event = sale(chosen.pop("user_id", None), chance.choice([0.1, 0.2, 19.99, 1e-7, 123_456.78]),
                     product=f"p{chance.randrange(4)}", **chosen)
        event["timestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begin + chance.randrange(36_000)))
        event["messageId"] = f"{seed}-{number}"
        events.append(event)
    return events, [f"{kind}:{value}" for kind, values in pools.items() for value in values]


def people(agent, refs):
    """Each person's identifiers and attributes, whichever id they have here."""
    found = {}
    for ref in refs:
        answer = agent.call("GET", f"/v1/profiles/{ref}")
        if answer.status == 200:
            person = answer.json()
            found[person["id"]] = json.dumps([person["identifiers"], person["links"], person["attributes"]])
    return sorted(found.values())


def _the_same_people_as_on_x86_64(bench, arch):
    binary(arch)
    pepper = os.urandom(32)

    def device(name, arch):
        path = os.path.join(bench.folder, f"{name}.pepper")
        pathlib.Path(path).write_bytes(pepper)
        os.chmod(path, 0o600)
        bundle = os.path.join(bench.folder, "town.yaml")
        pathlib.Path(bundle).write_text(TOWN)
        return bench.agent(name=name, bundle=bundle, settings=f"pepper: {path}", arch=arch)

    for seed in (1, 2):
        events, refs = town(seed, 80)
        one = device(f"one-{seed}", "x86_64")
        one.batch(events)
        wanted = people(one, refs)
        check(len(wanted) > 2, f"too few people to tell anything: {wanted}")
        random.Random(seed).shuffle(events)
        first, second = device(f"first-{seed}", arch), device(f"second-{seed}", arch)
        for start in range(0, 80, 20):
            first.batch(events[start:start + 10])
            second.batch(events[start + 10:start + 20])
        for agent in (first, second):
            agent.stop()
            shutil.copy(os.path.join(bench.folder, f"{agent.name}.pepper"), os.path.join(agent.data, "pepper"))
        for agent, other in ((first, second), (second, first)):
            done = subprocess.run([*binary(arch), "store", "merge", other.data, "--config", agent.config],
                                  capture_output=True, text=True, timeout=60)
            equal(done.returncode, 0, done.stderr)
        for agent in (first, second):
            agent.start()
            equal(people(agent, refs), wanted, f"the people of {agent.name}")
            agent.stop()


def test_x86_64_has_the_same_people_in_any_order_and_from_two_devices(bench):
    _the_same_people_as_on_x86_64(bench, "x86_64")


def test_aarch64_has_the_same_people_as_x86_64(bench):
    _the_same_people_as_on_x86_64(bench, "aarch64")


def test_armv7_has_the_same_people_as_x86_64(bench):
    _the_same_people_as_on_x86_64(bench, "armv7")
