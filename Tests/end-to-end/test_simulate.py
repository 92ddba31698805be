"""`gatehouse simulate`, and a bundle that runs as the shadow of another, with the real binary."""

import json
import os
import re
import signal
import subprocess

from harness import Node, binary, check, equal, wait_until

BUNDLE = """
version: {version}
purposes: [analytics, personalization]
consent: {{ wait: 0s }}
identifiers:
  user_id: {{ from: [userId, context.targetingKey], send: hmac, unique: true }}
events:
  Order Completed:
    purpose: analytics
    invalid: quarantine
    schema: {{ type: object, properties: {{ revenue: {{ type: number, minimum: 0 }} }} }}
  Product Added: {{ purpose: analytics }}
attributes:
  lifetime_value: {{ type: sum, when: 'event.event == "Order Completed"', value: event.properties.revenue }}
{more}
decisions:
  offer:
    purpose: personalization
    variants: {{ none: {{ discount: 0 }}, ten: {{ discount: 10 }} }}
    default: none
    rules:
      - {{ name: vip, when: profile.lifetime_value > {limit}, serve: ten }}
  half:
    variants: {{ a: 1, b: 2 }}
    default: a
    rules:
      - {{ name: test, split: {{ a: 50, b: 50 }} }}
triggers:
  cart: {{ on: 'event.event == "Product Added"', after: 30m, unless: 'event.event == "Order Completed"', send: hub }}
destinations: {{ hub: {{ url: "https://localhost:1/v1/batch", purpose: analytics }} }}
"""
GRANT = {"consent": {"categoryPreferences": {"analytics": True, "personalization": True}}}


def bundle(folder, name, limit="100.0", version=1, more=""):
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        file.write(BUNDLE.format(limit=limit, version=version, more=more))
    return path


def event(user, name, minute, context=GRANT, **properties):
    return {
        "type": "track", "userId": user, "event": name, "timestamp": f"2026-01-31T12:{minute:02}:00Z",
        "properties": properties, "context": context,
    }


def record(folder, lines):
    path = os.path.join(folder, "events.ndjson")
    with open(path, "w") as file:
        for line in lines:
            file.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
    return path


def simulate(*arguments, expect=0, stdin=None, **environment):
    done = subprocess.run(
        binary() + ["simulate", *arguments], capture_output=True, timeout=120, input=stdin, env={**os.environ, **environment})
    equal(done.returncode, expect, f"exit code of simulate {arguments}: {done.stderr.decode()}")
    return done.stdout.decode(), done.stderr.decode()


def rows(*arguments, **options):
    output, _ = simulate(*arguments, "--json", **options)
    found = [json.loads(line) for line in output.splitlines()]
    return found[:-1], found[-1]


SHOPPING = [
    event("ada@example.org", "Order Completed", 0, revenue=60),
    event("ada@example.org", "Order Completed", 1, revenue=60),
    event("ben", "Product Added", 2),
    event("ben", "Order Completed", 50, revenue=-1),
    event("ben", "Unheard Of", 51),
    event("cleo", "Product Added", 52, context={}),
]


def test_simulate_prints_each_decision(bench):
    mine, events = bundle(bench.folder, "a.yaml"), record(bench.folder, SHOPPING)
    found, sums = rows("--bundle", mine, "--events", events)
    offers = [row for row in found if row.get("decision") == "offer"]
    equal([(row["line"], row["variant"], row["rule"]) for row in offers],
          [(1, "none", None), (2, "ten", "vip"), (3, "none", None)], "what is offered")
    equal(offers[1]["value"], {"discount": 10}, "the value")
    equal(offers[1]["time"], "2026-01-31T12:01:00.000Z", "the time")
    fired = [row for row in found if row.get("event")]
    equal([(row["name"], row["time"]) for row in fired], [("cart", "2026-01-31T12:32:00.000Z")], "triggers")
    equal(fired[0]["person"], offers[2]["person"], "whose cart it is")
    equal(sums["events"], {"received": 6, "admitted": 3, "duplicate": 0, "denied": 1, "waiting": 0, "quarantined": 1,
                           "refused": 1}, "accounts")
    equal(sums["reasons"], {"quarantined: minimum": 1, "refused: not_in_plan": 1}, "reasons")
    equal(sums["decisions"]["offer"], {"asked": 3, "variants": {"none": 2, "ten": 1}}, "the sum of a decision")
    # For a person, and nobody by their name.
    output, errors = simulate("--bundle", mine, "--events", events)
    check(re.search(r"^2 +2026-01-31T12:01:00\.000Z +[0-9a-f]{8} +offer +ten +TARGETING_MATCH +vip$", output, re.M), output)
    check("quarantined: minimum 1" in output and "admitted 3" in output, output)
    check("example.org" not in output + errors, "a raw identifier is printed")


