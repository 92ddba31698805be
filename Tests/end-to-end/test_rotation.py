"""Another pepper (promise P3), with the real binary: rotated while the agent runs, the device killed in the middle of what
follows, and at the end the files searched for the former hashes."""

import os
import shutil
import subprocess
import threading
import time

from harness import SHOP_BUNDLE, Failure, binary, check, equal, track, wait_until


def gatehouse(*arguments):
    return subprocess.run([*binary(), *arguments], capture_output=True, text=True, timeout=60)


def lasts(agent, text):
    """Says in the configuration how long a rotation lasts."""
    with open(agent.config) as file:
        lines = [line for line in file if not line.startswith("pepper_rotation")]
    with open(agent.config, "w") as file:
        file.write("".join(lines) + f"pepper_rotation: {text}\n")


def pepper_bytes(agent):
    return os.path.getsize(os.path.join(agent.data, "pepper"))


def digests(agent, ref):
    """The hashes under which the store knows a person."""
    return [bytes.fromhex(entry["hmac"]) for entry in agent.profile(ref)["identifiers"]]


def stored(agent, needles):
    """Which of these byte strings are in the data file."""
    with open(os.path.join(agent.data, "data.mdb"), "rb") as file:
        data = file.read()
    return [needle.hex() for needle in needles if needle in data]


def order(user, number, amount=10, email=True):
    properties = {"order_id": f"{user}-{number}", "revenue": amount}
    if email:
        properties["email"] = f"{user}@example.org"
    return track(user, "Order Completed", properties, messageId=f"{user}-{number}")


def value(agent, ref):
    return agent.profile(ref)["attributes"]["lifetime_value"]


def send_until_killed(agent, events, pause):
    """Sends events one batch after the other, and kills the agent in the middle."""
    done = threading.Event()

    def send():
        try:
            for start in range(0, len(events), 5):
                agent.batch(events[start:start + 5])
        except (OSError, Failure):
            pass
        done.set()

    thread = threading.Thread(target=send)
    thread.start()
    time.sleep(pause)
    agent.kill()
    thread.join()
    agent.start()


def test_p3_the_pepper_is_replaced_and_the_former_hashes_are_gone(bench):
    agent = bench.agent(settings="pepper_rotation: 1h")
    seen = [f"seen{number}" for number in range(60)]
    unseen = [f"unseen{number}" for number in range(20)]
    agent.batch([order(user, 1) for user in seen + unseen])
    agent.batch([order("erased", 1), order("refuser", 1)])
    equal(agent.call("DELETE", "/v1/profiles/user_id:erased").status, 200, "erasing")
    equal(agent.call("PUT", "/v1/profiles/user_id:refuser/consent", {"analytics": False}).status, 200, "refusing")
    known = {user: agent.profile(f"user_id:{user}")["id"] for user in seen + unseen}
    former = [digest for user in seen + unseen + ["refuser"] for digest in digests(agent, f"user_id:{user}")]
    check(len(stored(agent, former)) == len(former), "the store does not hold the hashes that it shows")
    offers = {user: agent.decide("checkout_offer", user)["variant"] for user in seen}

    # While the agent runs; it takes the new pepper up when it starts.
    answer = gatehouse("pepper", "rotate", "--config", agent.config)
    equal((answer.returncode, pepper_bytes(agent)), (0, 96), f"rotating ({answer.stderr})")
    answer = gatehouse("pepper", "rotate", "--config", agent.config)
    check(answer.returncode == 3 and "under way" in answer.stderr, f"a second rotation at once: {answer}")
    agent.kill()
    agent.start()
    for user in seen + unseen:
        equal(agent.profile(f"user_id:{user}")["id"], known[user], f"{user} by the number")
        equal(agent.profile(f"email:{user}@example.org")["id"], known[user], f"{user} by the address")
    for user in seen:
        equal(agent.decide("checkout_offer", user)["variant"], offers[user], f"what {user} is offered")

    # Each of those who are seen comes once with the number alone, and the power fails again and again.
    for turn, pause in enumerate([0.01, 0.03, 0.08]):
        events = [order(user, 2 + turn, email=False) for user in seen]
        send_until_killed(agent, events, pause)
        agent.batch(events)
        agent.check_accounts()
        for user in seen:
            equal(value(agent, f"user_id:{user}"), 20.0 + 10 * turn, f"value of {user} in turn {turn}")
    # What was sent before the rotation is a repeat still.
    agent.batch([order(user, 1) for user in seen + unseen])
    equal(value(agent, "user_id:seen0"), 40.0, "value after a repeat")
    agent.batch([order("erased", 2), order("refuser", 2)])
    agent.profile("user_id:erased", expect=404)
    answer = gatehouse("audit", "verify", "--config", agent.config)
    equal(answer.returncode, 0, f"the audit log in the middle ({answer.stdout}{answer.stderr})")


