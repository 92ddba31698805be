"""What Tools/bench table holds the agent against, beside the C programs: nginx, nginx with Lua over Redis, SQLite, Redis and
rsyslog. Each is a program of Debian's, unpacked and not installed (Tools/bench says where), in a folder of its own, on
loopback, and ended by its own handle.
"""

import contextlib
import os
import pathlib
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))
from agent import free_port  # noqa: E402
from decisions import cpu_seconds  # noqa: E402

UNPACKED = HERE.parents[2] / ".build/debian"
REDIS = UNPACKED / "redis-tools/usr/bin/redis-check-rdb"  # One program, which is the server by the name redis-server.


def wait_for(port, process, what):
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.01)
    raise RuntimeError(f"{what} does not listen")


class Program:
    """A process with a folder of its own; a context manager that ends it. `others` have their CPU counted with it."""

    others = ()

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def start(self, command, port, runner=(), **more):
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(
            [*runner, *map(str, command)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **more)
        log.close()
        wait_for(port, self.process, command[0])
        self.url = f"http://127.0.0.1:{port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Redis(Program):
    """redis-server; durable: each answer after its sync."""

    def __init__(self, folder, durable=False, runner=()):
        super().__init__(folder)
        self.port = free_port()
        words = ["redis-server", "--port", self.port, "--bind", "127.0.0.1", "--dir", self.folder, "--save", "",
                 "--appendonly", "yes" if durable else "no", "--appendfsync", "always"]
        # Its name is how the program knows what it is to be: the runner's words stand before a shell that gives it one.
        line = 'exec -a redis-server "$0" "$@"'
        self.start(["bash", "-c", line, REDIS, *words[1:]], self.port, runner)

    def ask(self, *commands):
        """Sends commands in one go; returns what has come when as many lines began with an answer."""
        text = b"".join(b"*%d\r\n" % len(command) + b"".join(
            b"$%d\r\n%s\r\n" % (len(word), word) for word in map(str.encode, command)) for command in commands)
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as plain:
            plain.sendall(text)
            answer = b""
            while answer.count(b"\r\n") < len(commands):
                answer += plain.recv(65536)
        if b"-ERR" in answer:
            raise RuntimeError(f"redis: {answer[:200]}")
        return answer


class Nginx(Program):
    """nginx in one process: a constant, or what rules.lua answers over Redis."""

    def __init__(self, folder, path, constant=None, redis=None, runner=()):
        super().__init__(folder)
        port = free_port()
        modules, prelude = "", ""
        if redis:
            for package, name in (("ndk", "ndk_http_module"), ("lua", "ngx_http_lua_module")):
                modules += f"load_module {UNPACKED}/libnginx-mod-http-{package}/usr/lib/nginx/modules/{name}.so;\n"
            text = (HERE / "rules.lua").read_text().replace("REDIS_PORT", str(redis.port))
            (self.folder / "rules.lua").write_text(text)
            prelude = f'lua_package_path "{self.folder}/?.lua;/usr/share/lua/5.1/?.lua;;";\n'
            action = "default_type application/json; content_by_lua_block { require('rules').decide() }"
            self.others = (redis.process,)
        else:
            action = "default_type application/json; return 200 '" + constant + "';"
        temporary = " ".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in
                             ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (self.folder / "nginx.conf").write_text(
            f"{modules}daemon off; master_process off; worker_processes 1;\n"
            f"pid {self.folder}/pid; error_log {self.folder}/error;\n"
            f"events {{ worker_connections 8192; }}\n"
            f"http {{ access_log off; {temporary} keepalive_requests 1000000000;\n{prelude}"
            f"server {{ listen 127.0.0.1:{port} reuseport; location = {path} {{ {action} }} }} }}\n")
        self.start([UNPACKED / "nginx/usr/sbin/nginx", "-e", self.folder / "error", "-p", self.folder, "-c",
                    self.folder / "nginx.conf"], port, runner)


def write_profiles(redis, customers, when):
    """The people of decisions.seed, by the numbers in their names, as rules.lua reads them."""
    redis.ask(*[("HSET", f"profile:customer-{customer}", "revenue", "181", "orders", "2", "views", "4", "largest", "90.5",
                 "viewed", ",p-0,p-1,p-2,p-3,", "categories", ",c-0,c-1,", "country", "DE", "payment", "card",
                 "first_shop", "berlin", "store", "berlin", "seen_at", str(when), "vip", "1") for customer in customers])


# --- Durable ingest ------------------------------------------------------------------------------------------------


def sqlite_events(folder, event, seconds, batch):
    """Events a second into a table, WAL and synchronous=FULL, `batch` in a transaction, each under its id so that a repeat is
    none."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    store = sqlite3.connect(folder / "events.db", isolation_level=None)
    for line in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL",
                 "CREATE TABLE events (id TEXT PRIMARY KEY, body BLOB) WITHOUT ROWID"):
        store.execute(line)
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        store.execute("BEGIN IMMEDIATE")
        store.executemany("INSERT OR IGNORE INTO events VALUES (?, ?)", [(f"m-{count + n}", event) for n in range(batch)])
        store.execute("COMMIT")
        count += batch
    taken = time.perf_counter() - begin
    store.close()
    shutil.rmtree(folder)
    return count / taken


def redis_events(folder, event, count, connections):
    """Events a second into a stream, appendfsync always, under redis-benchmark."""
    with Redis(folder, durable=True) as redis:
        done = subprocess.run(
            [UNPACKED / "redis-tools/usr/bin/redis-benchmark", "-p", str(redis.port), "-c", str(connections),
             "-n", str(count), "--csv", "XADD", "events", "*", "id", "m-__rand_int__", "body", event],
            capture_output=True, text=True, check=True)
    shutil.rmtree(folder)
    last = done.stdout.strip().splitlines()[-1]
    # Name (the whole command), requests a second, and six latencies.
    return float(last.split('","')[-7])


# --- Delivery ------------------------------------------------------------------------------------------------------


class LineSink:
    """Takes lines over TLS and counts them."""

    def __init__(self, folder):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pathlib.Path(folder) / "hub.pem", pathlib.Path(folder) / "hub.key")
        self.count, self.listener = 0, None

    def listen(self, port):
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._take, args=(plain,), daemon=True).start()

    def _take(self, plain):
        try:
            with self.context.wrap_socket(plain, server_side=True) as stream:
                while piece := stream.recv(1 << 16):
                    self.count += piece.count(b"\n")
        except OSError:
            pass

    def close(self):
        self.listener.close()


class Rsyslog(Program):
    """rsyslogd that takes lines and forwards them over TLS, by way of a queue on disk that outlives it."""

    def __init__(self, folder, keys, target):
        super().__init__(folder)
        self.target, self.keys = target, keys
        (self.folder / "queue").mkdir()
        self.port = free_port()
        (self.folder / "rsyslog.conf").write_text(
            f'global(workDirectory="{self.folder}/queue" DefaultNetstreamDriverCAFile="{keys}/ca.pem" maxMessageSize="64k")\n'
            'module(load="imptcp")\n'
            f'input(type="imptcp" address="127.0.0.1" port="{self.port}" ruleset="forward")\n'
            'template(name="line" type="string" string="%msg%\\n")\n'
            f'ruleset(name="forward") {{ action(type="omfwd" target="localhost" port="{target}" protocol="tcp"\n'
            '  template="line" StreamDriver="ossl" StreamDriverMode="1" StreamDriverAuthMode="x509/name"\n'
            '  StreamDriverPermittedPeers="localhost" action.resumeRetryCount="-1" action.resumeInterval="1"\n'
            '  action.resumeIntervalMax="1" queue.type="LinkedList" queue.filename="events"\n'
            '  queue.maxDiskSpace="8g" queue.size="100000" queue.highWatermark="500" queue.lowWatermark="100"\n'
            '  queue.dequeueBatchSize="1024" queue.timeoutEnqueue="60000") }\n')
        folders = [UNPACKED / name / "usr/lib/x86_64-linux-gnu/rsyslog" for name in ("rsyslog", "rsyslog-openssl")]
        self.start([UNPACKED / "rsyslog/usr/sbin/rsyslogd", "-n", "-f", self.folder / "rsyslog.conf",
                    "-i", self.folder / "pid", "-M", ":".join(map(str, folders))], self.port,
                   env={**os.environ, "LC_ALL": "C"})

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def cpu(self):
        """Of all threads so far, also those that have ended; microseconds."""
        return cpu_seconds(self.process) * 1e6

    def feed(self, event, count):
        line = b"<14>1 2026-01-31T09:30:00Z till gatehouse - - - " + event + b"\n"
        with socket.create_connection(("127.0.0.1", self.port)) as plain:
            for _ in range(count // 100):
                plain.sendall(line * 100)

    def waiting(self):
        """Bytes of its queue."""
        size = 0
        for file in (self.folder / "queue").iterdir():
            with contextlib.suppress(FileNotFoundError):  # It moves files meanwhile.
                size += file.stat().st_size
        return size


def rsyslog_drain(folder, keys, event, count):
    """Lines a second at the other end of a backlog that has waited on disk; and the process's CPU for each, microseconds. It
    is not started anew in between: it may take its time to end while nobody listens."""
    target = free_port()
    sink = LineSink(keys)
    with Rsyslog(folder, keys, target) as rsyslog:
        rsyslog.feed(event, count)
        wanted, size, begin = count // 100 * 100, -1, time.monotonic()
        # All but those that it keeps in memory.
        least = 0.7 * wanted * len(event)
        while (rsyslog.waiting() != size or size < least) and time.monotonic() - begin < 60:
            size = rsyslog.waiting()
            time.sleep(0.5)
        if size < least:
            raise RuntimeError(f"only {size} bytes of {wanted} events are in its queue")
        try:
            used = rsyslog.cpu()
            sink.listen(target)
            # It waits a moment before it tries again: from the first line on.
            begin = time.monotonic()
            while sink.count == 0 and time.monotonic() - begin < 60:
                time.sleep(0.002)
            begin, first = time.monotonic(), sink.count
            while sink.count < wanted and time.monotonic() - begin < 300:
                time.sleep(0.002)
            seconds = time.monotonic() - begin
            if sink.count < wanted:
                raise RuntimeError(f"{sink.count} of {wanted} lines have come")
            used = rsyslog.cpu() - used
        finally:
            sink.close()
    shutil.rmtree(folder)
    return {"events_per_second": (wanted - first) / max(seconds, 0.001), "cpu_us": used / wanted}
