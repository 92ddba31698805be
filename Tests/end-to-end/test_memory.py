"""`limits.memory`: what a process has in memory stays under it, pages of the store's map with it. Promises P6 and P10."""

import json
import os
import subprocess
import time

from harness import SHOP_BUNDLE, binary, check, equal, track, wait_until

MEBIBYTE = 1024 * 1024
PEOPLE = 2500


def memory(agent):
    """Anonymous memory and pages of files, bytes, as the kernel has it."""
    found = {}
    with open(f"/proc/{agent.process.pid}/status") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in ("RssAnon", "RssFile"):
                found[name] = int(rest.split()[0]) * 1024
    return found["RssAnon"], found["RssFile"]


def ask_everybody(agent):
    """Looks at every page of the store that has a person; returns what one of them has been found to be."""
    connection = agent.connection()
    try:
        for number in range(PEOPLE):
            body = json.dumps({"context": {"targetingKey": f"person-{number}"}})
            answer = agent.call("POST", "/ofrep/v1/evaluate/flags/checkout_offer", body,
                                {"Content-Type": "application/json"}, connection=connection)
            equal(answer.status, 200, "status of a decision")
    finally:
        connection.close()
    return agent.profile("user_id:person-7")["attributes"]


# limit: limits.memory
def test_p6_memory_pages_of_the_store_are_given_back(bench):
    """A store of several times the limit, all of which is looked at: without a limit it is all in memory, with one it is
    not, and everything is found as before."""
    agent = bench.agent()
    # Each has a record of two or three pages, so that a few people make a large store.
    seen = [f"product {'x' * 900} {number}" for number in range(10)]
    for first in range(0, PEOPLE, 20):
        agent.batch([
            track(f"person-{number}", "Product Viewed", {"product_id": product, "category": "c"})
            for number in range(first, first + 20) for product in seen])
    used = agent.metrics()["gatehouse_store_used_bytes"]
    check(used > 48 * MEBIBYTE, f"the store is too small for this test: {used / MEBIBYTE:.0f} MiB")
    before = ask_everybody(agent)
    unbound = sum(memory(agent))
    check(unbound > 24 * MEBIBYTE, f"without a limit {unbound / MEBIBYTE:.1f} MiB were in memory; this test shows nothing")
    equal(agent.metrics()["gatehouse_memory_releases_total"], 0, "releases without a limit")
    agent.stop()

    with open(agent.config, "a") as file:
        file.write("limits: { memory: 16MiB }\n")
    agent.start()
    slowest = 0
    for _ in range(3):
        equal(ask_everybody(agent), before, "what is known of a person")
        # In the first 50 ms of a rush there may be more, and for longer where others have the cores.
        begin = time.monotonic()
        wait_until(lambda: sum(memory(agent)) <= 16 * MEBIBYTE, 3, "less than the limit in memory after all were asked for")
        slowest = max(slowest, time.monotonic() - begin)
    print(f"      in memory without a limit {unbound / MEBIBYTE:.1f} MiB, with 16MiB less than that {slowest * 1000:.0f} ms after the "
          "last question at the latest", flush=True)
    metrics = agent.metrics()
    check(metrics["gatehouse_memory_releases_total"] >= 1, "nothing was given back")
    anonymous, of_files = memory(agent)
    for name, value in (("anonymous", anonymous), ("file", of_files)):
        shown = metrics[f'gatehouse_memory_bytes{{of="{name}"}}']
        check(abs(shown - value) < 4 * MEBIBYTE, f"/metrics shows {shown} bytes of {name}, the kernel {value}")
    # Events go on as before.
    agent.batch([track("person-7", "Product Viewed", {"product_id": "new", "category": "c"})])
    wait_until(lambda: agent.profile("user_id:person-7")["attributes"] != before, 5, "an event under the limit")


def test_p6_memory_too_small_a_limit_is_refused(bench):
    path = os.path.join(bench.folder, "small.yaml")
    with open(path, "w") as file:
        file.write(f"bundle: {{ file: {SHOP_BUNDLE} }}\nlimits: {{ memory: 8MiB }}\n")
    result = subprocess.run(binary() + ["check", path], capture_output=True, text=True)
    equal(result.returncode, 1, "exit of check")
    check("small.yaml:2:19: memory must be at least 16MiB" in result.stderr + result.stdout,
          f"the complaint: {result.stderr + result.stdout}")
