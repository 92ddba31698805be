"""A store that is copied, put back, damaged and mended, with the real binary: promises P1, P4, P7, P8 and P9 hold through all
of it. GATEHOUSE_KILLS=200 kills as often in each of the loops (6 without)."""

import http.client
import os
import random
import shutil
import signal
import struct
import subprocess
import time

from harness import Failure, Skip, binary, check, equal, track, wait_until

KILLS = int(os.environ.get("GATEHOUSE_KILLS", "6"))
OFTEN = "snapshots: { every: 1s, keep: 2 }"
PAGE = 4096


def gatehouse(*arguments, code=0):
    done = subprocess.run([*binary(), *arguments], capture_output=True, text=True, timeout=60)
    equal(done.returncode, code, f"exit code of {arguments}: {done.stdout}{done.stderr}")
    return done


def file_of(agent, name="data.mdb"):
    return os.path.join(agent.data, name)


def orders(agent, user, count, **properties):
    agent.batch([track(user, "Order Completed", {"order_id": f"{user}-{number}", "revenue": 5, **properties})
                 for number in range(count)])


def counted(agent, user):
    return agent.profile(f"user_id:{user}")["attributes"]["orders"]


def snapshot(agent):
    """Waits for a snapshot that has all that was taken before."""
    now = time.time()
    path = file_of(agent, "snapshot-1.mdb")
    # What is written before its time is in it.
    wait_until(lambda: os.path.exists(path) and os.stat(path).st_mtime > now + 0.1, 20, f"no snapshot; {agent.log()}", 0.02)


def files_with(folder, *needles):
    found = []
    for path, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(path, name), "rb") as file:
                data = file.read()
            found += [name for needle in needles if needle in data]
    return found


def readiness(agent):
    """What /readyz says; nothing while one makes way for the other."""
    try:
        return agent.call("GET", "/readyz").json()
    except (OSError, http.client.HTTPException):
        return {"store": "mending"}


def wait_for_use(agent):
    """Until what stood in has made way, which for a moment listens beside what takes its place."""
    wait_until(
        lambda: readiness(agent).get("store") != "mending" and not os.path.exists(file_of(agent, "stand-in")), 20,
        f"it is mended for ever; {agent.log()}", 0.02)


def start_mended(agent):
    """Starts an agent whose store needs mending, and waits until that is done."""
    agent.start()

    wait_for_use(agent)
    check("storeRebuiltAt" in readiness(agent), f"the store was not mended; {agent.log()}")


