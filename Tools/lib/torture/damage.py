"""Files of a device that were damaged while it was off: a bit is another one, or the end is missing. Whoever starts on them
finds that, or it has no effect: no answer is wrong.

What may be missing where damage was found: a record that was set aside, or what came after the snapshot that took the
store's place. What may never be: a number that is another, consent that was refused, a person who was erased. LMDB trusts
its pages; an end by a fault in one of them counts as finding it if the next start mends the store.
"""

import collections
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import traceback

from agent import DEFAULT_BINARY, accounts
from device import CONSENT, Broken, Device, chance_of, check, event

USERS = [f"person-{number}" for number in range(24)]
REVOKED, ERASED = USERS[18:21], USERS[21:]
SENT = ("Order Completed", "Product Viewed")
DECISIONS = ("checkout_offer", "layout")


class Answers:
    """What a device says about everybody, as far as it does not depend on the time."""

    def __init__(self, device):
        connection = device.connection(timeout=5)
        try:
            self.profiles, self.exports, self.decisions = {}, {}, {}
            for user in USERS:
                status, _, answer = connection.ask_json("GET", f"/v1/profiles/user_id:{user}")
                self.profiles[user] = (status, answer)
                status, _, content = connection.ask("GET", f"/v1/profiles/user_id:{user}/export")
                try:
                    self.exports[user] = (status, json.loads(content))
                except ValueError as problem:
                    where = around(content, problem)
                    raise Broken(f"{status} for an export that is no JSON: {problem} in {where!r}") from problem
                for key in DECISIONS:
                    status, _, answer = connection.ask_json(
                        "POST", f"/ofrep/v1/evaluate/flags/{key}", {"context": {"targetingKey": user, "width": 2000}})
                    self.decisions[user, key] = (status, answer.get("variant") if answer else None)
        finally:
            connection.close()
        self.look(device)

    def look(self, device):
        """What an operator sees."""
        self.readiness = device.ask("GET", "/readyz")[2]
        self.metrics = device.metrics()
        self.has_words = has_words(device)

    def wait_for_rows(self, device):
        """Who is missing is missed by nobody who looks for them; the agent looks at all rows within seconds of its start."""
        end = time.monotonic() + 20
        while "gatehouse_store_checked_age_seconds" not in self.metrics:
            check(time.monotonic() < end, f"nobody looks at the rows; {device.log_tail()}")
            time.sleep(0.1)
            self.look(device)

    def whole(self):
        """What must be equal where nothing was damaged."""
        return {"profiles": self.profiles, "exports": {user: settled(answer) for user, answer in self.exports.items()},
                "decisions": self.decisions}

    def has_told(self):
        """Whether damage was noticed, by what an operator sees."""
        return (self.has_words or "storeRebuiltAt" in self.readiness
                or self.metrics.get("gatehouse_bad_records_total", 0) > 0
                or "records" in json.dumps(self.readiness.get("problems", [])))


def around(content, problem):
    """The bytes of a body where JSON stumbles."""
    place = len(content.decode(errors="replace")[:getattr(problem, "pos", getattr(problem, "start", 0))].encode())
    return content[max(0, place - 100):place + 40]


def settled(answer):
    """An export without what this tool's own questions have added to it: lines of the audit log, and decisions."""
    status, content = answer
    if status != 200:
        return status, None
    return status, {
        "record": content["record"], "quarantined": content["quarantined"], "pending": content["pending"],
        "events": [entry for entry in content["events"] if entry["event"].get("event") in SENT
                   or entry["event"].get("type") == "identify"]}


