"""Signed bundles over HTTPS: what is taken, what never is, what is taken back, what a device starts with (promise P9)."""

import hashlib
import http.server
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import threading
import time

from harness import SHOP_BUNDLE, Failure, Node, TLSFiles, binary, check, equal, free_port, track, wait_until

BUNDLE = """version: {version}
purposes: [analytics]
consent: {{ wait: 0s }}
identifiers: {{ user_id: {{ from: [userId, context.targetingKey], send: hmac, unique: true }} }}
events: {{ "*": {{ purpose: analytics }} }}
attributes:
  orders: {{ type: counter{when} }}
decisions:
  which:
    variants: {{ it: {version}, other: -1 }}
    default: it
    rules: [{{ name: rule, when: '{rule}', serve: other }}]
"""


def bundle(version, rule="context.other == true", when="", more=""):
    return (BUNDLE.format(version=version, rule=rule, when=when) + more).encode()


class Keys:
    """A signing key, as an owner of bundles has it."""

    def __init__(self, folder, name="owner"):
        self.private, self.public = os.path.join(folder, f"{name}.key"), os.path.join(folder, f"{name}.pem")
        self.folder = folder
        for arguments in (["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.private],
                          ["ec", "-in", self.private, "-pubout", "-out", self.public]):
            subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    def sign(self, text):
        return subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.private], input=text, check=True, capture_output=True).stdout


