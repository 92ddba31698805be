"""What a hub's operator asks of a device: it hears of it when it asks its hub, does it, and tells; whatever restarts meanwhile."""

import os
import struct
import time

from harness import basic, check, equal, track, wait_until
from test_delivery import arrivals, ids_of, orders
from test_hub import hub_below
from test_outbox import queued
from test_sync import FLEET, ask, device_of, of_fleet, piece, pieces, question, settings_with_tokens


def order(hub, device, command, expect=202, **options):
    answer = hub.call("POST", f"/v1/devices/{device}/{command}", **options)
    equal(answer.status, expect, f"{command} of {device} ({answer.body[:300]!r})")
    return answer.json()


def row(hub, device):
    rows = hub.call("GET", "/v1/devices").json()["devices"]
    return next((one for one in rows if one["device"] == device), None)


def commands(hub, device):
    return row(hub, device).get("commands", {})


def wait_done(hub, device, command, seconds=20):
    wait_until(lambda: commands(hub, device)[command]["doneAt"], seconds, f"{command} is not done", 0.1)
    return commands(hub, device)[command]


def known(hub, *devices):
    for device in devices:
        wait_until(lambda: row(hub, device), 20, f"the hub does not hear {device}", 0.1)


def later(hours):
    hour = time.gmtime().tm_hour
    return f"{(hour + hours) % 24:02}:00-{(hour + hours + 1) % 24:02}:00"


def agent_that_waits(bench, hub, settings):
    """A device that sends what is of tier batch in some hours only, and then after an hour's delay."""
    changes = [("    batch: {", f"    send: '{later(3)}'\n    batch: {{"), ("delay: 1s", "delay: 3600s")]
    return bench.agent_of(hub, changes, settings=of_fleet(bench, hub, settings), name="till")


def test_what_waits_for_its_hours_goes_when_the_operator_asks(bench):
    hub = bench.hub(name="centre", settings=FLEET)
    agent = agent_that_waits(bench, hub, "")
    known(hub, "till")
    equal(commands(hub, "till"), {}, "commands")
    first = [track("ada", "Product Viewed", {"product_id": str(number)}) for number in range(300)]
    agent.batch(first)
    time.sleep(1.5)
    equal((queued(agent), arrivals(hub)), (300, []), "what waits")
    said = order(hub, "till", "flush")
    equal((said["device"], said["commands"]["flush"]["doneAt"]), ("till", None), "the answer")
    equal(wait_done(hub, "till", "flush")["askedAt"], said["commands"]["flush"]["askedAt"], "when it was asked")
    equal([message["messageId"] for message in arrivals(hub)], ids_of(first), "what has come")
    # Afterwards its hours count again.
    agent.batch([track("ada", "Product Viewed", {"product_id": "x"})])
    time.sleep(2.5)
    equal((queued(agent), len(arrivals(hub))), (1, 300), "what came after it")
    check("command=flush" in agent.log(), "its log does not say it")


def test_a_command_waits_for_a_device_that_is_off_and_outlives_kills(bench):
    """The hub is killed after its answer, the device whenever: it is done in the end, and what was meant is sent once."""
    hub = bench.hub(name="centre", settings=FLEET)
    agent = agent_that_waits(bench, hub, "")
    known(hub, "till")
    views = [track("ada", "Product Viewed", {"product_id": str(number)}) for number in range(50)]
    agent.batch(views)
    agent.kill()
    order(hub, "till", "flush")
    hub.kill()
    hub.start()
    equal(commands(hub, "till")["flush"]["doneAt"], None, "done by a device that is off")
    for pause in (0.05, 0.4, 1.0):
        agent.start()
        time.sleep(pause)
        agent.kill()
    agent.start()
    wait_done(hub, "till", "flush")
    equal([message["messageId"] for message in arrivals(hub)], ids_of(views), "what has come")
    hub.check_accounts()
    agent.check_accounts()


def test_a_flush_keeps_to_the_budget_of_a_dear_link(bench):
    """And it is not done then: the operator sees that it is under way."""
    hub = bench.hub(name="centre", settings=FLEET)
    changes = [("batch: { events: 500,", "batch: { events: 10, budget: 64KiB,"), ("delay: 1s", "delay: 3600s")]
    agent = bench.agent_of(hub, changes, settings=of_fleet(bench, hub), name="till")
    known(hub, "till")
    for _ in range(4):
        agent.batch([track("ada", "Product Viewed", {"note": os.urandom(300).hex()}) for _ in range(100)])
    order(hub, "till", "flush")
    held = 'gatehouse_destination_held{destination="hub",state="held"}'
    wait_until(lambda: agent.metrics()[held] == 1, 20, "the budget is never spent")
    time.sleep(2)
    check(100 < queued(agent) < 400, f"{queued(agent)} of 400 wait")
    equal(commands(hub, "till")["flush"]["doneAt"], None, "done")


