"""Promise P6 with the real binary: each limit that only a running agent shows is reached on purpose, one more is answered as it
is promised (a status, a reason, Retry-After, a counter), and the agent goes on. `# limit:` names what a test reaches; a test of
the house holds these lines against every Limits.swift."""

import contextlib
import json
import os
import resource
import socket
import subprocess
import time

from harness import CONSENT, SHOP_BUNDLE, binary, check, equal, track, wait_until
from test_faults import check_unhurt, post, status_of

KIB = 1024


def padded(size, message):
    """A message of exactly so many bytes of JSON."""
    message["properties"]["filling"] = ""
    message["properties"]["filling"] = "x" * (size - len(json.dumps(message)))
    return message


def command(*arguments, code, text=None):
    done = subprocess.run([*binary(), *arguments], capture_output=True, timeout=60, input=text)
    equal(done.returncode, code, f"exit of {arguments[:3]}: {done.stderr[-400:]!r}")
    return (done.stdout + done.stderr).decode(errors="replace")


# MARK: Events


# limit: Collection.eventBytes, Collection.batchBytes, Collection.batchEvents, Collection.eventDepth, Collection.bodyValues
def test_p6_limit_of_an_event_and_of_a_batch(bench):
    agent = bench.agent()

    def event(size, number):
        return padded(size, track("ada", "Product Viewed", {"product_id": str(number), "category": "c"}))

    def nested(depth):
        return track("ada", "Product Viewed", {"product_id": "1", "category": "c", "deep": json.loads("[" * depth + "]" * depth)})

    def refused(path, body, status, *words):
        answer = agent.call("POST", path, body, {"Content-Type": "application/json"})
        equal(answer.status, status, f"status of {path} ({answer.body[:200]!r})")
        for word in words:
            check(word in answer.body.decode(), f"no {word!r} in {answer.body[:300]!r}")

    equal(agent.call("POST", "/v1/track", event(32 * KIB, 1)).status, 200, "an event of 32 KiB")
    refused("/v1/track", json.dumps(event(32 * KIB + 1, 2)), 413, "too_large", "32 KiB")
    answer = agent.batch([event(32 * KIB + 1, 3), event(32 * KIB, 4)]).json()
    equal([(error["index"], error["code"]) for error in answer["errors"]], [(0, "too_large")], f"{answer}")
    events = [event(32 * KIB - 4, number) for number in range(10, 25)]
    body = json.dumps({"batch": events})
    body += " " * (500 * KIB - len(body))
    equal(agent.call("POST", "/v1/batch", body).status, 200, "a batch of 500 KiB")
    refused("/v1/batch", body + " ", 413, "too_large", "500 KiB")
    # An event is at the first level, its properties at the second.
    equal(agent.call("POST", "/v1/track", nested(30)).status, 200, "32 levels")
    refused("/v1/track", json.dumps(nested(31)), 400, "bad_json", "line 1, column")
    small = {"type": "page", "userId": "ada", "context": CONSENT}
    equal(len(agent.batch([small] * 2500).json().get("errors", [])), 0, "refused of 2,500 events")
    refused("/v1/batch", json.dumps({"batch": [small] * 2501}), 413, "too_many", "2500 events")
    # 40 values an event: so many short ones have no place in an event of 32 KiB, but in a batch.
    refused("/v1/batch", '{"batch":[' + "1," * 100_000 + "1]}", 413, "too_many_values", "98304", "smaller batches")
    check_joined(agent, refused)
    events, _ = agent.check_accounts()
    equal(events["refused"], 1, f"only what was an event is counted as one: {events}")
    equal(agent.metrics()["gatehouse_requests_refused_total"], 8, "requests refused before they held an event")
    check_unhurt(agent, "events of every size")


def test_p6_a_weight_beyond_32_bits_is_refused_by_armv7(bench):
    agent = bench.agent(arch="armv7")
    many = '{"context":{"a":[' + "1," * 80_000 + '1]},"batch":[' + "1," * 2499 + "1]}"
    answer = agent.call("POST", "/v1/batch", many, {"Content-Type": "application/json"})
    equal((answer.status, answer.json()["code"]), (413, "too_large"), "status of a batch with 2 MB for each of 2,500 events")
    check_unhurt(agent, "a weight beyond 32 bits")


