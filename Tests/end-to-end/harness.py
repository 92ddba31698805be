"""Starts real agents and hubs in folders of their own and talks to them. Standard library only.

A test is a function whose name begins with `test_`; `run.py` finds and runs them. A process that a test starts is ended
by its number when the test is over, and its folder is removed.
"""

import base64
import gzip
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import uuid

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.append(os.path.join(TOP, "Tools", "lib"))

from agent import accounts, free_port, imbalance, samples

SHARED = os.path.join(os.path.dirname(TOP), "shared")
SHOP_BUNDLE = os.path.join(TOP, "Firmware-Config", "bundles", "shop.yaml")
CONSENT = {"consent": {"categoryPreferences": {"analytics": True, "personalization": True, "advertising": False}}}


class Skip(Exception):
    """Raised by a test that cannot run here; the words say why."""


class Failure(Exception):
    pass


def check(condition, words):
    if not condition:
        raise Failure(words)


def equal(seen, expected, what):
    if seen != expected:
        raise Failure(f"{what}: saw {seen!r}, expected {expected!r}")


def binary(arch="x86_64"):
    """The command that runs the static binary of an architecture here."""
    path = os.path.join(TOP, "dist", f"gatehouse-{arch}")
    if not os.path.exists(path):
        raise Failure(f"{path} is missing: run Tools/build --arch all")
    runner = {"x86_64": [], "aarch64": ["qemu-aarch64-static"], "armv7": ["qemu-arm-static"]}[arch]
    if runner and not shutil.which(runner[0]):
        raise Skip(f"{runner[0]} is not installed")
    return runner + [path]


def wait_until(condition, seconds, what, pause=0.05):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(pause)
    raise Failure(f"waited {seconds} s in vain: {what}")


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


class Node:
    """One running gatehouse, agent or hub."""

    def __init__(
        self, folder, command="run", arch="x86_64", bundle=SHOP_BUNDLE, settings="", tls=None, name=None, prefix=()
    ):
        self.folder, self.command, self.arch, self.tls, self.prefix = folder, command, arch, tls, list(prefix)
        self.name = name or command
        self.port = free_port()
        self.data = os.path.join(folder, f"{self.name}-data")
        self.config = os.path.join(folder, f"{self.name}.yaml")
        self.log_path = os.path.join(folder, f"{self.name}.log")
        self.process = None
        lines = [f"listen: 127.0.0.1:{self.port}", f"data: {self.data}", f"device: {self.name}"]
        if bundle:
            lines.append(f"bundle: {{ file: {bundle} }}")
        with open(self.config, "w") as file:
            file.write("\n".join(lines) + "\n" + settings + "\n")

    def start(self, wait=True):
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            self.prefix + binary(self.arch) + [self.command, "--config", self.config], stdout=log, stderr=log,
            stdin=subprocess.DEVNULL)
        log.close()
        if wait:
            wait_until(self.is_alive, 20, f"{self.name} does not answer; its log says:\n{self.log()}")
        return self

    def is_alive(self):
        if self.process.poll() is not None:
            raise Failure(f"{self.name} ended with {self.process.returncode}; its log says:\n{self.log()}")
        try:
            return self.call("GET", "/healthz", timeout=2).status == 200
        except OSError:
            return False

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()[-4000:]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """Ends it as an operator would, and insists that it ends well."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"{self.name} did not stop on SIGTERM within 15 s")
        if self.process.returncode != 0:
            raise Failure(f"{self.name} ended with {self.process.returncode}; its log says:\n{self.log()}")

    def connection(self, timeout=30):
        if self.tls:
            context = ssl.create_default_context(cafile=self.tls.authority)
            return http.client.HTTPSConnection("localhost", self.port, timeout=timeout, context=context)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def call(self, method, path, body=None, headers=None, timeout=30, connection=None):
        own = connection is None
        connection = connection or self.connection(timeout)
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        elif isinstance(body, str):
            body = body.encode()
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            if own:
                connection.close()

    def raw(self, data, timeout=5, shut=False):
        """Sends bytes as they are and returns everything that comes back until the server closes or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as plain:
            try:
                plain.sendall(data)
                if shut:
                    plain.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            received = b""
            try:
                while chunk := plain.recv(65536):
                    received += chunk
            except OSError:
                pass
            return received

    def batch(self, events, compress=False, expect=200, **outer):
        body = json.dumps({"batch": events, **outer}).encode()
        headers = {"Content-Type": "application/json"}
        if compress:
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        answer = self.call("POST", "/v1/batch", body, headers)
        equal(answer.status, expect, f"status of POST /v1/batch ({answer.body[:300]!r})")
        return answer

    def decide(self, key, targeting_key, **context):
        answer = self.call(
            "POST", f"/ofrep/v1/evaluate/flags/{key}", {"context": {"targetingKey": targeting_key, **context}})
        equal(answer.status, 200, f"status of the decision ({answer.body[:300]!r})")
        return answer.json()

    def profile(self, ref, expect=200):
        answer = self.call("GET", f"/v1/profiles/{ref}")
        equal(answer.status, expect, f"status of GET /v1/profiles/{ref} ({answer.body[:300]!r})")
        return answer.json()

    def metrics(self):
        """Samples of /metrics by their name with labels."""
        return samples(self.call("GET", "/metrics").body.decode())

    def accounts(self):
        """The terms of promise P7: those of collection, and those of each destination."""
        return accounts(self.metrics())

    def check_accounts(self):
        events, destinations = self.accounts()
        problem = imbalance(events, destinations)
        check(problem is None, problem)
        return events, destinations

    def rss_anon_kib(self):
        with open(f"/proc/{self.process.pid}/status") as file:
            for line in file:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1])


