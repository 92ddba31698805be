"""Clients that are slow, too many, or do not read: decisions are answered beside them, and afterwards all is as before."""

import json
import os
import resource
import signal
import socket
import threading
import time

from device import Broken, Device, Load, check, event


# What is in Sources/Serving/Limits.swift: connections by default, and seconds until a request's head or body must have come.
CONNECTIONS, REQUEST_SECONDS = 1024, 10
# Anonymous memory at most, KiB (P10), and milliseconds of a decision beside all this, on a machine that does other things.
MEMORY_AT_MOST, WAITS_AT_MOST = 8 * 1024, 2000


class Bystander:
    """Somebody who asks for a decision again and again while something else goes on, on one connection."""

    def __init__(self, device, user="ada"):
        self.device, self.user = device, user
        self.milliseconds, self.problems = [], []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self):
        self.connection = self.device.connection(timeout=5)
        self._ask_once()  # it is in before the others come
        self.thread.start()
        return self

    def _ask(self):
        while not self.stopping.is_set():
            self._ask_once()
            time.sleep(0.002)

    def _ask_once(self):
        begin = time.monotonic()
        try:
            status, _, answer = self.connection.ask_json(
                "POST", "/ofrep/v1/evaluate/flags/checkout_offer", {"context": {"targetingKey": self.user}})
            if status != 200 or answer["variant"] != "five":
                self.problems.append(f"{status} {answer}")
        except OSError as problem:
            self.problems.append(repr(problem))
        self.milliseconds.append((time.monotonic() - begin) * 1000)

    def __exit__(self, *_):
        self.stopping.set()
        self.thread.join()
        self.connection.close()

    def words(self):
        """What was seen; every question must have been answered, and rightly."""
        failed = f"{len(self.problems)} of {len(self.milliseconds)} decisions beside it failed: {self.problems[:1]}"
        check(not self.problems, failed)
        check(len(self.milliseconds) > 20, f"only {len(self.milliseconds)} decisions were asked for")
        times = sorted(self.milliseconds)
        check(times[-1] < WAITS_AT_MOST, f"a decision beside it took {times[-1]:.0f} ms")
        return (f"{len(times):,} decisions beside it, all right, half within {times[len(times) // 2]:.1f} ms, "
                f"the last after {times[-1]:.0f} ms")


def started(folder, settings=None, **options):
    """A device that knows Ada, who has bought three times."""
    device = Device(folder, settings=settings, **options)
    device.start()
    for number in range(3):
        check(device.ask("POST", "/v1/track", event("ada", f"ada-{number}"))[0] == 200, "an event")
    return device


def finish(device, what):
    """It lives, a new client is served, an event is taken, the accounts hold, and it ends well."""
    end = time.monotonic() + 15
    while True:
        try:
            check(device.decision("ada", timeout=3) == "five", f"after {what} a decision is wrong")
            status = device.ask("POST", "/v1/track", event("ben", f"after {what}"))[0]
            check(status == 200, f"after {what} an event is answered {status}")
            break
        except (OSError, Broken):
            if device.agent.process.poll() is not None or time.monotonic() > end:
                raise
            time.sleep(0.1)
    device.check_accounts()
    status = device.agent.stop()
    check(status == 0, f"after {what} it ends with {status}: {device.log_tail()}")