def cut(path, agent):
    os.truncate(path, os.path.getsize(path) // PAGE // 2 * PAGE)


def without_beginning(path, agent):
    with open(path, "r+b") as file:
        file.write(bytes(2 * PAGE))


def page_of(needle):
    """Damages every page that holds some bytes: of what a person's id leads to, not of the rest."""

    def damage(path, agent):
        with open(path, "r+b") as file:
            data = file.read()
            place = data.find(needle)
            check(place > 0, "the test looks for what is not there")
            while place > 0:
                file.seek(place // PAGE * PAGE + 10)
                file.write(b"\0\0")
                place = data.find(needle, (place // PAGE + 1) * PAGE)

    return damage


# --- Backup and restore --------------------------------------------------------------------------------------------


def test_a_backup_under_load_is_one_moment_of_the_store_and_goes_on_elsewhere(bench):
    agent = bench.agent(name="one")
    for turn in range(10):
        orders(agent, f"user-{turn}", 100)
    backup = os.path.join(bench.folder, "one.backup")
    command = subprocess.Popen(
        [*binary(), "store", "backup", backup, "--config", agent.config], stdout=subprocess.PIPE, text=True)
    # One event at a time: whatever moment it was, all of a person's events up to one are in it.
    sent = 0
    while command.poll() is None or sent < 20:
        sent += 1
        equal(agent.call("POST", "/v1/track", track("busy", "Order Completed", {"order_id": f"b{sent}", "revenue": 1})).status,
              200, "an event during a backup")
    equal(command.returncode, 0, "the backup")
    command.stdout.close()
    equal(os.stat(backup).st_mode & 0o777, 0o600, "who may read it")
    check(os.listdir(bench.folder).count("one.backup.new") == 0, "something is left")
    check("whole" in gatehouse("store", "check", backup).stdout, "the backup is not whole")
    check("whole" in gatehouse("store", "check", "--config", agent.config).stdout, "the running store is not whole")
    check("there already" in gatehouse("store", "backup", backup, "--config", agent.config, code=1).stderr, "overwritten")
    folder = os.path.join(bench.folder, "backups")
    os.mkdir(folder)
    gatehouse("store", "backup", folder, "--config", agent.config)
    equal(len(os.listdir(folder)), 1, "a backup in a folder")
    check("using" in gatehouse("store", "restore", backup, "--config", agent.config, code=3).stderr, "restored under an agent")
    # Another device, with the same secret.
    other = bench.agent(name="two")
    other.stop()
    shutil.rmtree(other.data)
    os.mkdir(other.data)
    shutil.copy(file_of(agent, "pepper"), file_of(other, "pepper"))
    gatehouse("store", "restore", backup, "--config", other.config)
    start_mended(other)
    for turn in range(10):
        mine, theirs = agent.profile(f"user_id:user-{turn}"), other.profile(f"user_id:user-{turn}")
        equal(theirs, mine, "a profile")
    seen = other.profile("user_id:busy", expect=200)["attributes"]["orders"] if other.call(
        "GET", "/v1/profiles/user_id:busy").status == 200 else 0
    check(seen <= sent, f"{seen} of {sent}")
    events, _ = other.check_accounts()
    equal(events["admitted"], 1000 + seen, "events that are in the backup")
    equal(other.decide("checkout_offer", "user-1")["variant"], agent.decide("checkout_offer", "user-1")["variant"], "decision")


def test_what_is_no_whole_backup_is_not_restored(bench):
    agent = bench.agent()
    orders(agent, "ada", 3)
    backup = os.path.join(bench.folder, "backup")
    gatehouse("store", "backup", backup, "--config", agent.config)
    agent.stop()
    with open(backup, "rb") as file:
        whole = file.read()
    wrong = os.path.join(bench.folder, "wrong")
    for bytes_ in (whole[:-1], whole[: len(whole) // 2], whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:], b"", b"no"):
        with open(wrong, "wb") as file:
            file.write(bytes_)
        check("damaged" in gatehouse("store", "restore", wrong, "--config", agent.config, code=1).stderr, "what is wrong")
    gatehouse("store", "restore", os.path.join(bench.folder, "nowhere"), "--config", agent.config, code=1)
    check(not os.path.exists(file_of(agent, "aside.mdb")), "the store was set aside")
    agent.start()
    equal(counted(agent, "ada"), 3, "orders")


# --- Damage --------------------------------------------------------------------------------------------------------


def rebuild(bench, damage, lost):
    hub = bench.hub()
    agent = bench.agent_of(hub, settings=OFTEN)
    orders(agent, "ada", 100)
    snapshot(agent)
    orders(agent, "ada", 20)
    orders(agent, "ben", 30)
    queue = lambda: agent.accounts()[1]["hub"]["queued"]
    wait_until(lambda: queue() == 0, 20, "events are queued")
    identifier = bytes.fromhex(agent.profile("user_id:ada")["id"])
    agent.kill()
    (damage or page_of(identifier))(file_of(agent), agent)
    equal(gatehouse("store", "check", "--config", agent.config, code=1).stdout, "", "a damaged store")
    check(os.path.exists(file_of(agent, "snapshot-1.mdb")), "no snapshot")
    start_mended(agent)
    check(os.path.exists(file_of(agent, "former.mdb")), "the damaged store is gone")
    check(not os.path.exists(file_of(agent, "aside.mdb")), "the damaged store is for ever to be taken over")
    equal(counted(agent, "ada"), 100, "orders at the snapshot")
    metrics = agent.metrics()
    equal(metrics["gatehouse_store_rebuilds_total"], 1, "rebuilds")
    equal((metrics["gatehouse_store_lost_events_total"], metrics["gatehouse_store_losses_unknown_total"]),
          (lost or 0, 1 if lost is None else 0), f"what was lost; {agent.log()}")
    # The same device, and no number names two events.
    orders(agent, "cy", 40)
    wait_until(lambda: queue() == 0, 20, "events are queued")
    agent.check_accounts()
    hub.check_accounts()
    messages = hub.call("GET", "/v1/arrivals?limit=10000").json()["arrivals"]
    numbers = {}
    for message in messages:
        origin = message["context"]["gatehouse"]
        numbers.setdefault((origin["device"], origin["epoch"], origin["seq"]), set()).add(message["messageId"])
    equal([number for number, names in numbers.items() if len(names) > 1], [], "numbers that name two events")
    equal(len({message["messageId"] for message in messages}), 190, "different events at the hub")
    equal(len({number[1] for number in numbers}), 2, "epochs")
    # A restart changes nothing of it.
    agent.kill()
    agent.start()
    equal(agent.metrics()["gatehouse_store_rebuilds_total"], 1, "rebuilds after a restart")
    equal(counted(agent, "cy"), 40, "orders")
    return agent


def test_p7_a_store_with_a_damaged_page_is_rebuilt_and_what_was_lost_is_told(bench):
    rebuild(bench, None, 50)


def test_p7_a_store_that_was_cut_short_is_rebuilt(bench):
    rebuild(bench, without_beginning, None)


def test_a_store_without_any_snapshot_begins_anew_under_the_same_name(bench):
    agent = bench.agent()
    orders(agent, "ada", 3)
    equal(agent.call("PUT", "/v1/profiles/user_id:ada/consent", {"analytics": False}).status, 200, "refusing")
    identifier = bytes.fromhex(agent.profile("user_id:ada")["id"])
    agent.stop()
    page_of(identifier)(file_of(agent), agent)
    start_mended(agent)
    equal(agent.profile("user_id:ada")["attributes"], None, "what is known of her")
    # What she has refused is known all the same.
    orders(agent, "ada", 2)
    orders(agent, "ben", 2)
    events, _ = agent.check_accounts()
    equal((events["admitted"], events["denied"]), (2, 2), f"{events}")
    equal(agent.metrics()["gatehouse_store_lost_events_total"], 3, "lost events")


def test_a_damaged_snapshot_is_passed_over(bench):
    agent = bench.agent(settings=OFTEN)
    orders(agent, "ada", 3)
    snapshot(agent)
    snapshot(agent)
    agent.kill()
    check(os.path.exists(file_of(agent, "snapshot-2.mdb")), "one snapshot only")
    equal(os.path.exists(file_of(agent, "snapshot-3.mdb")), False, "three snapshots")
    with open(file_of(agent, "snapshot-1.mdb"), "r+b") as file:
        file.seek(9000)
        file.write(b"damaged")
    cut(file_of(agent), agent)
    start_mended(agent)
    equal(counted(agent, "ada"), 3, "orders")
    check("a snapshot is damaged as well" in agent.log(), agent.log())


def put_secret(path, secret):
    with open(path, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(secret)


def test_another_pepper_is_told_and_the_store_stays_as_it_is(bench):
    """A secret that is lost, or another one by a flipped bit, is no damage of the store's: it is not set aside for that."""
    agent = bench.agent()
    orders(agent, "ada", 3)
    agent.stop()
    path = file_of(agent, "pepper")
    with open(path, "rb") as file:
        right = file.read()
    for wrong, words in [(bytes([right[0] ^ 1]) + right[1:], "this is not the secret"), (None, "there is no such file")]:
        os.remove(path)
        if wrong:
            put_secret(path, wrong)
        for _ in range(2):
            check(f"{path}: {words}" in gatehouse("run", "--config", agent.config, code=1).stderr, "what the start says")
        check(words in gatehouse("doctor", "--config", agent.config, code=1).stdout, "what the doctor says")
        equal(os.path.exists(path), wrong is not None, "whether there is a pepper")
        equal(os.path.exists(file_of(agent, "aside.mdb")), False, "set aside")
    put_secret(path, right)
    agent.start()
    equal(counted(agent, "ada"), 3, "orders")
    agent.check_accounts()


def test_another_pepper_is_told_after_a_rotation_too(bench):
    """What a rotation has put in its place is known as well: the pepper of before it, or a flipped bit in the new one."""
    agent = bench.agent(settings="pepper_rotation: 1h")
    orders(agent, "ada", 3)
    path, secrets = file_of(agent, "pepper"), []

    def is_told(*wrong, count=4):
        agent.stop()
        with open(path, "rb") as file:
            right = file.read()
        for secret in wrong:
            put_secret(path, secret)
            check("this is not the secret" in gatehouse("run", "--config", agent.config, code=1).stderr, "what the start says")
        put_secret(path, right)
        agent.start()
        equal(counted(agent, "ada"), count, "orders")
        return right

    secrets.append(is_told(count=3))
    gatehouse("pepper", "rotate", "--config", agent.config)
    secrets.append(is_told(count=3))
    # Whoever is not seen while it lasts is forgotten.
    orders(agent, "ada", 1)
    equal(len(secrets[1]), 96, "bytes of the pepper while it lasts")
    is_told(secrets[0], bytes([secrets[1][0] ^ 1]) + secrets[1][1:], secrets[1][:32] + bytes(32) + secrets[1][64:])
    agent.stop()
    gatehouse("pepper", "forget", "--yes", "--config", agent.config)
    agent.start()
    wait_until(lambda: os.path.getsize(path) == 64, 30, "the former pepper is not deleted")
    secrets.append(is_told())
    is_told(secrets[0], bytes([secrets[2][0] ^ 1]) + secrets[2][1:], secrets[2][:32])


def test_damage_within_a_record_is_told_and_leaves_the_rest_readable(bench):
    agent = bench.agent()
    orders(agent, "ada", 5)
    agent.stop()
    with open(file_of(agent), "r+b") as file:
        data = file.read()
        changes = {b'"order_id":"ada-3"': b'"order_id":"ada-7"', b'"action":"consent",': b'"action":"consent#,'}
        for whole, damaged in changes.items():
            check(whole in data, f"the test looks for what is not there: {whole}")
            data = data.replace(whole, damaged)
        file.seek(0)
        file.write(data)
    agent.start()
    export = agent.call("GET", "/v1/profiles/user_id:ada/export").json()
    seen = [entry["event"]["properties"]["order_id"] for entry in export["events"]]
    equal(seen, ["ada-0", "ada-1", "ada-2", "ada-4"], "events of an export")
    check(agent.metrics()["gatehouse_bad_records_total"] >= 1, "nobody is told of the event that is missing")
    lines = agent.call("GET", "/v1/audit").json()["lines"]
    check({"action": "altered"} in lines and any(line["action"] == "export" for line in lines), f"the audit log: {lines}")


def test_a_key_that_a_disk_has_changed_is_told(bench):
    """Nobody finds what was under it: only whoever looks at all rows can know."""
    agent = bench.agent()
    orders(agent, "ada", 5)
    orders(agent, "ben", 3)
    wait_until(lambda: "gatehouse_store_checked_age_seconds" in agent.metrics(), 20, "nobody looks at the rows")
    equal(agent.metrics()["gatehouse_bad_records_total"], 0, "bad records")
    check("whole" in gatehouse("store", "check", "--config", agent.config).stdout, "a whole store is not whole")
    key = bytes.fromhex(agent.profile("user_id:ada")["identifiers"][0]["hmac"])
    agent.stop()
    with open(file_of(agent), "r+b") as file:
        data = file.read()
        # Wherever it is a key of its own, behind its length and the kind's tag: an earlier page may have it as well.
        for place in range(6, len(data)):
            if data.startswith(key, place) and data[place - 6:place - 4] == b"\x24\0":
                file.seek(place + 31)
                file.write(bytes([key[31] ^ 1]))
    agent.start()
    equal(agent.call("GET", "/v1/profiles/user_id:ada").status, 404, "the person under the key that was")
    wait_until(lambda: "gatehouse_store_checked_age_seconds" in agent.metrics(), 20, "nobody looks at the rows")
    check(agent.metrics()["gatehouse_bad_records_total"] >= 1, "nobody is told")
    check("rows of the store are damaged" in agent.log(), agent.log())
    equal(counted(agent, "ben"), 3, "what somebody else has bought")
    done = gatehouse("store", "check", "--config", agent.config, code=1)
    check("a row fails its checksum" in done.stdout + done.stderr, done.stdout + done.stderr)


def test_decisions_are_answered_while_a_store_is_mended_and_events_are_to_come_again(bench):
    agent = bench.agent(settings=OFTEN)
    text = "x" * 9000
    for turn in range(25):
        orders(agent, f"user-{turn}", 45, notes=text)
    snapshot(agent)
    agent.kill()
    without_beginning(file_of(agent), agent)
    agent.start(wait=False)
    decisions = refused = taken = 0
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            state = agent.call("GET", "/readyz")
            if state.json().get("store") != "mending":
                break
            equal((state.status, state.json()["status"]), (503, "degraded"), "readiness")
            answer = agent.decide("checkout_offer", "user-1")
            if agent.call("GET", "/readyz").json().get("store") != "mending":
                break
            equal(answer["variant"], "none", "the decision about somebody of whom nothing is known")
            decisions += 1
            answer = agent.call("POST", "/v1/track", track("user-1", "Order Completed", {"order_id": "new", "revenue": 1}))
            if answer.status == 200:
                taken += 1
            else:
                equal((answer.status, answer.headers.get("Retry-After")), (503, "5"), "an event meanwhile")
                refused += 1
        except (OSError, http.client.HTTPException):
            # Before it listens, and when the one that stands in makes way.
            time.sleep(0.002)
    check(decisions > 0 and refused > 0, f"{decisions} decisions and {refused} refusals were seen; {agent.log()}")
    wait_for_use(agent)
    equal(counted(agent, "user-1"), 45 + taken, "orders")
    check(not os.path.exists(file_of(agent, "stand-in")), "the stand-in has left something")


def test_a_file_that_is_cut_under_the_agent_ends_it_and_the_next_start_mends_it(bench):
    agent = bench.agent(settings=OFTEN)
    orders(agent, "ada", 50)
    snapshot(agent)
    os.truncate(file_of(agent), 2 * PAGE)
    try:
        for _ in range(100):
            orders(agent, "ben", 50)
            agent.profile("user_id:ada")
    except (OSError, http.client.HTTPException, Failure):
        pass
    wait_until(lambda: agent.process.poll() is not None, 20, f"it does not end; {agent.log()}")
    check(os.path.exists(file_of(agent, "crashed")) or agent.process.returncode >= 0, f"ended by {agent.process.returncode}")
    start_mended(agent)
    equal(counted(agent, "ada"), 50, "orders")
    check(not os.path.exists(file_of(agent, "crashed")), "it is looked at again and again")


def test_a_page_on_which_nothing_is_where_it_says_ends_no_agent_by_a_fault(bench):
    """Places that lie outside their page, in all pages of the trees, while decisions are asked: they are answered as about
    nobody, or not; the agent ends in good order, and its next start mends the store."""
    agent = bench.agent(settings=OFTEN)
    for number in range(20):
        orders(agent, f"ada-{number}", 40)
    snapshot(agent)
    with open(file_of(agent), "r+b") as file:
        data = file.read()
        for page in range(2, len(data) // PAGE):
            _, _, flags, lower, _ = struct.unpack_from("<QHHHH", data, page * PAGE)
            # Branches and leaves.
            if flags & 0x1F in (1, 2) and 16 < lower < PAGE:
                # Just before the page's end, and far behind it.
                places = [(4090, 4095, 65535)[index % 3] for index in range((lower - 16) // 2)]
                file.seek(page * PAGE + 16)
                file.write(struct.pack(f"<{len(places)}H", *places))
    try:
        for number in range(200):
            agent.call("POST", "/ofrep/v1/evaluate/flags/checkout_offer", {"context": {"targetingKey": f"ada-{number % 20}"}})
            agent.call("GET", f"/v1/profiles/user_id:ada-{number % 20}/export")
            if number > 50:
                time.sleep(0.02)
    except (OSError, http.client.HTTPException):
        pass
    wait_until(lambda: agent.process.poll() is not None, 20, f"it goes on; {agent.log()}")
    check(agent.process.returncode > 0, f"ended by {agent.process.returncode}; {agent.log()}")
    start_mended(agent)
    equal(counted(agent, "ada-7"), 40, "orders")


def test_after_a_fault_the_whole_store_is_looked_at_once_and_kept_if_it_is_whole(bench):
    agent = bench.agent()
    orders(agent, "ada", 50)
    agent.process.send_signal(signal.SIGSEGV)
    equal(agent.process.wait(10), -signal.SIGSEGV, "how it ended")
    check(os.path.exists(file_of(agent, "crashed")), "nothing tells of the fault")
    check("ended by a fault" in gatehouse("doctor", "--config", agent.config, code=1).stdout, "the doctor does not tell of it")
    agent.start()
    wait_for_use(agent)
    equal(counted(agent, "ada"), 50, "orders")
    check("storeRebuiltAt" not in agent.call("GET", "/readyz").json(), "a whole store was replaced")
    check(not os.path.exists(file_of(agent, "crashed")), "it is looked at again and again")


# --- Consent and erasure -------------------------------------------------------------------------------------------


def test_p4_a_refusal_outlives_the_store(bench):
    agent = bench.agent(settings=OFTEN)
    orders(agent, "ada", 3)
    orders(agent, "ben", 3)
    snapshot(agent)
    equal(agent.call("PUT", "/v1/profiles/user_id:ada/consent", {"analytics": False}).status, 200, "refusing")
    identifier = bytes.fromhex(agent.profile("user_id:ben")["id"])
    agent.kill()
    page_of(identifier)(file_of(agent), agent)
    start_mended(agent)
    equal(agent.profile("user_id:ada")["consent"]["analytics"], False, "what she has refused")
    equal(agent.profile("user_id:ben")["consent"]["analytics"], True, "what he has granted")
    snapshot(agent)
    equal(agent.call("PUT", "/v1/profiles/user_id:ben/consent", {"personalization": False}).status, 200, "refusing")
    agent.kill()
    # Nothing of it can be read: nobody has granted anything until they do so again.
    without_beginning(file_of(agent), agent)
    start_mended(agent)
    equal(agent.profile("user_id:ben")["consent"]["analytics"], False, "what nobody knows any more")
    equal(agent.decide("checkout_offer", "ben")["variant"], "none", "a decision for somebody who may have refused it")
    orders(agent, "ada", 1)
    orders(agent, "ben", 1)
    equal((counted(agent, "ada"), counted(agent, "ben")), (3, 4), "orders")


def test_p8_nothing_of_an_erased_person_is_in_a_snapshot(bench):
    hub = bench.hub()
    agent = bench.agent_of(hub, settings=OFTEN)
    for user in ("zora", "ben"):
        orders(agent, user, 20)
    snapshot(agent)
    needles = [b"zora-1", bytes.fromhex(agent.profile("user_id:zora")["id"])]
    check("snapshot-1.mdb" in files_with(agent.data, needles[0]), "the test looks in the wrong place")
    backup = os.path.join(bench.folder, "backup")
    gatehouse("store", "backup", backup, "--config", agent.config)
    states = lambda: {entry["state"] for entry in agent.call("GET", "/v1/erasures").json()["erasures"]}
    equal(agent.call("DELETE", "/v1/profiles/user_id:zora").status, 200, "erasing")
    equal(set(files_with(agent.data, *needles)) - {"data.mdb"}, set(), "copies with something of her")
    wait_until(lambda: states() == {"erased"}, 20, "the erasure does not end")
    snapshot(agent)
    equal(set(files_with(agent.data, *needles)) - {"data.mdb"}, set(), "newer copies with something of her")
    # It comes to itself from that.
    agent.kill()
    without_beginning(file_of(agent), agent)
    start_mended(agent)
    agent.profile("user_id:zora", expect=404)
    agent.stop()
    # A backup of the operator's still has her: she is erased again when it is put back.
    gatehouse("store", "restore", backup, "--config", agent.config)
    start_mended(agent)
    agent.profile("user_id:zora", expect=404)
    equal(counted(agent, "ben"), 20, "orders")
    orders(agent, "zora", 1)
    agent.profile("user_id:zora", expect=404)
    wait_until(lambda: states() == {"erased"}, 20, "the erasure does not end")
    agent.stop()
    gatehouse("store", "compact", "--config", agent.config)
    equal(files_with(agent.data, *needles), [], "files with something of her")
    equal([name for name in os.listdir(agent.data) if name.startswith(("snapshot", "aside", "former"))], [], "copies")
    gatehouse("audit", "verify", "--config", agent.config)


def test_p4_p8_a_second_restore_and_a_compaction_lose_no_refusal_and_no_erasure(bench):
    agent = bench.agent()
    for user in ("ada", "ben", "cy", "zora"):
        orders(agent, user, 3)
    backup = os.path.join(bench.folder, "backup")
    gatehouse("store", "backup", backup, "--config", agent.config)
    equal(agent.call("PUT", "/v1/profiles/user_id:ada/consent", {"analytics": False}).status, 200, "refusing")
    equal(agent.call("DELETE", "/v1/profiles/user_id:zora").status, 200, "erasing")
    # Erased, and back by a choice of her own: without what was there before.
    equal(agent.call("DELETE", "/v1/profiles/user_id:cy").status, 200, "erasing")
    equal(agent.call("PUT", "/v1/profiles/user_id:cy/consent", {"analytics": True}).status, 200, "a new choice")
    orders(agent, "cy", 1)
    equal(counted(agent, "cy"), 1, "orders of somebody who is back")
    later = os.path.join(bench.folder, "later")
    gatehouse("store", "backup", later, "--config", agent.config)
    agent.stop()
    # A copy from after that has her as she is.
    gatehouse("store", "restore", later, "--config", agent.config)
    start_mended(agent)
    equal(counted(agent, "cy"), 1, "orders of somebody who was back when the copy was made")
    agent.profile("user_id:zora", expect=404)
    agent.stop()
    for _ in range(2):
        gatehouse("store", "restore", backup, "--config", agent.config)
        gatehouse("store", "compact", "--config", agent.config)
    start_mended(agent)
    for user in ("zora", "cy"):
        agent.profile(f"user_id:{user}", expect=404)
    equal(agent.profile("user_id:ada")["consent"]["analytics"], False, "what she has refused")
    equal(counted(agent, "ben"), 3, "orders")
    orders(agent, "ada", 1)
    equal(counted(agent, "ada"), 3, "orders of somebody who has refused")


# --- Room ----------------------------------------------------------------------------------------------------------


def test_p6_there_is_no_snapshot_where_there_is_no_room(bench):
    agent = bench.agent(settings=OFTEN + "\nlimits: { disk: 6MiB }")
    turn = 0
    while agent.metrics()["gatehouse_store_used_bytes"] <= 3 << 20:
        turn += 1
        orders(agent, f"user-{turn}", 20, notes="x" * 3000)
    wait_until(lambda: "no room for a snapshot" in agent.log(), 20, agent.log())
    time.sleep(1.1)
    sizes = {name: os.path.getsize(file_of(agent, name)) for name in os.listdir(agent.data) if name.endswith(".mdb")}
    check(sum(sizes.values()) <= 6 << 20, f"together they take more than they may: {sizes}")


# limit: Agent.leastMendingBytes
def test_p6_a_full_disk_keeps_no_agent_with_a_healthy_store_from_starting(bench):
    """On a file system of its own, which is filled to the last byte before the agent starts: with a store that is to be looked
    at, and with one of which most is free. There is room neither for what stands in nor for a new file."""
    agent = bench.agent(settings="limits: { history: 0 }")
    for turn in range(5):
        orders(agent, f"user-{turn}", 45, notes="x" * 9000)
    states = lambda: {entry["state"] for entry in agent.call("GET", "/v1/erasures").json()["erasures"]}
    for turn in range(4):
        equal(agent.call("DELETE", f"/v1/profiles/user_id:user-{turn}").status, 200, "erasing")
    wait_until(lambda: "erasing" not in states(), 20, "the erasure does not go on")
    agent.stop()
    saved = os.path.join(bench.folder, "saved")
    os.rename(agent.data, saved)
    os.mkdir(agent.data)
    mount = f"mount -t tmpfs -o size=24m none {agent.data}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode != 0:
        raise Skip("there is no file system of a test's own here")
    fill = f"cp -a {saved}/. {agent.data}; dd if=/dev/zero of={agent.data}/full bs=4k 2>/dev/null"
    agent.prefix = ["unshare", "-rm", "sh", "-c", f'{mount}; {fill}; exec "$@"', "sh"]
    for marker, word in (("crashed", "nothing answers while"), ("mostly-free", "cannot be written anew"), ("nothing", "ready")):
        with open(os.path.join(saved, marker), "w"):
            pass
        for left in ("compact", "snapshot-0.mdb.new"):
            os.makedirs(os.path.join(saved, left))
            with open(os.path.join(saved, left, "data.mdb"), "w") as file:
                file.write("what a power cut has left" * 1000)
        agent.start()
        equal(counted(agent, "user-4"), 45, f"orders with {marker}")
        equal(agent.decide("checkout_offer", "user-4")["variant"], "five", "a decision about somebody who is known")
        check(word in agent.log(), f"{marker}: {agent.log()}")
        inside = f"/proc/{agent.process.pid}/root{agent.data}"
        for left in ("crashed", "mostly-free", "compact", "snapshot-0.mdb.new", "stand-in", "aside.mdb"):
            check(not os.path.exists(os.path.join(inside, left)), f"{left} is there with {marker}")
        check("storeRebuiltAt" not in agent.call("GET", "/readyz").json(), f"a whole store was replaced with {marker}")
        agent.stop()
        os.remove(os.path.join(saved, marker))
        for left in ("compact", "snapshot-0.mdb.new"):
            shutil.rmtree(os.path.join(saved, left))


def mostly_free(agent, path=None):
    """A store that has had 19 MiB of somebody who is erased, and little else."""
    path = path or file_of(agent)
    text = "x" * 9000
    for turn in range(48):
        orders(agent, "ada", 45, notes=text)
    check(os.path.getsize(path) > 17 << 20, f"the test fills too little: {os.path.getsize(path)}")
    equal(agent.call("DELETE", "/v1/profiles/user_id:ada").status, 200, "erasing")
    orders(agent, "ben", 5)
    states = lambda: {entry["state"] for entry in agent.call("GET", "/v1/erasures").json()["erasures"]}
    wait_until(lambda: "erasing" not in states(), 20, "the erasure does not go on")
    # What a commit has freed is given out some commits later.
    for _ in range(3):
        agent.batch([track("ben", "Product Viewed", {"product_id": "p"})])


def test_the_disk_has_back_what_is_free_in_a_store_in_use(bench):
    holes = os.path.join(bench.folder, "holes")
    with open(holes, "wb") as file:
        file.write(bytes(8192))
    if subprocess.run(["fallocate", "-p", "-o", "0", "-l", "4096", holes], capture_output=True).returncode != 0:
        raise Skip("this file system makes no holes in files")
    agent = bench.agent(settings="limits: { history: 0 }\n" + OFTEN)
    mostly_free(agent)
    length = os.path.getsize(file_of(agent))
    on_disk = lambda: os.stat(file_of(agent)).st_blocks * 512
    wait_until(lambda: on_disk() < 6 << 20, 20, "the file keeps what is free")
    equal(os.path.getsize(file_of(agent)), length, "the file's length")
    gatehouse("store", "check", "--config", agent.config)
    equal(counted(agent, "ben"), 5, "orders")
    agent.kill()
    agent.start()
    equal(counted(agent, "ben"), 5, "orders after the power was cut")
    # Room is taken again where the holes are.
    for _ in range(20):
        orders(agent, "cleo", 45, notes="y" * 9000)
    equal(counted(agent, "cleo"), 20 * 45, "orders")
    check(os.path.getsize(file_of(agent)) < length + (1 << 20), "the file grows beside its holes")
    gatehouse("store", "check", "--config", agent.config)
    check("mostly-free" not in os.listdir(agent.data), "there is word for the next start, too")
    agent.check_accounts()


def test_p6_privacy_work_finds_room_after_others_have_filled_the_disk(bench):
    """On a file system of its own, with a store that has holes: what is written there takes room, which others have taken."""
    agent = bench.agent(settings="limits: { history: 0 }\n" + OFTEN)
    agent.stop()
    mount = f"mount -t tmpfs -o size=64m none {agent.data}"
    if subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True).returncode != 0:
        raise Skip("there is no file system of a test's own here")
    agent.prefix = ["unshare", "-rm", "sh", "-c", f'{mount}; exec "$@"', "sh"]
    agent.start()
    inside = f"/proc/{agent.process.pid}/root{agent.data}"
    mostly_free(agent, f"{inside}/data.mdb")
    wait_until(lambda: os.stat(f"{inside}/data.mdb").st_blocks * 512 < 6 << 20, 20, "the file keeps what is free")
    wait_until(lambda: os.path.exists(f"{inside}/spare"), 20, "no room is held ready")
    with open(f"{inside}/others", "wb") as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
    event = lambda: agent.call("POST", "/v1/track", track("ben", "Product Viewed", {"product_id": "p", "notes": "x" * 9000})).status
    wait_until(lambda: event() == 503, 20, "events are taken although the disk is full")
    seen = set()
    for turn in range(100):
        choice = {"analytics": turn % 2 == 1, "personalization": True}
        answer = agent.call("PUT", "/v1/profiles/user_id:ben/consent", choice)
        equal(answer.status, 200, f"choice {turn + 1} on a full disk ({answer.body[:200]!r})")
        seen |= {event() for _ in range(5)}
    check(503 in seen, f"events were answered {seen}")
    equal(agent.call("DELETE", "/v1/profiles/user_id:ben").status, 200, "erasing on a full disk")
    equal(agent.decide("checkout_offer", "nobody")["variant"], "none", "a decision on a full disk")
    os.remove(f"{inside}/others")
    wait_until(lambda: agent.call("POST", "/v1/batch", {"batch": [track("cleo", "Product Viewed", {"product_id": "p"})]}).status
               == 200, 20, "events are taken again")
    agent.check_accounts()


def test_a_store_of_which_most_is_free_is_written_anew_at_a_start(bench):
    agent = bench.agent(settings="limits: { history: 0 }")
    mostly_free(agent)
    agent.stop()
    before = os.path.getsize(file_of(agent))
    # What an agent leaves on a file system that makes no holes.
    with open(file_of(agent, "mostly-free"), "w"):
        pass
    agent.start()
    wait_for_use(agent)
    check(os.path.getsize(file_of(agent)) < before // 4, f"{before} bytes, now {os.path.getsize(file_of(agent))}")
    equal(counted(agent, "ben"), 5, "orders")
    check("storeRebuiltAt" not in agent.call("GET", "/readyz").json(), "it counts as another store")
    agent.check_accounts()


def killed_after(seconds, *arguments):
    command = subprocess.Popen([*binary(), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    command.kill()
    command.wait()


def test_p1_kills_in_the_middle_of_backup_restore_and_mending_leave_a_good_store(bench):
    chance = random.Random(8)
    agent = bench.agent()
    for turn in range(8):
        orders(agent, "ada", 100, notes="x" * 2000)
    backup = os.path.join(bench.folder, "backup")
    begin = time.monotonic()
    gatehouse("store", "backup", backup, "--config", agent.config)
    took = time.monotonic() - begin
    other = os.path.join(bench.folder, "other")
    for _ in range(KILLS):
        killed_after(chance.uniform(0, took), "store", "backup", other, "--config", agent.config)
        if os.path.exists(other):
            gatehouse("store", "check", other)
            os.remove(other)
        orders(agent, "ben", 1)
    gatehouse("store", "backup", other, "--config", agent.config)
    agent.stop()
    for _ in range(KILLS):
        killed_after(chance.uniform(0, took), "store", "restore", backup, "--config", agent.config)
        gatehouse("store", "check", "--config", agent.config)
    gatehouse("store", "restore", other, "--config", agent.config)
    start_mended(agent)
    equal((counted(agent, "ada"), counted(agent, "ben")), (800, KILLS), "orders")
    gatehouse("store", "backup", backup + "2", "--config", agent.config)
    agent.stop()
    for _ in range(KILLS):
        # Its only snapshot, and a store that is none.
        shutil.copy(backup + "2", file_of(agent, "snapshot-1.mdb"))
        without_beginning(file_of(agent), agent)
        for _ in range(3):
            agent.start(wait=False)
            time.sleep(chance.uniform(0, 2 * took))
            agent.kill()
        agent.start()
        wait_for_use(agent)
        equal((counted(agent, "ada"), counted(agent, "ben")), (800, KILLS), f"orders; {agent.log()}")
        agent.stop()
        gatehouse("store", "check", "--config", agent.config)
