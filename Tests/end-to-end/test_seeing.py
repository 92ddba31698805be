"""What is wrong with a device can be seen: each bad state is brought about, and `/readyz`, `/metrics` and `gatehouse doctor`
name it. Then what a service manager, Prometheus, Grafana and the journal are told."""

import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import threading
import time

from harness import SHOP_BUNDLE, TOP, Node, Skip, TLSFiles, binary, check, equal, free_port, track, wait_until
from test_tls import Certificates, need

MONITORING = os.path.join(TOP, "Tools", "monitoring")


def doctor(node, code):
    """What `gatehouse doctor` says of a device, as JSON; its text must be about the same."""
    seen = []
    for form in ([], ["--json"]):
        done = subprocess.run(
            [*binary(), "doctor", "--config", node.config, *form], capture_output=True, text=True, timeout=60,
            stdin=subprocess.DEVNULL)
        equal(done.returncode, code, f"exit of doctor {form}: {done.stdout}{done.stderr}")
        seen.append(done.stdout)
    problems = json.loads(seen[1])["problems"]
    for problem in problems:
        check(problem["problem"] in seen[0] and problem.get("advice", "") in seen[0], f"{problem} is not in {seen[0]}")
    return problems


def words(problems):
    return [problem["problem"] for problem in problems]


def ask(node, path, timeout=2):
    """As `node.call`; where a thread hangs the kernel may have given it the connection, and another try gets another."""
    end = time.monotonic() + 20
    while True:
        try:
            return node.call("GET", path, timeout=timeout)
        except OSError:
            check(time.monotonic() < end, f"{path} is not answered; the log says:\n{node.log()}")


def check_named(node, problem, detail="", destination=None, ready=200, status=None, seconds=20):
    """Waits until a problem is named, and looks at all three places."""
    wait_until(lambda: problem in words(ask(node, "/readyz").json()["problems"]), seconds, f"{problem}: {node.log()}")
    answer = ask(node, "/readyz")
    equal(answer.status, ready, f"status with {problem}: {answer.body!r}")
    if status:
        equal(answer.json()["status"], status, f"the word for {problem}")
    lines = ask(node, "/metrics").body.decode().splitlines()
    sample = f'gatehouse_problems{{problem="{problem}"}} '
    check(any(line.startswith(sample) and int(line[len(sample):]) >= 1 for line in lines), f"{problem} is not in /metrics")
    found = [entry for entry in doctor(node, 1) if entry["problem"] == problem]
    check(found and found[0]["advice"], f"doctor on {problem}: {found}")
    check(detail in found[0].get("detail", ""), f"detail of {problem}: {found}")
    equal(found[0].get("destination"), destination, f"the destination of {problem}")
    return answer.json()


def check_well(node, problem, seconds=20):
    wait_until(
        lambda: problem not in words(ask(node, "/readyz").json()["problems"]), seconds, f"{problem} stays: {node.log()}")
    equal(node.metrics()[f'gatehouse_problems{{problem="{problem}"}}'], 0, f"{problem} in /metrics")


def order(name="ada", **properties):
    return track(name, "Order Completed", {"order_id": "1", "revenue": 1, **properties})


def bundle_without_destinations(bench):
    with open(SHOP_BUNDLE) as file:
        text = file.read()
    path = os.path.join(bench.folder, "alone.yaml")
    with open(path, "w") as file:
        file.write(text[:text.index("\ndestinations:")] + "\n")
    return path


# MARK: Bad states


def test_seen_nothing_is_wrong(bench):
    agent = bench.agent(bundle=bundle_without_destinations(bench))
    agent.batch([order()])
    ready = agent.call("GET", "/readyz").json()
    equal((ready["status"], ready["problems"]), ("fresh", []), "readiness")
    equal(doctor(agent, 0), [], "doctor")
    numbers = [value for name, value in agent.metrics().items() if name.startswith("gatehouse_problems{")]
    check(len(numbers) > 10 and not any(numbers), f"problems in /metrics: {numbers}")
    check("problems" not in subprocess.run([*binary(), "status", "--config", agent.config], capture_output=True,
                                           text=True).stdout, "status names problems")