def test_a_device_gives_back_what_is_free_in_its_store_when_it_is_asked(bench):
    """At once and however little; without that it waits for ten idle minutes and 16 MiB."""
    hub = bench.hub(name="centre", settings=FLEET)
    agent = device_of(bench, hub, "till", more="limits: { history: 64KiB }\n")
    known(hub, "till")
    # What cannot leave piles up, so that it is all free when it has gone.
    hub.kill()
    for _ in range(8):
        agent.batch([track("ada", "Product Viewed", {"note": os.urandom(400).hex()}) for _ in range(400)])
    hub.start()
    wait_until(lambda: queued(agent) == 0, 30, "they do not leave")
    store = os.path.join(agent.data, "data.mdb")

    def taken():
        return os.stat(store).st_blocks * 512

    # The log goes in steps once it was delivered.
    agent.batch(orders("ada", 1))
    time.sleep(2)
    before = taken()
    check(before > 2 << 20, f"{before} bytes with a backlog of 3,200 events")
    order(hub, "till", "compact")
    wait_done(hub, "till", "compact", 30)
    check(taken() < before - (1 << 20), f"{before} bytes before, {taken()} after")
    equal(agent.profile("user_id:ada")["attributes"]["orders"], 1, "what it knows")
    agent.stop()
    agent.start()
    equal(agent.profile("user_id:ada")["attributes"]["orders"], 1, "what it knows after a start")


def test_a_device_tells_its_hub_how_it_is(bench):
    """What /readyz and /metrics say there, which the hub's operator cannot reach; and nobody's identifiers."""
    hub = bench.hub(name="centre", settings=FLEET)
    dead = [("destinations:\n", "destinations:\n  dead: { url: 'https://127.0.0.1:9/v1/batch', purpose: analytics }\n")]
    agent = bench.agent_of(hub, dead, settings=of_fleet(bench, hub), name="till")
    known(hub, "till")
    equal(hub.call("GET", "/v1/devices/till/report").status, 404, "a report that nobody has asked for")
    agent.batch(orders("ada-of-the-north", 3))
    wait_until(lambda: agent.call("GET", "/readyz").json()["problems"], 20, "nothing is wrong with a dead destination")
    order(hub, "till", "report")
    done = wait_done(hub, "till", "report")
    answer = hub.call("GET", "/v1/devices/till/report")
    found = answer.json()
    equal((found["device"], found["reportedAt"]), ("till", done["doneAt"]), "whose, and when")
    report = found["report"]
    check(report["version"], "no version")
    ready = agent.call("GET", "/readyz").json()
    equal((report["status"], report["bundle"]), (ready["status"], ready["bundle"]), "the same as there")
    equal([one["problem"] for one in report["problems"]], ["destination-down"], f"{report['problems']}")
    check(report["problems"][0]["destination"] == "dead" and report["problems"][0]["detail"], f"{report['problems']}")
    check('gatehouse_events_total{outcome="admitted"} 3' in report["metrics"].splitlines(), report["metrics"][:500])
    check(b"ada-of" not in answer.body, "it names somebody")
    # The next one takes its place.
    order(hub, "till", "report")
    wait_until(lambda: hub.call("GET", "/v1/devices/till/report").json()["reportedAt"] > found["reportedAt"], 20, "a second one")
    hub.kill()
    hub.start()
    equal(hub.call("GET", "/v1/devices/till/report").json()["report"]["status"], ready["status"], "after a kill")


def test_who_may_ask_and_what_is_no_command(bench):
    roles = (("boss", "roles: [operate]"), ("till", "roles: [collect, sync, privacy], device: till"))
    hub = bench.hub(name="centre", settings=settings_with_tokens(*roles))
    ask(hub, headers=basic("till"), device="till", epoch=7)
    boss = basic("boss")
    equal(hub.call("POST", "/v1/devices/till/flush").status, 401, "no token")
    equal(hub.call("POST", "/v1/devices/till/flush", headers=basic("till")).status, 403, "a device's token")
    equal(hub.call("GET", "/v1/devices/till/report", headers=basic("till")).status, 403, "its report")
    order(hub, "nobody", "flush", 404, headers=boss)
    for path in ("till/reboot", "till/", "till", "", "/flush", "till/flush/now", "%zz/flush", "%ff/flush", "till/FLUSH"):
        equal(hub.call("POST", f"/v1/devices/{path}", headers=boss).status, 404, path)
    equal(hub.call("GET", "/v1/devices/till/flush", headers=boss).status, 404, "GET")
    put = hub.call("PUT", "/v1/devices/till/flush", headers=boss)
    equal((put.status, put.headers.get("Allow")), (405, "POST"), "PUT")
    equal(hub.call("POST", f"/v1/devices/{'x' * 65}/flush", headers=boss).status, 404, "a long name")
    order(hub, "till", "flush", headers=boss)
    order(hub, "%74ill", "compact", headers=boss)
    found = hub.call("GET", "/v1/devices", headers=boss).json()["devices"][0]["commands"]
    equal(sorted(found), ["compact", "flush"], "commands")
    agent = bench.agent(name="till-9")
    equal(agent.call("POST", "/v1/devices/till/flush").status, 404, "a device is no hub")