def make(folder):
    """A device with profiles, consent, a log, quarantine and a snapshot, off again. Returns (it, what it answers)."""
    device = Device(folder, name="d", settings={"snapshots": {"every": "1s", "keep": 1}})
    device.start()
    for turn in range(4):
        for user in USERS:
            batch = [event(user, f"{user}-{turn}-{number}") for number in range(4)]
            batch += [{"type": "track", "event": "Product Viewed", "userId": user, "messageId": f"{user}-{turn}-view",
                       "properties": {"product_id": f"p{turn}", "category": "books"}, "context": CONSENT},
                      {"type": "identify", "userId": user, "messageId": f"{user}-{turn}-who", "context": CONSENT,
                       "traits": {"email": f"{user}@example.com"}}]
            status, _, answer = device.ask("POST", "/v1/batch", {"batch": batch})
            check(status == 200, f"{status} for a batch: {answer}")
    device.ask("POST", "/v1/track", {**event("person-0", "bad"), "properties": {"order_id": "bad", "revenue": -1}})
    for user in REVOKED:
        refusal = {"personalization": False, "analytics": False}
        status, _, _ = device.ask("PUT", f"/v1/profiles/user_id:{user}/consent", refusal)
        check(status == 200, f"{status} for a refusal")
    for user in ERASED:
        check(device.ask("DELETE", f"/v1/profiles/user_id:{user}")[0] in (200, 202), "erasing")
    check(device.agent.stop() == 0, "it did not end well")
    # Its snapshot comes from after the last change (erasures remove those from before, and the next is ten minutes off): a
    # backup is the same file.
    words = [DEFAULT_BINARY, "store", "backup", device.data / "snapshot-1.mdb", "--config", device.agent.config_file]
    done = subprocess.run(words, capture_output=True, text=True)
    check(done.returncode == 0, f"there is no backup: {done.stderr}")
    device.start()
    answers = Answers(device)
    check(answers.profiles["person-1"][1]["attributes"]["orders"] == 16, f"{answers.profiles['person-1']}")
    check(all(answers.profiles[user][0] == 404 for user in ERASED), "somebody who was erased is there")
    check(device.agent.stop() == 0, "it did not end well")
    return device, answers


def judge(before, after):
    """What is wrong with answers after damage: None, "missing" (and told) or raises."""
    if after.whole() == before.whole():
        return "no effect"
    told = after.has_told()
    for user in USERS:
        was, now = before.profiles[user], after.profiles[user]
        if user in ERASED:
            check(now[0] == 404 or (now[1] or {}).get("attributes") is None, f"{user} was erased, and is back: {now}")
            continue
        if now == was:
            continue
        # 500 says that the store cannot answer: the agent ends, and its next start mends that.
        check(now[0] in (200, 404, 500, 503), f"{user} is answered {now}")
        if now[0] != 200:
            continue
        for purpose, is_granted in now[1]["consent"].items():
            check(not is_granted or was[1]["consent"][purpose], f"{user} has refused {purpose}, and it is granted: {now}")
        for name, value in (now[1].get("attributes") or {}).items():
            old = was[1]["attributes"].get(name)
            check(value == old or told and not value, f"{user}: {name} was {old} and is {value} (told: {told})")
        # Where the store was replaced, somebody whose event is set aside is there anew, with nothing but that.
        is_new = told and now[1].get("attributes") is None and not any(now[1]["consent"].values())
        check(now[1]["id"] == was[1]["id"] or is_new, f"{user} is another person: {now}")
        for name in ("identifiers", "links", "audiences"):
            check_less(f"{user}: {name}", now[1].get(name), was[1].get(name))
    for user in USERS[:-len(ERASED)]:
        was, now = settled(before.exports[user])[1], settled(after.exports[user])[1]
        if now is None or was == now:
            continue
        if now["record"]["id"] != was["record"]["id"]:
            continue
        choices = now["record"].get("choices") or []
        if told:
            # Where it cannot be read who has refused since the snapshot, nobody has granted anything.
            granted = [choice["purpose"] for choice in was["record"].get("choices") or [] if choice["state"] == "granted"]
            choices = [choice for choice in choices if choice["state"] != "revoked" or choice["purpose"] not in granted]
        check_less(f"{user}: choices", choices, was["record"].get("choices"))
        for name in ("events", "quarantined", "pending"):
            check_less(f"{user}: {name} of the export", now[name], was[name])
    for (user, key), (status, variant) in after.decisions.items():
        was = before.decisions[user, key]
        default = {"checkout_offer": "none", "layout": was[1]}[key]
        check(status == 200 and variant in (was[1], default), f"{key} for {user} was {was}, and is {status} {variant}")
    check(told, "something is missing, and nobody is told: " + difference(before.whole(), after.whole()))
    return "found"


def check_less(what, now, was):
    """Nothing is there that was not there before. Something may be missing."""
    if isinstance(now, list):
        strange = [entry for entry in now if entry not in (was or [])]
        check(not strange, f"{what} has {strange[0] if strange else ''}, which was not there")
    else:
        check(not now or now == was, f"{what} is {now} and was {was}")