def test_seen_never_synced_and_stale(bench):
    agent = bench.agent(bundle=None, name="bare")
    ready = check_named(agent, "never-synced", status="never-synced")
    equal(ready["bundle"], 0, "bundle")
    authority = TLSFiles(bench.folder)
    settings = f"""bundle: {{ url: "https://localhost:{free_port()}/shop.yaml", key: owner.pem, poll: 1s }}
tls: {{ ca: {authority.authority} }}"""
    key = os.path.join(bench.folder, "owner.pem")
    for arguments in (["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key + ".key"],
                      ["ec", "-in", key + ".key", "-pubout", "-out", key]):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
    agent = bench.agent(bundle=None, name="fetching", settings=settings.replace("owner.pem", key))
    check_named(agent, "never-synced", detail="no connection to localhost")

    path = bundle_without_destinations(bench)
    agent = bench.agent(bundle=path, name="stale")
    with open(path) as file:
        good = file.read()
    with open(path, "w") as file:
        file.write(good.replace("profile.vip", "profile.wip"))
    agent.process.send_signal(signal.SIGHUP)
    ready = check_named(agent, "stale", detail="alone.yaml:", status="stale")
    equal((ready["bundleProblem"], ready["bundle"]), ("content", 1), "why")
    check(isinstance(ready["bundleAgeSeconds"], int), "its age")
    status = subprocess.run([*binary(), "status", "--config", agent.config], capture_output=True, text=True).stdout
    check("problem stale" in status and "alone.yaml:" in status, f"status: {status}")
    with open(path, "w") as file:
        file.write(good)
    agent.process.send_signal(signal.SIGHUP)
    check_well(agent, "stale")


# limit: Delivery.breakerConsecutiveFailures
def test_seen_a_destination_is_down(bench):
    hub = bench.hub()
    hub.stop()
    agent = bench.agent_of(hub)
    agent.batch([order()])
    check_named(
        agent, "destination-down", detail=f"no connection to localhost port {hub.port}", destination="hub", status="fresh")
    name = 'gatehouse_destination_{}{{destination="hub",state="{}"}}'
    metrics = agent.metrics()
    equal(metrics[name.format("up", "up")], 0, "up")
    check(metrics['gatehouse_destination_failures_total{destination="hub",stage="connect"}'] >= 1, "where it fails")
    wait_until(lambda: agent.metrics()[name.format("breaker", "open")] == 1, 40, "the breaker does not open")
    hub.start()
    agent.stop()  # the minute for which the breaker is open is not what is tested here
    agent.start()
    wait_until(lambda: agent.metrics()[name.format("breaker", "open")] == 0, 10, "the breaker stays open")
    wait_until(lambda: agent.accounts()[1]["hub"]["delivered"] == 1, 10, "the event is not delivered")
    check_well(agent, "destination-down")
    metrics = agent.metrics()
    equal(metrics[name.format("up", "up")], 1, "up again")
    check(metrics['gatehouse_deliver_seconds_count{destination="hub"}'] >= 1, "requests are not timed")
    # Whoever may not run the device hears that something is wrong, and no names.
    hub.stop()
    agent.batch([order()])
    check_named(agent, "destination-down", destination="hub")
    with open(agent.config, "a") as file:
        file.write(f"tokens: [{{ sha256: {'ab' * 32}, roles: [operate, collect] }}]\n")
    agent.stop()
    agent.start()
    heard = {"problem": "destination-down", "advice": "A destination takes no events. They are kept, and tried again."}
    wait_until(lambda: agent.call("GET", "/readyz").json()["problems"] == [heard], 20,
               f"what strangers hear: {agent.call('GET', '/readyz').body!r}")
    equal(words(doctor(agent, 1)), ["destination-down"], "doctor without a token")


def test_seen_certificates(bench):
    certificates = Certificates(bench.folder)
    tls = TLSFiles(bench.folder)

    def hub_with(certificate, name):
        tls.certificate, tls.key = certificates.path(certificate + ".pem"), certificates.path(certificate + ".key")
        node = Node(bench.folder, command="hub", name=name, bundle=None, settings=f"""
socket: {bench.folder}/{name}.sock
tls: {{ cert: {tls.certificate}, key: {tls.key} }}""")
        bench.nodes.append(node)
        node.start(wait=False)
        wait_until(lambda: os.path.exists(f"{bench.folder}/{name}.sock"), 20, f"{name} does not listen")
        return node

    for name, expected in (("expired", True), ("good", False)):
        hub = hub_with(name, name)
        found = words(doctor(hub, 1))
        equal("certificate" in found, expected, f"doctor on a hub whose certificate is {name}: {found}")
    # An agent that delivers to the first of them.
    hub = next(node for node in bench.nodes if node.name == "expired")
    hub.tls = type("Trust", (), {"authority": certificates.path("root.pem")})
    agent = bench.agent_of(hub)
    agent.batch([order()])
    check_named(agent, "destination-tls", detail="has expired", destination="hub")
    refused = agent.metrics()['gatehouse_destination_failures_total{destination="hub",stage="handshake"}']
    check(refused >= 1, "where it fails")


# limit: Agent.certificateSeconds
def test_seen_a_certificate_that_ends_soon(bench):
    """That of a hub of these tests is for two days."""
    hub = bench.hub()
    problems = words(hub.call("GET", "/readyz").json()["problems"])
    check("certificate" in problems, f"problems: {problems}")
    equal(hub.metrics()['gatehouse_problems{problem="certificate"}'], 1, "in /metrics")


def fill(agent, event, until, rounds=400):
    """Sends batches of events until something is so."""
    for number in range(rounds):
        properties = {"order_id": "1", "revenue": 1, "product_id": "p", "filling": "x" * 500}
        events = [track(f"filler-{number}", event, properties) for _ in range(20)]
        if until(agent.call("POST", "/v1/batch", {"batch": events})):
            return
    check(False, f"{rounds} batches of {event} did not do: {agent.log()}")


def test_seen_a_disk_that_is_full(bench):
    hub = bench.hub()
    hub.stop()
    agent = bench.agent_of(hub, settings="limits: { disk: 2MiB }")
    fill(agent, "Product Viewed", lambda answer: "disk-low" in words(agent.call("GET", "/readyz").json()["problems"]))
    check_named(agent, "disk-low")
    fill(agent, "Order Completed", lambda answer: answer.status == 503)
    check_named(agent, "disk-full", detail="raise limits.disk", ready=503, status="disk-full")


# limit: Agent.leastFreeBytes
def test_seen_a_file_system_that_is_full(bench):
    inside = os.path.join(bench.folder, "run-data")
    script = f"mkdir -p {inside} && mount -t tmpfs -o size=12m none {inside} && exec \"$@\""
    if subprocess.run(["unshare", "-m", "sh", "-c", script, "-", "true"], capture_output=True).returncode != 0:
        raise Skip("a file system of its own cannot be mounted here")
    agent = bench.agent(bundle=bundle_without_destinations(bench), prefix=["unshare", "-m", "sh", "-c", script, "-"])
    check_named(agent, "disk-low")
    check(0 < agent.metrics()["gatehouse_disk_free_bytes"] < 12 << 20, "room in /metrics")


def test_seen_nothing_can_be_written(bench):
    agent = bench.agent(bundle=bundle_without_destinations(bench), prefix=["env", "--ignore-signal=XFSZ"])
    agent.batch([order()])
    limits = resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (4096, limits[1]))
    equal(agent.call("POST", "/v1/track", order()).status, 503, "an event that cannot be written")
    ready = check_named(agent, "not-written", detail="File too large", ready=503, status="degraded")
    equal(ready["reason"], "not-written", "the reason")
    equal(agent.decide("checkout_offer", "ada")["variant"], "none", "a decision meanwhile")
    resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, limits)
    wait_until(lambda: agent.call("POST", "/v1/track", order()).status == 200, 10, "events are taken again")
    check_well(agent, "not-written")