def test_simulate_is_the_same_each_time(bench):
    lines = []
    for number in range(400):
        lines.append(event(f"person-{number % 40}", ["Product Added", "Order Completed"][number % 3 == 0], number // 8,
                           revenue=number))
    mine, events = bundle(bench.folder, "a.yaml"), record(bench.folder, lines)
    first = simulate("--bundle", mine, "--events", events)
    equal(simulate("--bundle", mine, "--events", events), first, "the second run")
    with open(events, "rb") as file:
        equal(simulate("--bundle", mine, "--events", "-", stdin=file.read(), TMPDIR="/tmp"), first, "the run over a pipe")
    check(first[0].count("\n") > 800, "a line for each decision")
    variants = {re.split(r" +", line)[4] for line in first[0].splitlines() if " half " in line and "SPLIT" in line}
    equal(variants, {"a", "b"}, "a split")


def test_simulate_leaves_nothing_behind(bench):
    place = os.path.join(bench.folder, "tmp")
    os.mkdir(place)
    mine, events = bundle(bench.folder, "a.yaml"), record(bench.folder, SHOPPING)
    before = sorted(os.listdir(bench.folder))
    simulate("--bundle", mine, "--events", events, TMPDIR=place)
    equal(os.listdir(place), [], "the temporary folder")
    equal(sorted(os.listdir(bench.folder)), before, "the folder")
    # Not even when it is killed in the middle.
    process = subprocess.Popen(binary() + ["simulate", "--bundle", mine, "--events", "-", "--json"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": place})
    line = (json.dumps(SHOPPING[0]) + "\n").encode()
    process.stdin.write(line * 500)
    process.stdin.flush()
    process.stdout.read(10)
    process.send_signal(signal.SIGKILL)
    process.wait()
    equal(os.listdir(place), [], "the temporary folder after kill -9")


def test_simulate_makes_no_folder_of_its_own(bench):
    mine, events = bundle(bench.folder, "a.yaml"), record(bench.folder, SHOPPING)
    for place in (os.path.join(bench.folder, "missing"), events):
        done = subprocess.run(binary() + ["simulate", "--bundle", mine, "--events", events], capture_output=True, text=True,
                              env={**os.environ, "TMPDIR": place}, timeout=30)
        equal((done.returncode, done.stdout), (3, ""), f"exit code and output ({done.stderr})")
        check(f"TMPDIR is {place}, and there is no such folder" in done.stderr, f"what is wrong: {done.stderr!r}")
    check(not os.path.exists(os.path.join(bench.folder, "missing")), "the folder was made")


def test_simulate_says_what_would_change(bench):
    mine, other = bundle(bench.folder, "a.yaml"), bundle(bench.folder, "b.yaml", limit="50.0", version=2)
    events = record(bench.folder, SHOPPING)
    found, sums = rows("--bundle", mine, "--against", other, "--events", events)
    equal([(row["line"], row["decision"], row["before"], row["after"], row["ruleAfter"]) for row in found],
          [(1, "offer", "none", "ten", "vip")], "what changes")
    equal(sums["decisions"], {
        "offer": {"asked": 3, "different": 1, "changes": {"none → ten": 1}},
        "half": {"asked": 3, "different": 0, "changes": {}},
    }, "the sums")
    equal(sums["before"], sums["after"], "the accounts")
    output, _ = simulate("--bundle", mine, "--against", other, "--events", events)
    row = r'^1 +\S+ +[0-9a-f]{8} +offer +none +- +{"discount": ?0} +→ ten +vip +{"discount": ?10}$'
    check(re.search(row, output, re.M), output)
    check("changes: none → ten 1" in output, output)
    found, sums = rows("--bundle", mine, "--against", mine, "--events", events)
    equal((found, sums["decisions"]["offer"]["different"]), ([], 0), "a bundle against itself")


def test_simulate_asks_for_consent(bench):
    mine = bundle(bench.folder, "a.yaml")
    refusal = {"consent": {"categoryPreferences": {"analytics": True, "personalization": False}}}
    events = record(bench.folder, [
        event("ada", "Order Completed", 0, context={}, revenue=200),
        event("ben", "Order Completed", 1, context=refusal, revenue=200),
        event("ben", "Order Completed", 2, context={}, revenue=200),
    ])
    only = ["--bundle", mine, "--events", events, "--decisions", "offer"]
    found, sums = rows(*only)
    equal([(row["line"], row["variant"]) for row in found], [(2, "none"), (3, "none")], "by default nothing is granted")
    equal(sums["events"]["denied"], 1, "denied")
    found, _ = rows(*only, "--grant-all")
    equal([(row["line"], row["variant"]) for row in found], [(1, "ten"), (2, "none"), (3, "none")], "with --grant-all")


def test_simulate_goes_on_after_a_bad_line(bench):
    mine = bundle(bench.folder, "a.yaml")
    events = record(bench.folder, [SHOPPING[0], '{"type": ', "7", "", "{" + " " * 600_000 + "}", SHOPPING[1]])
    output, errors = simulate("--bundle", mine, "--events", events, "--json", "--decisions", "offer", expect=1)
    found = [json.loads(line) for line in output.splitlines()]
    equal([row.get("line") for row in found], [1, 6, None], "lines that are decided")
    equal(found[-1]["badLines"], 3, "bad lines")
    said = [line.split(":")[1:3] for line in errors.splitlines()]
    equal([line[0] for line in said], ["2", "3", "5"], "lines that are named")
    check("not JSON" in errors and "must be a JSON object" in errors and "500 KiB" in errors, errors)


def test_simulate_refuses_what_it_cannot_do(bench):
    mine, events = bundle(bench.folder, "a.yaml"), record(bench.folder, SHOPPING)
    simulate(expect=2)
    simulate("--bundle", mine, expect=2)
    simulate("--bundle", mine, "--events", expect=2)
    simulate("--bundle", mine, "--events", events, "--color", "red", expect=2)
    simulate("--bundle", mine, "--events", events + ".missing", expect=3)
    alone = os.path.join(bench.folder, "alone.yaml")
    with open(alone, "w") as file:
        file.write(f"bundle: {{ shadow: {mine} }}\n")
    done = subprocess.run(binary() + ["check", alone], capture_output=True)
    equal((done.returncode, b"there is no bundle" in done.stderr), (1, True), "a shadow of nothing")
    simulate("--bundle", mine + ".missing", "--events", events, expect=3)
    _, errors = simulate("--bundle", mine, "--events", events, "--decisions", "nothing", expect=1)
    check("none of the decisions" in errors, errors)
    bad = bundle(bench.folder, "bad.yaml", limit="lots")
    for place in (events, "/dev/null"):
        _, errors = simulate("--bundle", bad, "--events", place, expect=1)
        check(f"{bad}:" in errors and "lots" in errors, errors)


def test_simulate_draws_as_the_device_does(bench):
    mine = bundle(bench.folder, "a.yaml")
    agent = bench.agent(bundle=mine)
    people = [f"person-{number}" for number in range(40)]
    agent.batch([event(person, "Product Added", 0) for person in people])
    seen = [agent.decide("half", person)["variant"] for person in people]
    events = record(bench.folder, [event(person, "Product Added", 0) for person in people])
    arguments = ["--bundle", mine, "--events", events, "--decisions", "half"]
    found, _ = rows(*arguments, "--pepper", os.path.join(agent.data, "pepper"))
    equal([row["variant"] for row in found], seen, "with the device's pepper")
    found, _ = rows(*arguments)
    check([row["variant"] for row in found] != seen, "the constant pepper draws otherwise")


def test_shadow_counts_what_would_differ(bench):
    live = bundle(bench.folder, "live.yaml")
    shadow = bundle(bench.folder, "shadow.yaml", limit="50.0", more="  seen: { type: counter }")
    node = Node(bench.folder, bundle=None, settings=f"bundle: {{ file: {live}, shadow: {shadow} }}")
    bench.nodes.append(node)
    node.start()
    node.batch([event("ada", "Order Completed", 0, revenue=60), event("ben", "Order Completed", 0, revenue=10)])

    def counts():
        metrics = node.metrics()
        name = 'gatehouse_shadow_decisions_total{decision="%s",outcome="%s"}'
        return [metrics.get(name % (key, outcome), 0) for key in ("offer", "half") for outcome in ("same", "different")]

    for person in ("ada", "ben", "ada"):
        equal(node.decide("offer", person)["variant"], "none", "the bundle in force decides")
    equal(node.call("POST", "/ofrep/v1/evaluate/flags", {"context": {"targetingKey": "ada"}}).status, 200, "all at once")
    # It is asked after the answer is out.
    wait_until(lambda: sum(counts()) == 5, 5, "the shadow has been asked")
    equal(counts(), [1, 3, 1, 0], "what the shadow says")
    equal(node.metrics()['gatehouse_shadow_changes_total{decision="offer",change="none → ten"}'], 3, "what would change")
    status = subprocess.run(binary() + ["status", "--json", "--url", f"http://127.0.0.1:{node.port}"], capture_output=True)
    seen = json.loads(status.stdout)
    equal((seen["shadow"]["offer"], seen["shadowChanges"]["offer"]),
          ({"same": 1, "different": 3}, {"none → ten": 3}), "gatehouse status")
    events, _ = node.check_accounts()
    equal(events["admitted"], 2, "nothing is written")

    # limit: Serving.shadowedBytes
    # What is too much to keep is answered and not asked again.
    node.decide("offer", "ada", note="x" * 20_000)
    node.decide("half", "ben")
    wait_until(lambda: sum(counts()) == 6, 5, "the shadow has been asked for the small one")
    equal(counts(), [1, 3, 2, 0], "what the shadow says of a large question")

    # A shadow that is wrong is none, and the bundle in force does not mind; another begins to count anew.
    bundle(bench.folder, "shadow.yaml", limit="lots")
    node.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the shadow is wrong" in node.log(), 10, "the log says that the shadow is wrong")
    equal(node.decide("offer", "ada")["variant"], "none", "the bundle in force decides")
    equal(counts(), [0, 0, 0, 0], "no shadow")
    bundle(bench.folder, "shadow.yaml", limit="100.0")
    node.process.send_signal(signal.SIGHUP)
    wait_until(lambda: node.log().count("a shadow runs") == 2, 10, "the log says that a shadow runs")
    node.decide("offer", "ada")
    wait_until(lambda: sum(counts()) == 1, 5, "the other shadow has been asked")
    equal(counts(), [1, 0, 0, 0], "one that says the same")


def test_shadow_sees_caps_as_they_were(bench):
    """A shadow that is the same bundle says the same of each question, also of those that reach a cap at this moment."""
    live = bundle(bench.folder, "live.yaml")
    with open(live) as file:
        text = file.read()
    with open(live, "w") as file:
        file.write(text.replace("default: none", "default: none\n    cap: { serves: 2, per: 24h }"))
    node = Node(bench.folder, bundle=None, settings=f"bundle: {{ file: {live}, shadow: {live} }}")
    bench.nodes.append(node)
    node.start()
    node.batch([event("ada", "Order Completed", 0, revenue=200)])
    seen = [node.decide("offer", "ada")["variant"] for _ in range(4)]
    equal(seen, ["ten", "ten", "none", "none"], "the cap")
    same = 'gatehouse_shadow_decisions_total{decision="offer",outcome="same"}'
    wait_until(lambda: node.metrics().get(same) == 4, 5, "the shadow says the same four times")