class Files:
    """A small HTTPS server of files with entity tags, which may be told to answer badly."""

    def __init__(self, folder, keys, port=None, name="files"):
        self.keys, self.port = keys, port or free_port()
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        self.tls = TLSFiles(os.path.join(folder, name))
        # What there is, and what answers otherwise: exchanged at once, since the agent may ask at any time.
        self.state, self.seen, self.tag = ({}, {}), [], None
        self.server = None

    def start(self):
        files = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def do_GET(self):
                content, answers = files.state
                body = content.get(self.path)
                # As real servers: from what the file is now.
                tag = files.tag or '"' + hashlib.sha256(body or b"").hexdigest()[:16] + '"'
                known = self.headers.get("If-None-Match") == tag
                answer = answers.get(self.path)
                files.seen.append((self.path, 304 if known else 200 if body is not None else 404))
                self.close_connection = True
                if answer:
                    return answer(self, body)
                if body is None:
                    self.send_response(404)
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
                self.send_response(304 if known else 200)
                self.send_header("ETag", tag)
                if not known:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if not known:
                    self.wfile.write(body)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, address):
                pass

        self.server = Server(("127.0.0.1", self.port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.tls.certificate, self.tls.key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
        self.server = None

    def publish(self, text, signature=None, answers=()):
        content = {"/shop.yaml": text, "/shop.yaml.sig": self.keys.sign(text) if signature is None else signature}
        content["/other.yaml"] = text
        self.state = (content, dict(answers))

    def count(self, path, status=200):
        return self.seen.count((path, status))


class Fleet:
    """An agent whose bundle comes from a server, and both of them as a test needs them."""

    def __init__(self, bench, poll="1h"):
        self.bench = bench
        self.keys = Keys(bench.folder)
        self.files = Files(bench.folder, self.keys)
        self.poll = poll
        self.node = Node(bench.folder, bundle=None, settings=self.settings())
        bench.nodes.append(self.node)

    def settings(self, url=None):
        url = url or f"https://localhost:{self.files.port}/shop.yaml"
        return (f"bundle: {{ url: '{url}', key: {self.keys.public}, poll: {self.poll} }}\n"
                f"tls: {{ ca: {self.files.tls.authority} }}\n")

    def __enter__(self):
        self.files.start()
        return self

    def __exit__(self, *arguments):
        self.files.stop()

    @property
    def ready(self):
        answer = self.node.call("GET", "/readyz")
        equal(answer.status, 200, f"/readyz: {answer.body!r}")
        return answer.json()

    @property
    def state(self):
        ready = self.ready
        return ready["status"], ready["bundle"], ready.get("bundleProblem")

    def look(self):
        self.node.process.send_signal(signal.SIGHUP)

    def wait_for(self, *state, seconds=15):
        try:
            wait_until(lambda: self.state == state, seconds, "")
        except Failure:
            raise Failure(f"the state is {self.state}, not {state}; the log says:\n{self.node.log()}")

    def take(self, version, text=None):
        self.files.publish(text or bundle(version))
        self.look()
        self.wait_for("fresh", version, None)

    def refused(self, reason):
        return self.node.metrics()[f'gatehouse_bundle_refused_total{{reason="{reason}"}}']

    def check_decides(self, version):
        equal(self.node.decide("which", "ada")["value"], version, "the bundle that decides")


def test_bundle_is_fetched_once_and_taken_up(bench):
    with Fleet(bench, poll="1s") as fleet:
        node = fleet.node.start()
        fleet.wait_for("never-synced", 0, "unreachable")
        fleet.files.publish(bundle(1))
        fleet.wait_for("fresh", 1, None)
        fleet.check_decides(1)
        fleet.files.seen.clear()
        wait_until(lambda: fleet.files.count("/shop.yaml", 304) >= 3, 15, "it is asked for again")
        equal(fleet.files.count("/shop.yaml"), 0, "a bundle that is known is not sent again")
        equal(fleet.files.count("/shop.yaml.sig"), 0, "nor its signature")
        fleet.files.publish(bundle(2))
        fleet.wait_for("fresh", 2, None)
        fleet.check_decides(2)
        equal((fleet.files.count("/shop.yaml"), fleet.files.count("/shop.yaml.sig")), (1, 1), "one more was fetched")
        metrics = node.metrics()
        equal(metrics["gatehouse_bundle_version"], 2, "version")
        check(metrics["gatehouse_bundle_age_seconds"] <= 3 and metrics["gatehouse_bundle_check_age_seconds"] <= 3, "ages")
        equal(metrics["gatehouse_bundle_stale"], 0, "stale")
        # A restart goes on with what is kept, and asks by its tag.
        node.stop()
        fleet.files.seen.clear()
        node.start()
        equal(fleet.ready["bundle"], 2, "version at the start")
        fleet.check_decides(2)
        fleet.wait_for("fresh", 2, None)
        equal((fleet.files.count("/shop.yaml"), fleet.files.count("/shop.yaml", 304) > 0), (0, True), "after a restart")


def half(handler, body):
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[:len(body) // 2])


def half_in_chunks(handler, body):
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for piece in (body[:50], body[50:100]):
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))


def huge_in_chunks(handler, body):
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    try:
        for _ in range(80):
            handler.wfile.write(b"10000\r\n" + b"#" * 65536 + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")
    except OSError:
        pass


def status(code, **headers):
    def answer(handler, body):
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
    return answer


# limit: Agent.signatureBytes
def test_p9_no_bad_bundle_from_a_url_ever_takes_effect(bench):
    with Fleet(bench) as fleet:
        files, keys = fleet.files, fleet.keys
        stranger = Keys(bench.folder, "stranger")
        node = fleet.node.start()
        fleet.take(5)
        good = bundle(6)
        sound = keys.sign(good)
        tampered = bytearray(sound)
        tampered[len(tampered) // 2] ^= 1
        elsewhere = status(302, Location=f"https://localhost:{files.port}/other.yaml")
        cases = [
            ("a tampered body", "signature", good.replace(b"other: -1", b"other: -2"), sound, None),
            ("a tampered signature", "signature", good, bytes(tampered), None),
            ("the signature of another key", "signature", good, stranger.sign(good), None),
            ("the signature of another bundle", "signature", good, keys.sign(bundle(5)), None),
            ("no signature", "signature", good, b"", None),
            ("a signature that is none", "signature", good, b"<html>" * 1000, None),
            ("a signature that is not there", "signature", good, sound, ("/shop.yaml.sig", status(404))),
            ("a signature elsewhere", "unreachable", good, sound, ("/shop.yaml.sig", elsewhere)),
            ("an older version", "version", bundle(4), None, None),
            ("the same version with other bytes", "version", bundle(5) + b"# new\n", None, None),
            ("a bundle with a mistake", "content", bundle(6, rule="no_such_thing == 1"), None, None),
            ("no bundle at all", "content", b"{", None, None),
            ("nothing", "content", b"", None, None),
            ("too much", "too_large", good + b"#" * (4 << 20), None, None),
            ("too much without a length", "too_large", good, sound, ("/shop.yaml", huge_in_chunks)),
            ("half of it", "unreachable", good, sound, ("/shop.yaml", half)),
            ("half of it in chunks", "unreachable", good, sound, ("/shop.yaml", half_in_chunks)),
            ("half of the signature", "unreachable", good, sound, ("/shop.yaml.sig", half)),
            ("a server that fails", "unreachable", good, sound, ("/shop.yaml", status(500))),
            ("304 for what is not known", "unreachable", good, sound, ("/shop.yaml.sig", status(304))),
            ("another place", "unreachable", good, sound, ("/shop.yaml", elsewhere)),
        ]
        for what, reason, text, signature, answer in cases:
            before = fleet.refused(reason)
            files.publish(text, signature, [answer] if answer else [])
            fleet.look()
            try:
                # It may have asked by itself as well, which it does soon after a failure.
                wait_until(lambda: fleet.refused(reason) > before and fleet.state == ("stale", 5, reason), 15, "")
            except Failure:
                raise Failure(f"{what} is not refused for {reason}: {node.metrics()}\n{node.log()}")
            fleet.check_decides(5)
        check("/other.yaml" not in [path for path, _ in files.seen], "a redirect was followed")
        equal(node.metrics()["gatehouse_bundle_stale"], 1, "stale")
        seen = subprocess.run(binary() + ["status", "--json", "--url", f"http://127.0.0.1:{node.port}"], capture_output=True)
        shown = json.loads(seen.stdout)
        equal((seen.returncode, shown["status"], shown["bundle"]), (0, "stale", 5), "status")
        equal(shown["bundleProblem"], "unreachable", "status")
        check(shown["bundleAgeSeconds"] >= 0, f"{shown}")
        log = open(node.log_path).read()
        for words in ("is not that of these bytes", "older than the one taken before", "a change needs a higher version",
                      "more than 4 MiB", "followed to no other place", "in the middle of its answer", "shop.yaml:12:",
                      "/shop.yaml.sig answers 404"):
            check(words in log, f"the log does not say {words!r}:\n{log}")
        # A server that is not the one: another authority, and another name.
        before = fleet.refused("unreachable")
        files.stop()
        imposter = Files(bench.folder, keys, port=files.port, name="imposter").start()
        imposter.publish(bundle(9))
        fleet.look()
        wait_until(lambda: fleet.refused("unreachable") > before, 15, f"the imposter is found out: {node.log()}")
        imposter.stop()
        files.start()
        fleet.take(6, good)
        fleet.check_decides(6)
        # What was taken once is the bound after a restart as well.
        node.stop()
        files.publish(bundle(5))
        node.start()
        fleet.look()
        fleet.wait_for("stale", 6, "version")
        fleet.check_decides(6)


# limit: Agent.entityTagBytes
def test_bundle_of_a_server_without_a_usable_tag(bench):
    with Fleet(bench) as fleet:
        for tag in ('"' + "x" * 300 + '"', '"two words"'):
            fleet.files.tag = tag
            fleet.files.publish(bundle(1))
            if not fleet.node.process:
                fleet.node.start()
            fleet.wait_for("fresh", 1, None)
            fleet.files.seen.clear()
            for number in (1, 2):
                fleet.look()
                wait_until(lambda: fleet.files.count("/shop.yaml.sig") == number, 15, f"it is fetched each time: {tag}")
            equal(fleet.files.count("/shop.yaml", 304), 0, "the tag is not sent back")
            equal(fleet.state, ("fresh", 1, None), "the same bundle is no other one")
        equal(open(fleet.node.log_path).read().count("another bundle is in force"), 1, "it was taken once")


def test_p9_starts_with_the_last_good_bundle_without_a_network(bench):
    with Fleet(bench) as fleet:
        node, files = fleet.node, fleet.files
        files.stop()
        # No network ever: defaults only, and honest about it.
        node.start()
        fleet.wait_for("never-synced", 0, "unreachable")
        node.stop()
        files.start()
        files.publish(bundle(1))
        node.start()
        fleet.wait_for("fresh", 1, None)
        for version in (2, 3):
            fleet.take(version)
            # At once: what decides is what the next start has.
            node.kill()
            files.stop()
            begin = time.monotonic()
            node.start()
            took = time.monotonic() - begin
            equal(fleet.ready["status"], "stale", "without a network")
            fleet.check_decides(version)
            check(took < 5, f"it started after {took:.1f} s")
            fleet.look()
            fleet.wait_for("stale", version, "unreachable")
            files.start()
            fleet.look()
            fleet.wait_for("fresh", version, None)
        # What is kept was damaged, or another key counts now: neither is taken.
        node.kill()
        files.stop()
        kept = os.path.join(node.data, "bundle.yaml")
        whole = open(kept, "rb").read()
        for text in (whole.replace(b"other: -1", b"other: -2"), whole[:-20], b""):
            open(kept, "wb").write(text)
            node.start()
            fleet.wait_for("never-synced", 0, "unreachable")
            node.stop()
        open(kept, "wb").write(whole)
        with open(node.config) as file:
            config = file.read()
        with open(node.config, "w") as file:
            file.write(config.replace(fleet.keys.public, Keys(bench.folder, "next").public))
        node.start()
        fleet.wait_for("never-synced", 0, "unreachable")


def test_p9_a_bundle_that_fails_its_self_test_never_decides(bench):
    with Fleet(bench) as fleet:
        fleet.files.publish(bundle(1))
        node = fleet.node.start()
        fleet.wait_for("fresh", 1, None)
        node.batch([track(f"u{number % 7}", "Order Completed", {"amount": f"{number} EUR"}) for number in range(60)])
        before = node.metrics()
        # Amounts are text, which no number is greater than.
        fleet.files.publish(bundle(2, when=', when: "event.properties.amount > 100"'))
        fleet.look()
        fleet.wait_for("stale", 1, "self_test")
        fleet.check_decides(1)
        check("over 60 recent events its rules failed 60 times, those of the one in force 0" in node.log(), node.log())
        after = node.metrics()
        for name in ("gatehouse_evaluation_errors_total", "gatehouse_decisions_default_total", "gatehouse_profiles",
                     'gatehouse_events_total{outcome="received"}'):
            check(after[name] - before[name] <= 1, f"{name} was {before[name]} and is {after[name]}: the test is none of it")
        equal([name for name in os.listdir(node.data) if "simulate" in name], [], "what the test leaves")
        # The same is not fetched again, nor tested.
        fleet.files.seen.clear()
        fleet.look()
        wait_until(lambda: fleet.files.count("/shop.yaml", 304) == 1, 15, "it is asked for by its tag")
        equal(fleet.state, ("stale", 1, "self_test"), "it is still not taken")
        fleet.take(3, bundle(3, when=', when: "event.properties.amount != null"'))
        fleet.check_decides(3)
        node.check_accounts()


def test_p9_a_bundle_whose_decisions_fail_is_taken_back(bench):
    with Fleet(bench) as fleet:
        fleet.files.publish(bundle(1))
        node = fleet.node.start()
        fleet.wait_for("fresh", 1, None)
        wrong = bundle(2, rule="context.width > 100")
        fleet.take(2, wrong)
        # Widths are text here; a few mistakes are no reason yet.
        for _ in range(10):
            equal(node.decide("which", "ada", width="200")["value"], 2, "a rule that fails does not match")
        time.sleep(2.5)
        equal(fleet.state, ("fresh", 2, None), "ten failures")
        for _ in range(40):
            node.decide("which", "ada", width="200")
        fleet.wait_for("stale", 1, "rolled_back")
        fleet.check_decides(1)
        check("decisions failed: the bundle is taken back" in node.log(), node.log())
        equal(fleet.refused("rolled_back"), 1, "counted")
        # It is not taken again, also after a restart, and also when it comes anew.
        fleet.look()
        time.sleep(1)
        equal(fleet.state, ("stale", 1, "rolled_back"), "asked again")
        node.kill()
        node.start()
        equal(fleet.ready["bundle"], 1, "after a restart")
        fleet.look()
        fleet.wait_for("stale", 1, "rolled_back")
        fleet.files.publish(bundle(2))
        fleet.look()
        fleet.wait_for("stale", 1, "version")
        fleet.take(3)
        fleet.check_decides(3)


def test_p9_switches_under_load_fail_no_decision(bench):
    """200 switches, or as many as GATEHOUSE_SWITCHES says."""
    switches = int(os.environ.get("GATEHOUSE_SWITCHES", "200"))
    with Fleet(bench) as fleet:
        fleet.files.publish(bundle(1))
        node = fleet.node.start()
        fleet.wait_for("fresh", 1, None)
        node.batch([track(f"u{number % 7}", "Order Completed", {"amount": number}) for number in range(100)])
        stop, counts, wrong = threading.Event(), [0, 0, 0], []

        def ask(number):
            connection, last = node.connection(), 0
            while not stop.is_set():
                try:
                    answer = node.call("POST", "/ofrep/v1/evaluate/flags/which", {"context": {"targetingKey": f"u{number}"}},
                                       connection=connection)
                    value = answer.json().get("value")
                    if answer.status != 200 or not isinstance(value, int) or value < last:
                        wrong.append((answer.status, answer.body, last))
                    last = value
                    counts[number] += 1
                except Exception as error:
                    wrong.append(repr(error))
                    connection = node.connection()
                time.sleep(0.002)

        def send():
            while not stop.is_set():
                try:
                    node.batch([track(f"u{number}", "Order Completed", {"amount": 1}) for number in range(20)])
                except Exception as error:
                    wrong.append(repr(error))
                time.sleep(0.05)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)] + [threading.Thread(target=send)]
        for thread in threads:
            thread.start()
        begin = time.monotonic()
        try:
            for version in range(2, switches + 2):
                fleet.files.publish(bundle(version))
                fleet.look()
                wait_until(lambda: fleet.ready["bundle"] == version, 30, f"switch {version}: {node.log()}", 0.005)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        took = time.monotonic() - begin
        print(f"      {switches} switches in {took:.1f} s, {sum(counts):,} decisions between them, anonymous memory "
              f"{node.rss_anon_kib():,} KiB", flush=True)
        check(not wrong, f"{len(wrong)} answers are wrong, such as {wrong[:3]}")
        check(min(counts) > switches, f"too few decisions to tell: {counts}")
        metrics = node.metrics()
        equal(metrics["gatehouse_decision_errors_total"], 0, "decisions without an answer")
        equal(sum(value for name, value in metrics.items() if "bundle_refused" in name), 0, "bundles refused")
        check(node.rss_anon_kib() < 16 * 1024, "memory grows with switches")
        node.check_accounts()


def test_p9_a_bundle_file_with_a_key_needs_its_signature(bench):
    keys = Keys(bench.folder)
    path = os.path.join(bench.folder, "live.yaml")

    def write(text, signature):
        for name, content in ((path, text), (path + ".sig", signature)):
            if content is None:
                if os.path.exists(name):
                    os.remove(name)
            else:
                with open(name, "wb") as file:
                    file.write(content)

    with open(keys.public) as file:
        inline = "".join("      " + line for line in file)
    node = Node(bench.folder, bundle=None, settings=f"bundle:\n  file: {path}\n  key: |\n{inline}")
    bench.nodes.append(node)
    config = binary() + ["run", "--config", node.config]
    # Without a last good one there is nothing to start with.
    for text, signature, words in (
        (bundle(1), None, "live.yaml.sig"), (bundle(1), keys.sign(bundle(2)), "is not that of these"),
        (None, None, "live.yaml"),
    ):
        write(text, signature)
        done = subprocess.run(config, capture_output=True, text=True, timeout=10)
        equal((done.returncode, words in done.stderr), (1, True), done.stderr)
    write(bundle(3), keys.sign(bundle(3)))
    node.start()
    equal(node.decide("which", "ada")["value"], 3, "a signed file")
    wait_until(lambda: os.path.exists(os.path.join(node.data, "bundle.yaml")), 5, "it is kept")
    for text, signature, reason in (
        (bundle(4), None, "signature"), (bundle(4), keys.sign(bundle(3)), "signature"),
        (bundle(2), keys.sign(bundle(2)), "version"), (b"version: x", keys.sign(b"version: x"), "content"),
        (None, None, "unreachable"),
    ):
        write(text, signature)
        node.process.send_signal(signal.SIGHUP)
        wait_until(lambda: node.call("GET", "/readyz").json().get("bundleProblem") == reason, 10, f"{reason}: {node.log()}")
        equal(node.decide("which", "ada")["value"], 3, f"after {reason}")
        # At boot as at run time.
        node.kill()
        node.start()
        ready = node.call("GET", "/readyz").json()
        equal((ready["status"], ready["bundle"], ready["bundleProblem"]), ("stale", 3, reason), f"a start with {reason}")
        equal(node.decide("which", "ada")["value"], 3, f"a start with {reason}")
        check("the last good one is in force" in node.log(), node.log())
    write(bundle(4), keys.sign(bundle(4)))
    node.kill()
    node.start()
    equal(node.decide("which", "ada")["value"], 4, "a good one at the start")
    equal(node.call("GET", "/readyz").json()["status"], "fresh", "status")
    # A command takes no other bundle than the agent would: what it writes would be kept by a stranger's rules.
    node.stop()
    other = os.path.join(bench.folder, "other")
    shutil.copytree(node.data, other)
    merge = binary() + ["store", "merge", other, "--config", node.config]
    for signature, is_refused in ((None, True), (keys.sign(bundle(3)), True), (keys.sign(bundle(4)), False)):
        write(bundle(4), signature)
        done = subprocess.run(merge, capture_output=True, text=True, timeout=10)
        equal("live.yaml.sig" in done.stderr or "signature" in done.stderr, is_refused, done.stderr)
        check(done.returncode in (1, 3), done.returncode)


def test_bundle_commands_sign_verify_and_tell_apart(bench):
    keys, other = Keys(bench.folder), Keys(bench.folder, "other")
    path = os.path.join(bench.folder, "shop.yaml")

    def run(*arguments, expect=0):
        done = subprocess.run(binary() + ["bundle", *arguments], capture_output=True, text=True, timeout=10)
        equal(done.returncode, expect, f"exit of bundle {' '.join(arguments)} ({done.stdout}{done.stderr})")
        return done.stdout + done.stderr

    def write(name, text):
        with open(name, "wb") as file:
            file.write(text)

    write(path, bundle(7))
    equal(run("sign", path, "--key", keys.private), f"signed: {path}.sig\n", "sign")
    subprocess.run(["openssl", "dgst", "-sha256", "-verify", keys.public, "-signature", path + ".sig", path], check=True,
                   capture_output=True)
    equal(run("verify", path, "--key", keys.public), f"good: {path}.sig\n", "verify")
    elsewhere = os.path.join(bench.folder, "s")
    write(elsewhere, keys.sign(bundle(7)))
    equal(run("verify", path, "--key", keys.public, "--signature", elsewhere), f"good: {elsewhere}\n", "openssl's")
    check("did not make the signature" in run("verify", path, "--key", other.public, expect=1), "another key")
    write(path, bundle(8))
    check("did not make the signature" in run("verify", path, "--key", keys.public, expect=1), "other bytes")
    check("no public key in PEM" in run("verify", path, "--key", keys.private, expect=1), "the private key")
    check("no private key in PEM" in run("sign", path, "--key", keys.public, expect=1), "the public key")
    run("verify", path, "--key", keys.public, "--signature", elsewhere + ".none", expect=3)
    run("verify", path, "--key", path + ".none", expect=3)
    run("verify", path + ".none", "--key", keys.public, expect=3)
    write(path, bundle(8, rule="no_such_thing"))
    check(f"{path}:12:" in run("sign", path, "--key", keys.private, expect=1), "a bundle with a mistake is not signed")
    for arguments in ([], ["sign"], ["sign", path], ["verify", path], ["diff", path], ["turn", path],
                      ["diff", path, path, "--key", keys.public], ["sign", path, "--key"], ["verify", path, "--json"]):
        run(*arguments, expect=2)

    before, after = os.path.join(bench.folder, "a.yaml"), os.path.join(bench.folder, "b.yaml")
    write(before, bundle(7, more="  old: { variants: { a: 1 }, default: a }\n"
                         "  more: { variants: { a: 1, b: 2 }, default: a }\n"))
    write(after, bundle(8, when=", window: 10m", more="  new: { variants: { a: 1 }, default: a }\n"
                        "  more: { variants: { a: 1, b: 2 }, default: b, enabled: false }\nprofiles: { value: 1 + 1 }\n"))
    equal(run("diff", before, after).splitlines(), [
        "changed version: 7 → 8", "added attributes.orders.window", "changed decisions.which.variants: "
        '{"it":7,"other":-1} → {"it":8,"other":-1}', "removed decisions.old", 'changed decisions.more.default: "a" → "b"',
        "added decisions.more.enabled", "added decisions.new", "added profiles",
    ], "diff")
    equal(run("diff", before, before), "the same\n", "a bundle and itself")
    write(after, bundle(7).replace(b"userId, context.targetingKey", b"context.targetingKey, userId"))
    write(before, bundle(7))
    equal(run("diff", before, after), "changed identifiers.user_id.from: "
          '["userId","context.targetingKey"] → ["context.targetingKey","userId"]\n', "an order that matters")
    write(after, b"version: 1\nnonsense: 1\n")
    check(f"{after}:" in run("diff", before, after, expect=1), "a bundle that is wrong")
    run("diff", before, after + ".none", expect=3)


# On both sides of what fits into 32 and 64 bits, and into 32 once days are milliseconds or MiB are bytes.
NUMBERS = ["-1", "0", "2047", "2048", "24856", "2147483647", "2147483648", "4294967296", "8796093022208", "106751991168",
           "9223372036854775807", "9223372036854775808", "1e300"]
SETTINGS = """data: data
limits: { disk: 1GiB, memory: 64MiB, body: 512KiB, connections: 64 }
bundle: { url: "https://files.example/shop.yaml", key: owner.pem, poll: 5m }
"""


def with_other_numbers(text):
    """A text as often as it has numbers, times NUMBERS: each has another one, of the same unit."""
    for found in re.finditer(r"(?<![\w.])\d+(\.\d+)?(?=[a-zA-Z]{0,3}\b)", text):
        for number in NUMBERS:
            yield text[:found.start()] + number + text[found.end():]


def test_numbers_are_the_same_on_32_bits(bench):
    """What x86-64 says of bundles and configurations with numbers of every size, both ARMs say too; and decide by them."""
    with open(SHOP_BUNDLE) as file:
        texts = [*with_other_numbers(file.read()), *with_other_numbers(SETTINGS)]
    names = [f"{number}.yaml" for number in range(len(texts))]
    for name, text in zip(names, texts):
        with open(os.path.join(bench.folder, name), "w") as file:
            file.write(text)
    events = os.path.join(bench.folder, "events.ndjson")
    with open(events, "w") as file:
        for number in range(30):
            properties = {"order_id": str(number), "revenue": 150, "product_id": f"p-{number}", "category": "hats"}
            event = track("ada", "Order Completed" if number % 2 else "Product Viewed", properties,
                          timestamp=f"2026-11-{number + 1:02}T08:00:00Z")
            file.write(json.dumps(event) + "\n")

    def said(arch, *arguments):
        done = subprocess.run([*binary(arch), *arguments], cwd=bench.folder, capture_output=True, text=True, timeout=300)
        check(done.returncode in (0, 1), f"{arch} ended with {done.returncode} at {arguments[:4]}: {done.stderr[-500:]}")
        return (done.stdout + done.stderr).splitlines()

    said_by_x86 = said("x86_64", "check", *names)
    wrong = {line.split(":")[0] for line in said_by_x86}
    fitting = [name for name in names if name not in wrong and "decisions:" in texts[names.index(name)]]
    check(len(wrong) > 100 and len(fitting) > 20, f"{len(wrong)} are wrong, {len(fitting)} bundles are not")
    for arch in ("aarch64", "armv7"):
        equal(said(arch, "check", *names), said_by_x86, f"what {arch} says")
    for name in fitting[::len(fitting) // 6]:
        play = ["simulate", "--bundle", name, "--events", events]
        expected = said("x86_64", *play)
        check(len(expected) > 30, f"{name}: {expected}")
        equal(said("armv7", *play), expected, f"what armv7 decides by {name}")