def difference(a, b, path=""):
    """The first place where two values differ, in words."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in {**a, **b}:
            if a.get(key) != b.get(key):
                return difference(a.get(key), b.get(key), f"{path}/{key}")
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        for index, (x, y) in enumerate(zip(a, b)):
            if x != y:
                return difference(x, y, f"{path}/{index}")
    if isinstance(a, list) and isinstance(b, list):
        return f"{path}: {len(a)} and {len(b)}"
    return f"{path}: {str(a)[:100]} and {str(b)[:100]}"


def flip(chance, data):
    """Another bit, mostly in the store; returns words."""
    name = chance.choices(["data.mdb", "bundle.yaml", "pepper"], [94, 3, 3])[0]
    path = data / name
    content = bytearray(path.read_bytes())
    if name == "data.mdb":
        # Pages with something in them: of the rest nothing is read.
        pages = [page for page in range(0, len(content), 4096) if any(content[page:page + 4096])]
        place = chance.choice(pages) + (chance.randrange(24) if chance.random() < 0.1 else chance.randrange(4096))
        while not content[place] and chance.random() < 0.9:
            place = chance.choice(pages) + chance.randrange(4096)
    else:
        place = chance.randrange(len(content))
    bit = chance.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"bit {bit} of byte {place} of {name}"


def snapshot(chance, data):
    """A store without its first pages, and another bit in the snapshot that would take its place; returns words."""
    with open(data / "data.mdb", "r+b") as file:
        file.write(bytes(8192))
    path = data / "snapshot-1.mdb"
    content = bytearray(path.read_bytes())
    place, bit = chance.randrange(len(content)), chance.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(content)
    return f"no first pages, and bit {bit} of byte {place} of {path.name}"


def truncation(chance, data):
    """A shorter store; returns words."""
    path = data / "data.mdb"
    size = path.stat().st_size
    length = chance.randrange(size)
    if chance.random() < 0.5:
        length -= length % 4096
    os.truncate(path, length)
    return f"data.mdb cut from {size} to {length} bytes"


def many(how, seed, lane, rounds):
    """Damages copies of one device's files again and again. Returns what was counted."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gatehouse-damage-"))
    seen, problems = collections.Counter(), []
    device = None
    try:
        device, before = make(folder)
        saved = folder / "saved"
        shutil.copytree(device.data, saved)
        for turn in range(rounds):
            chance = chance_of(seed, how.__name__, lane, turn)
            shutil.rmtree(device.data)
            shutil.copytree(saved, device.data)
            device.agent.log_file.write_text("")
            words = how(chance, device.data)
            try:
                seen[one(device, before)] += 1
            except Exception as problem:  # whatever it is: the next damage is tried as well
                if not isinstance(problem, Broken):
                    traceback.print_exc()
                problems.append(f"{words} (seed {seed}, {how.__name__} {lane}.{turn}): {problem}")
            finally:
                device.agent.kill()
        check(not problems, f"{len(problems)} of {rounds}, counted {dict(seen)}:\n        "
              + "\n        ".join(problem[:700] for problem in problems[:30]))
        return seen
    finally:
        if device:
            device.agent.kill()
        shutil.rmtree(folder, ignore_errors=True)


def one(device, before):
    """Starts on damaged files and asks for everything; returns what it came to."""
    ended = faults = 0
    for _ in range(4):
        try:
            device.start(timeout=10)
            device.settle()
            after = Answers(device)
            if after.whole() != before.whole() and not after.has_told():
                after.wait_for_rows(device)
            break
        except (OSError, RuntimeError, Broken) as problem:
            try:
                status = device.agent.process.wait(1 if isinstance(problem, Broken) else 5)
            except subprocess.TimeoutExpired:
                raise Broken(f"{problem}; {device.log_tail()}") from problem
            if status < 0:
                # LMDB trusts its pages. Then there is word for the next start, which looks at all of them.
                check(status in (-7, -11) and (device.data / "crashed").exists(),
                      f"it crashed with signal {-status} after {problem!r}; {device.log_tail()}")
                faults += 1
                continue
            check(status in (1, 3) and has_words(device),
                  f"it ended with {status} and did not say why: {device.log_tail()}")
            if status == 1:
                return "refused to start with words"
            ended += 1
    else:
        raise Broken(f"it ends again and again: {device.log_tail()}")
    result = judge(before, after)
    if "received" in accounts(after.metrics)[0]:
        device.check_accounts()
    else:
        check(has_words(device), "there are no accounts, and nobody is told")
        result = "found"
    check(device.agent.stop() in (0, 3), f"it ended with {device.agent.process.returncode}; {device.log_tail()}")
    if faults:
        return "found by a fault, mended by the next start"
    return "found after an end with words" if ended else result


def has_words(device):
    """Whether the log tells of something that an operator should see."""
    text = device.agent.log_file.read_text(errors="replace")
    return "level=error" in text or "gatehouse: " in text


def lanes(count, jobs):
    """Splits a number of tries: (lane, how many)."""
    return [(lane, len(range(lane, count, jobs * 2))) for lane in range(jobs * 2) if range(lane, count, jobs * 2)]