class TLSFiles:
    """A throw-away authority and a certificate for localhost and 127.0.0.1."""

    def __init__(self, folder):
        if not shutil.which("openssl"):
            raise Skip("openssl is not installed")
        self.authority = os.path.join(folder, "ca.pem")
        authority_key = os.path.join(folder, "ca.key")
        self.certificate = os.path.join(folder, "hub.pem")
        self.key = os.path.join(folder, "hub.key")
        request = os.path.join(folder, "hub.csr")
        extensions = os.path.join(folder, "hub.ext")
        with open(extensions, "w") as file:
            file.write(
                "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\n"
                "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\n")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        for arguments in (
            ["req", "-x509", *curve, "-keyout", authority_key, "-out", self.authority, "-days", "2", "-subj", "/CN=test CA",
             "-addext", "basicConstraints=critical,CA:TRUE,pathlen:0", "-addext", "keyUsage=critical,keyCertSign,cRLSign"],
            ["req", *curve, "-keyout", self.key, "-out", request, "-subj", "/CN=localhost"],
            ["x509", "-req", "-in", request, "-CA", self.authority, "-CAkey", authority_key, "-CAcreateserial", "-days",
             "2", "-out", self.certificate, "-extfile", extensions],
        ):
            subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Bench:
    """What a test works with: a folder, and the nodes that it starts there."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="gatehouse-test-")
        self.nodes = []

    def agent(self, **options):
        node = Node(self.folder, **options)
        self.nodes.append(node)
        return node.start()

    def hub(self, tls=None, bundle=None, settings="", **options):
        """A hub with TLS; `hub.tls.authority` is what its agents must trust. `tls` is that of another hub."""
        tls = tls or TLSFiles(self.folder)
        settings = f"tls: {{ cert: {tls.certificate}, key: {tls.key}, ca: {tls.authority} }}\n{settings}"
        node = Node(self.folder, command="hub", bundle=bundle, settings=settings, tls=tls, **options)
        self.nodes.append(node)
        return node.start()

    def agent_of(self, hub, bundle_changes=(), settings="", **options):
        """An agent whose destination `hub` is that hub."""
        with open(SHOP_BUNDLE) as file:
            text = file.read()
        text = text.replace("https://localhost:8471/v1/batch", f"https://localhost:{hub.port}/v1/batch")
        for before, after in bundle_changes:
            check(before in text, f"the sample bundle has no {before!r}")
            text = text.replace(before, after)
        bundle = os.path.join(self.folder, f"{options['name']}-bundle.yaml" if "name" in options else "bundle.yaml")
        with open(bundle, "w") as file:
            file.write(text)
        return self.agent(bundle=bundle, settings=f"tls: {{ ca: {hub.tls.authority} }}\n{settings}", **options)

    def close(self):
        problem = None
        for node in reversed(self.nodes):
            try:
                node.stop()
            except Failure as failure:
                problem = problem or failure
        shutil.rmtree(self.folder, ignore_errors=True)
        if problem:
            raise problem


def track(user, event, properties=None, **fields):
    message = {
        "type": "track", "event": event, "userId": user, "properties": properties or {}, "context": dict(CONSENT),
        "messageId": str(uuid.uuid4()),
    }
    message.update(fields)
    return message


def basic(token):
    return {"Authorization": "Basic " + base64.b64encode(f"{token}:".encode()).decode()}