def mix(value):
    product = value * 0xFF51AFD7ED558CCD % 2**64
    return product ^ product >> 32


def record(number):
    """One number as the store keeps it: behind its checksum."""
    state = mix(mix(mix(0x9E3779B97F4A7C15 ^ 8) ^ number))
    return (state % 2**32).to_bytes(4, "little") + number.to_bytes(8, "little")


def change_store(node, change):
    path = os.path.join(node.data, "data.mdb")
    with open(path, "rb") as file:
        before = file.read()
    after = change(before)
    check(after != before and len(after) == len(before), "nothing was changed in the store")
    with open(path, "wb") as file:
        file.write(after)


def test_seen_a_clock_that_is_behind(bench):
    agent = bench.agent(bundle=bundle_without_destinations(bench))
    agent.batch([order()])
    agent.stop()
    # An hour from now it was when the time was last known.
    later = record(int(time.time()) + 3600)
    change_store(agent, lambda data: re.sub(rb"(known_time).{12}", lambda found: found[1] + later, data, flags=re.DOTALL))
    agent.start()
    check_named(agent, "clock", detail="seconds")
    check(3500 < agent.metrics()["gatehouse_clock_behind_seconds"] <= 3600, "how far in /metrics")


def test_seen_records_that_are_damaged(bench):
    agent = bench.agent(bundle=bundle_without_destinations(bench))
    agent.batch([track("ada", "Product Viewed", {"product_id": "a-product-to-be-damaged", "category": "c"})])
    agent.stop()
    change_store(agent, lambda data: data.replace(b"to-be-damaged", b"to-be-demaged"))
    agent.start()
    agent.call("GET", "/v1/profiles/user_id:ada")
    check_named(agent, "records", detail="1")
    check(agent.metrics()["gatehouse_bad_records_total"] >= 1, "how many in /metrics")