def test_a_device_behind_another_hub_is_asked_there(bench):
    centre = bench.hub(name="centre", settings=FLEET)
    region = hub_below(bench, centre, "region", settings=of_fleet(bench, centre, FLEET))
    agent = device_of(bench, region, "till")
    agent.batch(orders("ada", 1))
    wait_until(lambda: row(centre, "till"), 20, "the centre does not hear of it")
    said = order(centre, "till", "flush", 409)
    check("via" in said["message"], f"{said}")
    # A hub is a device of the one above.
    known(centre, "region")
    for command in ("flush", "compact", "report"):
        order(centre, "region", command)
        wait_done(centre, "region", command)
    report = centre.call("GET", "/v1/devices/region/report").json()["report"]
    check("gatehouse_devices 1" in report["metrics"], "the report of a hub")


def pieces_of(hub, device, done=()):
    """Commands in the answer to a device that says what it has done."""
    text = question(device=device, epoch=5) + b"".join(piece(5, content) for content in done)
    answer = hub.call("POST", "/v1/sync", text)
    equal(answer.status, 200, f"{answer.body[:200]!r}")
    return [struct.unpack(">BQ", content) for kind, content in pieces(answer.body) if kind == 4]


# limit: Agent.reportBytes
def test_what_a_device_says_of_commands_is_not_taken_on_trust(bench):
    """What was not asked, at another time, no JSON, or too much: it stays as it was, and the hub goes on."""
    hub = bench.hub(name="centre", settings=FLEET)
    equal(pieces_of(hub, "till"), [], "commands of nobody")
    for command in ("flush", "report"):
        order(hub, "till", command)
    asked = pieces_of(hub, "till")
    equal([command for command, _ in asked], [0, 2], "commands")
    (_, flush), (_, report) = asked
    wrong = [b"", b"\0", struct.pack(">BQ", 0, flush + 1), struct.pack(">BQ", 0, 0), struct.pack(">BQ", 1, flush),
             struct.pack(">BQ", 9, flush), struct.pack(">BQ", 255, 2**64 - 1)]
    for content in wrong:
        equal(pieces_of(hub, "till", [content]), asked, f"after {content!r}")
    equal(pieces_of(hub, "till", [struct.pack(">BQ", 0, flush)]), asked[1:], "the flush is done")
    before = commands(hub, "till")["flush"]
    pieces_of(hub, "till", [struct.pack(">BQ", 0, flush)])
    equal(commands(hub, "till")["flush"], before, "told twice")
    # A report that is none is the end of the matter, and is not kept.
    pieces_of(hub, "till", [struct.pack(">BQ", 2, report) + b'{"half":'])
    check(commands(hub, "till")["report"]["doneAt"], "it would be asked for ever")
    equal(hub.call("GET", "/v1/devices/till/report").status, 404, "half a report")
    for text in (b"", b"nothing", b'{"a":1}{"b":2}', b'"' + bytes([0xFF]) + b'"', b"[" * 60 + b"]" * 60,
                 b'"' + b"x" * (96 << 10) + b'"'):
        order(hub, "till", "report")
        (_, time_), = pieces_of(hub, "till")
        pieces_of(hub, "till", [struct.pack(">BQ", 2, time_) + text])
        check(commands(hub, "till")["report"]["doneAt"], f"it would be asked for ever after {text[:20]}")
        equal(hub.call("GET", "/v1/devices/till/report").status, 404, f"{text[:20]}")
    # Thousands of them at once are no more work than three.
    order(hub, "till", "report")
    (_, last), = pieces_of(hub, "till")
    pieces_of(hub, "till", [struct.pack(">BQ", 2, last + 1)] * 3 + [struct.pack(">BQ", 2, last) + b"{}"])
    equal(commands(hub, "till")["report"]["doneAt"], None, "the fourth")
    pieces_of(hub, "till", [struct.pack(">BQ", 2, last)])
    order(hub, "till", "report")
    (_, again), = pieces_of(hub, "till")
    check(again > report, f"{again} after {report}")
    pieces_of(hub, "till", [struct.pack(">BQ", 2, again) + b'{"whole":[1]}'])
    equal(hub.call("GET", "/v1/devices/till/report").json()["report"], {"whole": [1]}, "a whole one")