# limit: Serving.joinedBytes
def check_joined(agent, refused):
    """What a batch says for all of its events weighs as often as there are events."""
    message = {"type": "page", "userId": "ada", "context": CONSENT}

    def batch(member, values, count):
        # An object, its key and its list are three values more; each weighs 24 bytes.
        text = json.dumps({"a": [1] * values}, separators=(",", ":"))
        fitting = (1 << 20) // (len(text) + 24 * (3 + values))
        body = json.dumps({"batch": [message] * (count or fitting)})
        return f'{body[:-1]},"{member}":{text}}}', fitting

    for member in ("context", "integrations"):
        body, fitting = batch(member, 100, None)
        equal(fitting, 391, "events with a hundred values each")
        equal(agent.call("POST", "/v1/batch", body).status, 200, f"{fitting} events with {member}")
        refused("/v1/batch", batch(member, 100, fitting + 1)[0], 413, "too_large", "1 MiB", "fewer events")
    # 160 KB that would have become 200 MB.
    refused("/v1/batch", batch("context", 4000, 2500)[0], 413, "too_large", "1 MiB", "fewer events")
    check(agent.rss_anon_kib() < 8192, f"{agent.rss_anon_kib()} KiB of memory")


# limit: Serving.bodyBytes, limits.body
def test_p6_limit_of_a_body(bench):
    for settings, most in (("", 512 * KIB), ("limits: { body: 64KiB }", 64 * KIB)):
        agent = bench.agent(settings=settings, name=f"body-{most}")
        fits = post("/v1/events", b" " * most)
        check(status_of(agent.raw(fits)) in (400, 413, 415), "a body of the limit is read, whatever it holds")
        equal(agent.metrics()["gatehouse_malformed_requests_total"], 0, "requests that broke a limit")
        # It is refused by its head alone: nothing of the body is sent.
        received = agent.raw(post("/v1/events", b"")[:-2].replace(b"Content-Length: 0", b"Content-Length: %d" % (most + 1)) + b"\r\n")
        equal(status_of(received), 413, f"a body of {most + 1} bytes: {received[:300]!r}")
        check(b"application/problem+json" in received, f"{received[:300]!r}")
        equal(agent.metrics()["gatehouse_malformed_requests_total"], 1, "requests that broke a limit")
        check_unhurt(agent, "a large body")


# MARK: Questions


# limit: Activation.questionBytes, Activation.contextDepth
def test_p6_limit_of_a_question(bench):
    agent = bench.agent()
    path = "/ofrep/v1/evaluate/flags/layout"

    def ask(where, text):
        answer = agent.call("POST", where, text, {"Content-Type": "application/json"})
        return answer.status, answer.json()

    for where in (path, "/ofrep/v1/evaluate/flags"):
        whole = json.dumps({"context": {"targetingKey": "ada", "width": 2000}})
        whole += " " * (64 * KIB - len(whole))
        equal(ask(where, whole)[0], 200, "a question of 64 KiB")
        status, answer = ask(where, whole + " ")
        equal((status, answer["errorCode"]), (413, "INVALID_CONTEXT"), f"{answer}")
        check("64 KiB" in answer["errorDetails"], f"{answer}")
        deep = '{"context":{"width":2000,"deep":' + "[" * 30 + "]" * 30 + "}}"
        equal(ask(where, deep)[0], 200, "a question of 32 levels")
        status, answer = ask(where, deep.replace("[", "[[", 1).replace("]", "]]", 1))
        equal((status, answer["errorCode"]), (400, "PARSE_ERROR"), f"{answer}")
        check("line 1, column" in answer["errorDetails"], f"{answer}")
    equal(agent.decide("layout", "ada", width=2000)["value"], "wide", "a decision afterwards")