def test_seen_memory_that_is_too_small(bench):
    """Hundreds of TLS connections at once need more than the least that the limit may be."""
    tls = TLSFiles(bench.folder)
    agent = bench.agent(
        bundle=bundle_without_destinations(bench), tls=tls, settings=f"""
limits: {{ memory: 16MiB }}
tls: {{ cert: {tls.certificate}, key: {tls.key}, ca: {tls.authority} }}""")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    greeting = outgoing.read()
    with contextlib.ExitStack() as held:
        for _ in range(950):
            held.enter_context(socket.create_connection(("127.0.0.1", agent.port))).sendall(greeting)
        check_named(agent, "memory", seconds=8)


def test_seen_devices_that_do_not_start(bench):
    """No agent, no health and no metrics: the doctor says why."""
    agent = bench.agent(bundle=bundle_without_destinations(bench))
    agent.batch([order()])
    pepper = os.path.join(agent.data, "pepper")
    os.chmod(pepper, 0o644)
    found = doctor(agent, 1)
    equal(words(found), ["pepper"], "while the agent runs")
    check("chmod 600" in found[0]["detail"], f"what to do: {found}")
    agent.stop()
    # And how the agent ends, which its log says.
    for what, break_it, mend_it, problem, detail in (
        ("pepper", lambda: None, lambda: os.chmod(pepper, 0o600), "pepper", "chmod 600"),
        ("bundle", lambda: os.rename(agent.config, agent.config + ".good") or rewrite(
            agent.config + ".good", agent.config, "alone.yaml", "missing.yaml"),
         lambda: os.rename(agent.config + ".good", agent.config), "bundle", "missing.yaml"),
        ("store", lambda: change_store(agent, lambda data: b"\xff" * 8192 + data[8192:]), lambda: None, "store", "damaged"),
    ):
        break_it()
        found = doctor(agent, 1)
        equal(words(found)[0], "no-answer", f"doctor on the {what}: {found}")
        check(any(entry["problem"] == problem and detail in entry["detail"] for entry in found), f"the {what}: {found}")
        mend_it()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", agent.port))
        other.listen()
        thread = threading.Thread(target=answer_something, args=(other, 6), daemon=True)
        thread.start()
        check("no-answer" in words(doctor(agent, 1)), "something else at the agent's address")
        thread.join()
    with open(agent.config, "a") as file:
        file.write("listen: nowhere\n")
    done = subprocess.run([*binary(), "doctor", "--config", agent.config], capture_output=True, text=True)
    equal((done.returncode, "run.yaml:" in done.stderr), (1, True), f"a wrong configuration: {done.stderr}")


def answer_something(listener, times):
    for _ in range(times):
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"?\r\n\r\n")


def rewrite(path, other, before, after):
    with open(path) as file:
        text = file.read()
    with open(other, "w") as file:
        file.write(text.replace(before, after))


# MARK: The service manager


class Frozen:
    """Threads of an agent that the kernel does not run, each by its name: of several the last."""

    SEIZE, INTERRUPT, DETACH, ALL_THREADS = 0x4206, 0x4207, 17, 0x40000000

    def __init__(self, agent, *names):
        self.threads = []
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        tasks = f"/proc/{agent.process.pid}/task"
        by_name = {}
        for task in sorted(map(int, os.listdir(tasks))):
            with open(f"{tasks}/{task}/comm") as file:
                by_name[file.read().strip()] = task
        for name in names:
            check(name in by_name, f"there is no thread {name}: {by_name}")
            thread = by_name[name]
            if self.libc.ptrace(self.SEIZE, thread, None, None) != 0:
                raise Skip("threads cannot be stopped here: " + os.strerror(ctypes.get_errno()))
            self.libc.ptrace(self.INTERRUPT, thread, None, None)
            os.waitpid(thread, self.ALL_THREADS)
            self.threads.append(thread)

    def thaw(self):
        for thread in self.threads:
            self.libc.ptrace(self.DETACH, thread, None, None)
        self.threads = []