def test_p3_what_is_not_seen_is_forgotten_and_no_refusal_in_silence(bench):
    # Without destinations: one that has not heard of an erasure would hold up the end, as the next test shows.
    with open(SHOP_BUNDLE) as file:
        text = file.read()
    bundle = os.path.join(bench.folder, "bundle.yaml")
    with open(bundle, "w") as file:
        file.write(text[:text.index("destinations:")])
    agent = bench.agent(bundle=bundle, settings="pepper_rotation: 1h")
    seen = [f"seen{number}" for number in range(40)]
    unseen = [f"unseen{number}" for number in range(300)]
    people = seen + unseen + ["refuser"]
    agent.batch([order(user, 1) for user in people])
    agent.batch([order("erased", 1)])
    equal(agent.call("PUT", "/v1/profiles/user_id:refuser/consent", {"analytics": False}).status, 200, "refusing")
    former = {user: digests(agent, f"user_id:{user}") for user in people}
    erased = digests(agent, "user_id:erased")
    equal(agent.call("DELETE", "/v1/profiles/user_id:erased").status, 200, "erasing")
    everything = [digest for digests in former.values() for digest in digests] + erased
    agent.stop()
    equal(gatehouse("pepper", "rotate", "--config", agent.config).returncode, 0, "rotating")
    agent.start()
    agent.batch([order(user, 2, email=False) for user in seen])
    agent.stop()

    # Its time is up; the power fails in the middle of the end, twice.
    lasts(agent, "1s")
    for pause in [1.1, 0.3]:
        agent.start()
        time.sleep(pause)
        agent.kill()
    agent.start()
    wait_until(lambda: "the former pepper is kept" in agent.log(), 60, "the end of the rotation")
    # A number and an address refuse; a number and an address are erased.
    check("refusals=2 erasures=2" in agent.log(), f"what is left: {agent.log()}")
    equal(pepper_bytes(agent), 96, "the file of the pepper")
    for user in unseen:
        agent.profile(f"user_id:{user}", expect=404)
    for user in seen:
        equal(value(agent, f"user_id:{user}"), 20.0, f"value of {user}")
    agent.batch([order("refuser", 2), order("erased", 2)])
    equal(agent.check_accounts()[0]["denied"], 2, "denied")

    # Both were seen now: nothing is left that hangs on the former pepper, and the next look at it ends the rotation.
    agent.stop()
    agent.start()
    wait_until(lambda: pepper_bytes(agent) == 64, 60, "the former pepper is not deleted")
    agent.stop()
    equal(gatehouse("store", "compact", "--config", agent.config).returncode, 0, "compacting")
    equal(stored(agent, everything), [], "former hashes in the data file")
    agent.start()
    for user in seen:
        equal(value(agent, f"user_id:{user}"), 20.0, f"value of {user} at the end")
        # Nobody came with the address.
        agent.profile(f"email:{user}@example.org", expect=404)
    agent.batch([order("refuser", 3), order("erased", 3)])
    equal(agent.check_accounts()[0]["denied"], 4, "denied after the end")
    answer = gatehouse("audit", "verify", "--config", agent.config)
    equal(answer.returncode, 0, f"the audit log at the end ({answer.stdout}{answer.stderr})")
    equal(gatehouse("pepper", "rotate", "--config", agent.config).returncode, 0, "another rotation")


def test_p3_what_hangs_on_the_former_pepper_is_given_up_by_word_only(bench):
    agent = bench.agent(settings="pepper_rotation: 1s")
    agent.batch([order("refuser", 1), order("erased", 1)])
    equal(agent.call("PUT", "/v1/profiles/user_id:refuser/consent", {"analytics": False}).status, 200, "refusing")
    former = digests(agent, "user_id:refuser")
    # Its notice waits for a hub that is not there.
    equal(agent.call("DELETE", "/v1/profiles/user_id:erased").status, 200, "erasing")
    agent.stop()
    forgetting = ["pepper", "forget", "--yes", "--config", agent.config]
    equal(gatehouse(*forgetting).returncode, 3, "nothing to forget")
    equal(gatehouse("pepper", "rotate", "--config", agent.config).returncode, 0, "rotating")
    agent.start()
    wait_until(lambda: "refusals=2 erasures=2 notices=1" in agent.log(), 30, "the end of the rotation")
    equal(gatehouse(*forgetting).returncode, 3, "forgetting beside a running agent")
    agent.stop()
    equal(gatehouse("pepper", "forget", "--config", agent.config).returncode, 2, "forgetting without --yes")
    equal(gatehouse(*forgetting).returncode, 0, "forgetting")
    agent.start()
    wait_until(lambda: pepper_bytes(agent) == 64, 30, "the former pepper is not deleted")
    agent.stop()
    equal(gatehouse("store", "compact", "--config", agent.config).returncode, 0, "compacting")
    equal(stored(agent, former), [], "former hashes in the data file")


def test_stores_are_not_merged_while_a_pepper_is_replaced(bench):
    agent, other = bench.agent(name="one"), bench.agent(name="two")
    agent.stop()
    other.stop()
    shutil.copy(os.path.join(agent.data, "pepper"), os.path.join(other.data, "pepper"))
    equal(gatehouse("pepper", "rotate", "--config", agent.config).returncode, 0, "rotating")
    answer = gatehouse("store", "merge", other.data, "--config", agent.config)
    check(answer.returncode == 3 and "another secret" in answer.stderr, f"with another pepper: {answer}")
    shutil.copy(os.path.join(agent.data, "pepper"), os.path.join(other.data, "pepper"))
    answer = gatehouse("store", "merge", other.data, "--config", agent.config)
    check(answer.returncode == 3 and "under way" in answer.stderr, f"with the same rotation: {answer}")
