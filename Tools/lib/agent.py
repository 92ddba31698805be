"""What the Python tools share: a Gatehouse started in a folder of its own, and a plain HTTP connection to one.

Standard library only. A process is ended by its own handle, never by its name.
"""

import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import time
import urllib.parse

TOP = pathlib.Path(__file__).resolve().parents[2]
DEFAULT_BINARY = TOP / "dist" / "gatehouse-x86_64"


def free_port():
    """A port of loopback that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Agent:
    """A `gatehouse run` (or `hub`) with its configuration, data and log in `folder`; a context manager that ends it."""

    def __init__(self, folder, binary=DEFAULT_BINARY, config=None, command="run", runner=(), port=None,
                 ready="/healthz"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.config_file = self.folder / "gatehouse.yaml"
        self.log_file = self.folder / f"{command}.log"
        settings = {"listen": f"127.0.0.1:{self.port}", "data": str(self.folder / "data")}
        settings.update(config or {})
        self.settings = settings
        self.config_file.write_text(json.dumps(settings, indent=1))
        # Its own session: an interrupt at the terminal reaches the tool, which then ends the agent in good order.
        self.command = [*runner, str(binary), command, "--config", str(self.config_file)]
        self.ready = ready
        self.is_tls = command == "hub" and "cert" in (settings.get("tls") or {})
        self.process = None

    def start(self, timeout=20.0):
        """Starts the process; returns the seconds until it answered."""
        begin = time.monotonic()
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        while time.monotonic() - begin < timeout:
            if self.process.poll() is not None:
                raise RuntimeError(f"{' '.join(self.command)} ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                if self.is_tls:
                    socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                    return time.monotonic() - begin
                status, _, _ = Connection(self.url, timeout=1).ask("GET", self.ready)
                if status < 500:
                    return time.monotonic() - begin
            except OSError:
                pass
            time.sleep(0.01)
        raise RuntimeError(f"{' '.join(self.command)} did not answer within {timeout:.0f} s:\n{self.log_tail()}")

    @property
    def url(self):
        return f"{'https' if self.is_tls else 'http'}://127.0.0.1:{self.port}"

    def log_tail(self, lines=15):
        text = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def kill(self):
        """Ends it as a power cut would."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self, timeout=10.0):
        """Asks it to end; returns its exit status."""
        if not self.process:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()


class Connection:
    """One keep-alive connection that opens itself again after it was closed. A client of its own, because http.client
    takes longer for a request than the agent does, and it is the agent that is measured."""

    def __init__(self, url, timeout=10.0, ca=None):
        parts = urllib.parse.urlsplit(url)
        self.timeout = timeout
        self.host, self.port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self.prefix = parts.path.rstrip("/")
        self.tls = ssl.create_default_context(cafile=ca) if parts.scheme == "https" else None
        self.socket = None
        self.rest = b""

    def open(self):
        """Connects, if it is not connected; raises OSError."""
        if self.socket is None:
            plain = socket.create_connection((self.host, self.port), timeout=self.timeout)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket = self.tls.wrap_socket(plain, server_hostname=self.host) if self.tls else plain
            self.rest = b""

    def ask(self, method, path, body=None, headers=None):
        """Returns (status, headers with lower-case names, body bytes); raises OSError when the connection fails."""
        lines = [f"{method} {self.prefix}{path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        request = "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")
        try:
            self.open()
            self.socket.sendall(request)
            return self._response(method)
        except BaseException:
            self.close()
            raise

    def _response(self, method):
        while True:
            head = self._until(b"\r\n\r\n")
            first, *fields = head.decode("latin-1").split("\r\n")
            status = int(first.split(" ", 2)[1])
            if status >= 200:
                break
        headers = {}
        for field in fields:
            name, _, value = field.partition(":")
            headers[name.strip().lower()] = value.strip()
        if method == "HEAD" or status in (204, 304):
            content = b""
        elif "chunked" in headers.get("transfer-encoding", ""):
            content = b""
            while size := int(self._until(b"\r\n").split(b";")[0], 16):
                content += self._exactly(size)
                self._exactly(2)
            while self._until(b"\r\n"):
                pass
        elif "content-length" in headers:
            content = self._exactly(int(headers["content-length"]))
        else:
            content = self.rest
            while part := self.socket.recv(65536):
                content += part
            self.close()
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status, headers, content

    def _more(self):
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionError("the connection was closed before the answer was complete")
        self.rest += part

    def _until(self, mark):
        while (end := self.rest.find(mark)) < 0:
            self._more()
        found, self.rest = self.rest[:end], self.rest[end + len(mark):]
        return found

    def _exactly(self, count):
        while len(self.rest) < count:
            self._more()
        found, self.rest = self.rest[:count], self.rest[count:]
        return found

    def ask_json(self, method, path, value=None, headers=None):
        """The same with JSON both ways; the body is None where it is empty or no JSON."""
        headers = dict(headers or {})
        body = None
        if value is not None:
            body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
            headers.setdefault("Content-Type", "application/json")
        status, fields, content = self.ask(method, path, body, headers)
        try:
            return status, fields, json.loads(content) if content else None
        except ValueError:
            return status, fields, None

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def samples(page):
    """The samples of a /metrics page (text) by name with labels."""
    found = {}
    for line in page.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def accounts(metrics):
    """The terms of promise P7 in `samples`: those of collection, and those of each destination by its name."""
    events, destinations = {}, {}
    for name, value in metrics.items():
        if name.startswith("gatehouse_events_total{"):
            events[name.split('"')[1]] = int(value)
        elif name.startswith("gatehouse_destination_events{"):
            parts = name.split('"')
            destinations.setdefault(parts[1], {})[parts[3]] = int(value)
    return events, destinations


def imbalance(events, destinations):
    """What does not add up in `accounts`, in words, or None: both sums of promise P7."""
    if "received" not in events:
        return f"no accounts in /metrics: {events}"
    rest = sum(value for name, value in events.items() if name != "received")
    if events["received"] != rest:
        return f"{events['received']} received and {rest} accounted for ({events})"
    for name, terms in destinations.items():
        rest = sum(value for term, value in terms.items() if term not in ("admitted", "rejected"))
        if terms["admitted"] != rest:
            return f"destination {name}: {terms['admitted']} admitted and {rest} accounted for ({terms})"
    return None


def arrivals(hub, headers=None):
    """Yields every message that a hub has, in the order of arrival; `hub` is a Connection to it."""
    last = 0
    while True:
        status, _, answer = hub.ask_json("GET", f"/v1/arrivals?after={last}&limit=500", headers=headers)
        if status != 200:
            raise RuntimeError(f"the hub answers {status} to GET /v1/arrivals")
        if not answer["arrivals"]:
            return
        yield from answer["arrivals"]
        last = answer["last"]


def process_memory_kib(pid):
    """Anonymous memory (RssAnon) of a process in KiB, or None where the kernel does not say."""
    try:
        for line in open(f"/proc/{pid}/status"):
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    except OSError:
        pass
    return None


def environment_runner():
    """A prefix such as `qemu-aarch64-static` from GATEHOUSE_RUNNER, for binaries of another architecture."""
    return os.environ.get("GATEHOUSE_RUNNER", "").split()