class ServiceManager:
    """Takes what a service says of itself (sd_notify(3))."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(0.2)
        self.said = []

    def listen(self, seconds, until=None):
        """Everything that is said in this time, or until something is."""
        heard, end = [], time.monotonic() + seconds
        while time.monotonic() < end and (until is None or until not in heard):
            with contextlib.suppress(TimeoutError):
                heard.append(self.socket.recv(256).decode())
        self.said += heard
        return heard


# limit: Agent.stalledNanoseconds
def test_seen_threads_that_hang_and_what_the_service_manager_hears(bench):
    manager = ServiceManager(f"\0gatehouse-test-{os.getpid()}")
    agent = bench.agent(
        bundle=bundle_without_destinations(bench), 
        # The socket is the first thread's.
        settings=f"threads: 2\nsocket: {bench.folder}/agent.sock",
        prefix=["env", f"NOTIFY_SOCKET=@gatehouse-test-{os.getpid()}", "WATCHDOG_USEC=1000000"])
    equal(manager.listen(20, until="READY=1")[-1:], ["READY=1"], "what is said first")
    check(agent.call("GET", "/healthz").status == 200, "it was ready when it said so")
    check("WATCHDOG=1" in manager.listen(2, until="WATCHDOG=1"), f"every half second: {manager.said}")
    frozen = Frozen(agent, "writer", "serving")
    try:
        for problem in ("writer-stalled", "serving-stalled"):
            ready = check_named(agent, problem, ready=503, status="degraded", seconds=25)
        equal(ready["reason"], "writer-stalled", "the reason")
        manager.listen(0.5)
        check("WATCHDOG=1" not in manager.listen(1.5), "the agent says that it is alive while threads hang")
        check("the writer has stalled" in agent.log(), agent.log())
    finally:
        frozen.thaw()
    check_well(agent, "writer-stalled")
    check_well(agent, "serving-stalled")
    check("WATCHDOG=1" in manager.listen(5, until="WATCHDOG=1"), "the agent does not say that it is alive again")
    equal(agent.call("POST", "/v1/track", order()).status, 200, "an event afterwards")
    # What came meanwhile is out of the way: the agent does not wait for who does not listen.
    manager.listen(0.5)
    agent.process.send_signal(signal.SIGTERM)
    equal(manager.listen(5, until="STOPPING=1")[-1:], ["STOPPING=1"], "what is said last")
    # By a path as well; and without a watchdog nothing is said of one.
    path = os.path.join(bench.folder, "notify")
    manager = ServiceManager(path)
    agent.process.wait()
    agent.prefix = ["env", f"NOTIFY_SOCKET={path}"]
    agent.start()
    equal(manager.listen(1.5), ["READY=1"], "what is said without a watchdog")


# MARK: One person


def follow(agent, person, after=0, expect=200):
    answer = agent.call("GET", f"/v1/trace/{person}?after={after}")
    equal(answer.status, expect, f"trace: {answer.body!r}")
    return answer.json()


# limit: Serving.traceLines
def test_seen_one_person_on_their_way_through_all_stages(bench):
    hub = bench.hub()
    agent = bench.agent_of(hub)
    command = subprocess.Popen(
        [*binary(), "trace", "-", "--config", agent.config], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    try:
        command.stdin.write("user_id:zora\n")
        command.stdin.close()
        check("stage begin" in command.stdout.readline(), "the trace does not begin")
        event = order("zora", email="zora@example.org")
        agent.batch([event, track("ben", "Order Completed", {"order_id": "2", "revenue": 2})])
        agent.batch([event])
        agent.batch([track("zora", "Ad Viewed"), order("zora", revenue=-1), track("zora", "Product Viewed", context={})])
        agent.decide("checkout_offer", "zora")
        agent.decide("checkout_offer", "ben")
        shown = []
        while not {"stage deliver", "stage decide"} <= {re.search("stage [a-z]+", line)[0] for line in shown}:
            shown.append(command.stdout.readline())
            check(shown[-1], f"trace ends: {shown}")
    finally:
        command.kill()
        command.wait()
    wait_until(lambda: agent.accounts()[1]["hub"]["queued"] == 0, 10, "delivery")
    lines = follow(agent, "user_id:zora", after=1)["lines"]
    check("zora" not in json.dumps(lines) + "".join(shown), f"an identifier is shown: {lines}")
    stages = {}
    for line in lines:
        stages.setdefault(line["stage"], []).append(line)
    equal([line["outcome"] for line in stages["govern"]], ["admitted", "duplicate", "denied", "quarantined", "admitted"],
          "what became of her events")
    equal(stages["collect"][0]["plan"], "Order Completed", "the event's name in the plan")
    profile = agent.profile("user_id:zora")["id"]
    equal([(line["profile"], line["by"]) for line in stages["unify"]], [(profile, "user_id")] * 2, "whose the events are")
    number = stages["unify"][0]["seq"]
    delivered = [(line["seq"], line["outcome"]) for line in stages["deliver"]]
    check((number, "delivered") in delivered, f"delivery: {delivered}")
    check([line["answer"]["key"] for line in stages["decide"]] == ["checkout_offer"], f"decisions: {stages['decide']}")
    # That somebody looked stands in the audit log; each look does not.
    audit = [line for line in agent.call("GET", "/v1/audit").json()["lines"] if line["action"] == "read"]
    # The trace, and the record above.
    equal(len(audit), 2, f"the audit log: {audit}")
    # By the profile's id too; then it is about nobody else.
    last = follow(agent, profile)["last"]
    follow(agent, "user_id:ben", after=last, expect=409)
    follow(agent, "no-reference", expect=400)
    for _ in range(5):
        agent.batch([order("zora") for _ in range(20)])
    lines = follow(agent, profile, after=last)["lines"]
    equal(len(lines), 256, "lines that are kept")
    # What is not committed has not happened; nobody is followed by a restart.
    agent.stop()
    agent.start()
    follow(agent, profile, after=last, expect=409)


# MARK: The log


# limit: Platform.logLinesPerSpan
def test_seen_a_log_that_does_not_flood(bench):
    """A bundle of which there is much to say at once; a line each, with its priority for the journal."""
    path = bundle_without_destinations(bench)
    with open(path, "a") as file:
        for number in range(300):
            # A priority without a slot.
            file.write(f"  d{number}: {{ variants: {{ a: 1 }}, default: a, priority: 5 }}\n")
    with open(path) as file:
        good = file.read()
    agent = bench.agent(bundle=path, prefix=["env", "JOURNAL_STREAM=8:1"])

    def log():
        with open(agent.log_path) as file:
            return file.read().splitlines()

    # What was left out is said with the first line in another span of ten seconds.
    with open(path, "w") as file:
        file.write("version: none")
    wait_until(lambda: agent.process.send_signal(signal.SIGHUP) or any("were left out" in line for line in log()), 25,
               "nothing was left out", 1)
    with open(path, "w") as file:
        file.write(good)
    agent.stop()
    lines = log()
    check(all(re.match(r"<[346]>level=(error|warning|info) msg=", line) for line in lines), f"priorities: {lines[:5]}")
    said = len([line for line in lines if "without a slot" in line])
    left_out = int(re.search(r"left out of the log.*count=(\d+)", "\n".join(lines))[1])
    check(said + left_out >= 300 and left_out >= 100, f"{said} lines were written, {left_out} left out")
    # With the level debug it is all there.
    agent.log_path += "-debug"
    with open(agent.config, "a") as file:
        file.write("log: debug\n")
    agent.start()
    agent.stop()
    equal(len([line for line in log() if "without a slot" in line]), 300, "lines with the level debug")


# MARK: Prometheus and Grafana


def promtool(*arguments, text=None):
    command = need("promtool", "unpack_debian prometheus; PATH=$unpacked/usr/bin:$PATH", "--version")
    return subprocess.run([command, *arguments], input=text, capture_output=True, text=True)


def family_names(text):
    return set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))


def check_alerts(bench, alerts):
    """Two of them fire when they should, and not before."""
    def series(name, values, **labels):
        inside = ",".join(f'{key}="{value}"' for key, value in {"instance": "till", **labels}.items())
        return {"series": f"{name}{{{inside}}}", "values": values}

    def alert(name, minute, *summaries, **labels):
        fired = [{"exp_labels": {"instance": "till", "severity": "critical", **labels}, "exp_annotations": {"summary": words}}
                 for words in summaries]
        return {"alertname": name, "eval_time": f"{minute}m", "exp_alerts": fired}

    path = os.path.join(bench.folder, "alerts-test.yaml")
    with open(path, "w") as file:
        json.dump({"rule_files": [alerts], "tests": [{
            "interval": "1m",
            "input_series": [
                series("gatehouse_problems", "0 0 1 1 1 1 1", problem="disk-full"),
                series("gatehouse_problems", "0x40", problem="records"),
                series("gatehouse_events_total", "10+10x40", outcome="received"),
                series("gatehouse_events_total", "9+9x19 1000x20", outcome="admitted"),
                series("gatehouse_events_total", "1+1x40", outcome="denied"),
            ],
            "alert_rule_test": [
                alert("GatehouseFails", 1), alert("GatehouseFails", 4, "till: disk-full", problem="disk-full"),
                alert("GatehouseAccountsDiffer", 18),
                alert("GatehouseAccountsDiffer", 35, "till: what was received is not what became of it"),
            ]}]}, file)
    checked = promtool("test", "rules", path)
    equal(checked.returncode, 0, f"promtool on how the alerts fire: {checked.stdout}{checked.stderr}")


def test_seen_by_prometheus_and_grafana(bench):
    hub = bench.hub(bundle=SHOP_BUNDLE)
    agent = bench.agent_of(hub, settings="limits: { memory: 64MiB }")
    agent.batch([order(f"person-{each}") for each in range(50)] + [
        track("ada", "Product Viewed", {"product_id": "p"}, timestamp="2020-01-01T00:00:00Z"),
        order(revenue=-1), {"type": "track"}])
    for _ in range(5):
        agent.decide("checkout_offer", "person-1")
    wait_until(lambda: agent.accounts()[1]["hub"]["delivered"] >= 50, 20, "delivery")
    names = set()
    for node in (agent, hub):
        text = node.call("GET", "/metrics").body.decode()
        checked = promtool("check", "metrics", text=text)
        equal((checked.returncode, checked.stderr), (0, ""), f"promtool on the metrics of {node.name}: {checked.stdout}")
        names |= family_names(text)
    # limit: Agent.activationMilliseconds
    metrics = agent.metrics()
    equal(metrics["gatehouse_activate_seconds_count"], 51, "events that were activated")
    check(3600 <= metrics["gatehouse_activate_seconds_sum"] < 3700, "an event of long ago counts as an hour")
    for name in ("decide", "admit", "commit", "activate"):
        check(metrics[f"gatehouse_{name}_seconds_sum"] > 0, f"{name} takes no time")
    check(metrics["gatehouse_store_free_pages"] >= 0 and metrics["gatehouse_disk_free_bytes"] > 0, "store and disk")
    with open(f"/proc/{agent.process.pid}/io") as file:
        written = int(re.search(r"write_bytes: (\d+)\n", file.read())[1])
    shown = metrics["gatehouse_disk_written_bytes_total"]
    check(0 <= written - shown < 1 << 20, f"bytes written: the kernel says {written}, /metrics {shown}")
    equal(metrics["gatehouse_disk_bytes_per_event"], shown // 51, "an event")
    # What the alerts and the dashboard ask for is there.
    alerts = os.path.join(MONITORING, "alerts.yaml")
    checked = promtool("check", "rules", alerts)
    equal(checked.returncode, 0, f"promtool on the alerts: {checked.stdout}{checked.stderr}")
    with open(alerts) as file:
        asked = re.findall(r"gatehouse_\w+", file.read())
    with open(os.path.join(MONITORING, "dashboard.json")) as file:
        panels = json.load(file)["panels"]
    for panel in panels:
        for target in panel["targets"]:
            asked += re.findall(r"gatehouse_\w+", target["expr"])
    check(len(asked) > 25 and len(panels) > 8, "hardly anything is asked for")
    for name in asked:
        check(re.sub("_(bucket|sum|count)$", "", name) in names or name in names, f"there is no {name}")
    check_alerts(bench, alerts)
    with open(alerts) as file:
        in_alerts = set(re.findall(r"[a-z-]+(?=[|\"])", " ".join(re.findall(r'problem=~"[^"]+"', file.read()))))
    known = {name.split('"')[1] for name in metrics if name.startswith("gatehouse_problems{")}
    equal(known - in_alerts, {"destination-down", "destination-tls"}, "problems that no alert names, but by the destination")
    equal(in_alerts - known - {"problem"}, set(), "problems that are none")