def connections(port, count):
    """Up to `count` open connections, and how many could not be made."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + 200)), hard))
    made, refused = [], 0
    for _ in range(count):
        plain = socket.socket()
        plain.settimeout(2)
        try:
            plain.connect(("127.0.0.1", port))
            made.append(plain)
        except OSError:
            plain.close()
            refused += 1
    return made, refused


def closed(sockets):
    """How many of the connections the other side has closed or answered."""
    count = 0
    for plain in sockets:
        plain.setblocking(False)
        try:
            plain.recv(4096)
            count += 1
        except BlockingIOError:
            pass
        except OSError:
            count += 1
    return count


def flood(folder, count):
    """Many connections at once that say nothing, then as many with half a request each."""
    device = started(folder)
    try:
        with Bystander(device) as bystander:
            made, refused = connections(device.agent.port, count)
            for number, plain in enumerate(made):
                try:
                    plain.send(b"POST /v1/track HTTP/1.1\r\nHost: localhost\r\nContent-Le" if number % 2 else b"G")
                except OSError:
                    pass
            time.sleep(0.5)
            shut, kib = closed(made), anonymous_kib(device)
            for plain in made:
                plain.close()
        words = bystander.words()
        check(len(made) - shut < CONNECTIONS, f"of {len(made)} connections only {shut} were turned away")
        check(kib < MEMORY_AT_MOST, f"they take {kib} KiB of memory")
        finish(device, "a flood")
        return f"{len(made):,} connections made, {shut:,} of them turned away, {refused} not taken, {kib:,} KiB of memory; {words}"
    finally:
        device.agent.kill()


def slow(folder, count, seconds):
    """Heads and bodies that come a byte at a time, and answers that nobody reads."""
    device = started(folder)
    body = json.dumps(event("slow", "slow")).encode()
    whole = (b"POST /v1/track HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
             % len(body)) + body
    try:
        with Bystander(device) as bystander:
            made, _ = connections(device.agent.port, count)
            begin, place = time.monotonic(), 0
            head = whole.index(b"\r\n\r\n") + 4
            alive = list(made)
            while time.monotonic() - begin < seconds:
                for number, plain in enumerate(list(alive)):
                    # Half of them dribble their head, the others their body, and none of them ever ends.
                    start = 0 if number % 2 else head
                    try:
                        if place == 0 and start:
                            plain.send(whole[:head])
                        plain.send(whole[start + place % 60:start + place % 60 + 1])
                    except OSError:
                        alive.remove(plain)
                place += 1
                time.sleep(0.2)
            shut, kib = closed(made), anonymous_kib(device)
            for plain in made:
                plain.close()
        words = bystander.words()
        if seconds >= REQUEST_SECONDS + 2:
            check(shut == len(made), f"of {len(made)} slow clients only {shut} were turned away")
        check(kib < MEMORY_AT_MOST, f"they take {kib} KiB of memory")
        check(device.orders("slow") is None, "half an event was taken")
        finish(device, "slow clients")
        return f"{len(made)} clients with a byte in 0.2 s for {seconds} s, {shut} turned away, {kib:,} KiB of memory; {words}"
    finally:
        device.agent.kill()


def deaf(folder, count, requests):
    """Clients that send request after request and read none of the answers."""
    device = started(folder)
    one = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    try:
        with Bystander(device) as bystander:
            made, _ = connections(device.agent.port, count)
            sent = 0
            for plain in made:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                plain.setblocking(False)
            for _ in range(requests):
                for plain in made:
                    try:
                        sent += plain.send(one)
                    except OSError:
                        pass
                time.sleep(0.005)
            time.sleep(0.5)
            kib = anonymous_kib(device)
            for plain in made:
                plain.close()
        words = bystander.words()
        check(kib < MEMORY_AT_MOST, f"they take {kib} KiB of memory")
        finish(device, "clients that do not read")
        return f"{count} clients, {sent // len(one):,} requests unread, {kib} KiB of memory; {words}"
    finally:
        device.agent.kill()


def anonymous_kib(device):
    with open(f"/proc/{device.agent.process.pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon:"))


def stopped(folder, rounds):
    """SIGSTOP in the middle of a load: what was asked meanwhile is answered after SIGCONT, and nothing is lost."""
    device = started(folder, name="s")
    load = Load(device)
    try:
        for _ in range(rounds):
            load.begin()
            time.sleep(0.1)
            os.kill(device.agent.process.pid, signal.SIGSTOP)
            time.sleep(0.3)
            os.kill(device.agent.process.pid, signal.SIGCONT)
            time.sleep(0.1)
            load.end()
        acknowledged, states, under_way = load.snapshot()
        check(len(acknowledged) == len(load.sent), f"{len(load.sent)} sent, {len(acknowledged)} answered: {load.answers}")
        there = load.check_log(acknowledged)
        load.check_device(there, states, under_way)
        finish(device, "SIGSTOP")
        return f"{rounds} times for 0.3 s, {len(acknowledged) * load.events:,} events, every one answered"
    finally:
        load.end()
        device.agent.kill()