def test_p6_limit_of_identifiers(bench):
    """A value that is too long is no identifier; an event of more identifiers than it may have is refused by name."""
    agent = bench.agent()
    long = "u" * 512
    agent.batch([track(long, "Product Viewed", {"product_id": "1", "category": "c"})])
    agent.profile(f"user_id:{long}")
    agent.profile(f"user_id:{long}x", expect=404)
    answer = agent.batch([
        track("bob", "Product Viewed", {"product_id": "1", "category": "c"}, traits={"email": [f"m{n}@example.com" for n in range(17)]}),
        track("bob", "Product Viewed", {"product_id": "2", "category": "c"})]).json()
    equal([error["index"] for error in answer["errors"]], [0], f"{answer}")
    check("identifiers" in answer["errors"][0]["message"], f"{answer}")
    agent.profile("user_id:bob")
    check_unhurt(agent, "many identifiers")


# MARK: Connections


# limit: limits.connections
def test_p6_limit_of_connections(bench):
    agent = bench.agent(settings="limits: { connections: 8 }")
    with contextlib.ExitStack() as stack:
        held = []
        for _ in range(8):
            held.append(stack.enter_context(socket.create_connection(("127.0.0.1", agent.port), timeout=5)))
            held[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            check(held[-1].recv(4096).startswith(b"HTTP/1.1 200"), "one of eight connections")
        received = agent.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        equal(status_of(received), 503, f"the ninth connection: {received[:300]!r}")
        check(b"Retry-After: 1" in received and b"Too many connections" in received, f"{received[:400]!r}")
        held[0].sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        page = b""
        while chunk := held[0].recv(65536):
            page += chunk
        check(b"\ngatehouse_connections_refused_total 1\n" in page, "the refused connection is counted")
        wait_until(lambda: status_of(agent.raw(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")) == 200, 5,
                   "a connection is free again")
    check_unhurt(agent, "many connections")


# limit: Serving.acceptPauseNanoseconds
def test_p6_limit_of_descriptors(bench):
    """No descriptor left: the agent rests before it takes connections again, serves those it has, and does not spin."""
    agent = bench.agent()
    held = agent.connection()
    equal(agent.call("GET", "/healthz", connection=held).status, 200, "a connection before")
    used = len(os.listdir(f"/proc/{agent.process.pid}/fd"))
    resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, (used + 4, used + 4))
    others = []
    try:
        for _ in range(12):
            others.append(socket.create_connection(("127.0.0.1", agent.port), timeout=5))
        wait_until(lambda: "cannot accept connections for a moment" in agent.log(), 5, "the log says so")

        def processor_seconds():
            with open(f"/proc/{agent.process.pid}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        before = processor_seconds()
        for _ in range(10):
            equal(agent.call("GET", "/healthz", connection=held).status, 200, "a connection that was there")
            time.sleep(0.2)
        check(processor_seconds() - before < 0.5, "the agent spins while it cannot accept")
        check(agent.log().count("cannot accept connections") < 20, "the log is flooded")
    finally:
        for other in others:
            other.close()
    wait_until(lambda: _answers(agent), 10, "new connections are taken again")
    held.close()
    check_unhurt(agent, "no descriptors")


def _answers(agent):
    try:
        return agent.call("GET", "/healthz", timeout=2).status == 200
    except OSError:
        return False


# MARK: Profiles


def test_p6_limit_of_profiles_holds_in_a_storm(bench):
    """A commit takes hundreds of events of new people: there are no more profiles than there may be all the same, nor do they
    take more than they may; whoever went is still known, with their choices."""
    agent = bench.agent(settings="limits: { profiles: 500, profile_bytes: 1MiB }")
    sent = 0
    for turn in range(12):
        agent.batch([
            track(f"person-{turn}-{number}", "Product Viewed", {"product_id": "p" * (number % 5 * 200), "category": "c"})
            for number in range(250)])
        sent += 250
        seen = agent.metrics()
        check(seen["gatehouse_profiles"] <= 500 + 250, f"{seen['gatehouse_profiles']} profiles in the storm")
    wait_until(lambda: agent.metrics()["gatehouse_profiles"] <= 500, 5, "too many profiles stay")
    wait_until(lambda: agent.metrics()["gatehouse_profile_bytes"] <= 1 << 20, 5, "profiles take too much")
    seen = agent.metrics()
    check(seen["gatehouse_profiles"] > 200, f"{seen['gatehouse_profiles']} profiles are left of 500")
    equal(seen["gatehouse_profiles"] + seen["gatehouse_profiles_evicted_total"], sent, "profiles and evicted ones")
    equal(agent.profile("user_id:person-0-0")["consent"]["analytics"], True, "the choice of one of the first")
    check_unhurt(agent, "a storm of new people")


# MARK: Files and commands


# limit: Agent.configurationBytes, Agent.bundleBytes, Agent.pepperBytes, gatehouse.fileBytes, gatehouse.tokenFileBytes
def test_p6_limit_of_files(bench):
    def written(name, data, mode=0o600):
        path = os.path.join(bench.folder, name)
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, mode)
        return path

    too_large = "larger than it may be"
    config = written("large.yaml", b"log: info\n" + b"#" * (256 * KIB))
    words = command("status", "--config", config, code=3)
    check(config in words and too_large in words, words)
    words = command("run", "--config", config, code=3)
    check(config in words and too_large in words, words)
    bundle = written("bundle.yaml", b"version: 1\n" + b"#" * (4 * KIB * KIB))
    words = command("check", bundle, code=3)
    check(bundle in words and too_large in words, words)
    config = written("small.yaml", f"data: {bench.folder}/data\nbundle: {{ file: {bundle} }}\nlisten: 127.0.0.1:0\n".encode())
    words = command("run", "--config", config, code=1)
    check(bundle in words and too_large in words, words)
    words = command("eval", "1 + 1", "--with", f"@{written('values.json', b'{}' + b' ' * (4 * KIB * KIB))}", code=3)
    check(too_large in words, words)
    token = written("token", b"x" * 5000)
    words = command("status", "--token-file", token, code=3)
    check(token in words and too_large in words, words)
    pepper = written("pepper", b"x" * 33)
    config = written("other.yaml", f"data: {bench.folder}/data\npepper: {pepper}\nlisten: 127.0.0.1:0\n".encode())
    words = command("run", "--config", config, code=3)
    check(pepper in words and "32 random bytes" in words, words)


# limit: gatehouse.referenceBytes
def test_p6_limit_of_a_reference(bench):
    agent = bench.agent()
    where = ("--url", f"http://127.0.0.1:{agent.port}")
    words = command("profile", "show", "user_id:" + "a" * (KIB - 8), *where, code=1)
    check("1024 bytes" not in words, words)
    check("1 to 1024 bytes" in command("profile", "show", "user_id:" + "a" * (KIB - 7), *where, code=2), "one byte more")
    check("1 to 1024 bytes" in command("profile", "show", "-", *where, code=2, text=b"a" * 5000 + b"\n"), "from standard input")


def test_p6_limits_of_a_bundle_are_told_at_run_time(bench):
    """One row too many of everything, in the bundle of an agent that runs: it keeps the good one, and its log says where."""
    with open(SHOP_BUNDLE) as file:
        good = file.read()
    path = os.path.join(bench.folder, "live.yaml")
    with open(path, "w") as file:
        file.write(good)
    agent = bench.agent(bundle=path)
    more = "tables:\n" + "".join(f"  t{number}: {{}}\n" for number in range(65))
    with open(path, "w") as file:
        file.write(good.replace("version: 1", "version: 2") + "\n" + more)
    agent.process.send_signal(1)
    wait_until(lambda: "there can be at most 64 tables" in agent.log(), 5, "the log says what is too much")
    check(f"{path}:" in agent.log(), agent.log())
    equal(agent.call("GET", "/readyz").json()["bundle"], 1, "the bundle in force")
    equal(agent.decide("layout", "ada", width=2000)["value"], "wide", "a decision")
