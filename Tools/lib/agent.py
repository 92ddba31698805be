"""What the Python tools share: a Gatehouse started in a folder of its own, and a plain HTTP connection to one.

Standard library only. A process is ended by its own handle, never by its name.
"""

import http.client
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
        self.command = [*runner, str(binary), command, "--config", str(self.config_file)]
        self.ready = ready
        self.process = None

    def start(self, timeout=20.0):
        """Starts the process; returns the seconds until it answered."""
        begin = time.monotonic()
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
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
    def is_tls(self):
        return "cert" in (self.settings.get("tls") or {})

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
    """One keep-alive connection that opens itself again after it was closed."""

    def __init__(self, url, timeout=10.0, ca=None):
        parts = urllib.parse.urlsplit(url)
        self.timeout = timeout
        self.host, self.port = parts.hostname, parts.port
        self.prefix = parts.path.rstrip("/")
        self.tls = None
        if parts.scheme == "https":
            self.tls = ssl.create_default_context(cafile=ca)
        self.inner = None

    def _open(self):
        if self.tls:
            inner = http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout, context=self.tls)
        else:
            inner = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        inner.connect()
        inner.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return inner

    def ask(self, method, path, body=None, headers=None):
        """Returns (status, headers, body bytes); raises OSError when the connection fails."""
        try:
            if self.inner is None:
                self.inner = self._open()
            self.inner.request(method, self.prefix + path, body=body, headers=headers or {})
            response = self.inner.getresponse()
            content = response.read()
            if response.will_close:
                self.close()
            return response.status, response.headers, content
        except http.client.HTTPException as error:
            self.close()
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        except OSError:
            self.close()
            raise

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
        if self.inner is not None:
            self.inner.close()
            self.inner = None


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
