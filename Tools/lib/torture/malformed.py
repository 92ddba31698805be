"""Malformed and ambiguous HTTP requests. Whatever two programs on the way could read differently is refused, and the
connection closed, so that nothing behind it is taken for a request; what is unambiguous is answered, once.

Each is followed on the same connection by a request that writes an event. That event is there exactly if the first request
was answered and the connection left open.
"""

import json
import re
import socket

from device import Device, check, event

HOST = b"Host: localhost\r\n"
TARGET = "/ofrep/v1/evaluate/flags/layout"
BODY = b'{"context":{"targetingKey":"a"}}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
JSON = b"Content-Type: application/json\r\n"


def post(*fields, body=BODY, line=b"POST /ofrep/v1/evaluate/flags/layout HTTP/1.1\r\n", host=HOST):
    return line + host + JSON + b"".join(fields) + b"\r\n" + body


def get(*fields, target=b"/healthz", version=b"HTTP/1.1", host=HOST, method=b"GET"):
    return method + b" " + target + b" " + version + b"\r\n" + host + b"".join(fields) + b"\r\n"


def chunked(body, *fields):
    return post(b"Transfer-Encoding: chunked\r\n", *fields, body=body)


WHOLE = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
REFUSED, ANSWERED, EITHER = "refused", "answered", "refused or answered"

# What it is, its bytes, what must come of it. REFUSED: one answer of 400 or more, and the connection is closed.
REQUESTS = [
    ("two lengths that differ", post(LENGTH, b"Content-Length: 3\r\n"), REFUSED),
    ("a list of lengths that differ", post(b"Content-Length: %d, 3\r\n" % len(BODY)), REFUSED),
    ("two equal lengths", post(LENGTH, LENGTH), EITHER),
    ("a length and chunks", post(LENGTH, b"Transfer-Encoding: chunked\r\n", body=WHOLE), REFUSED),
    ("chunks and a length", post(b"Transfer-Encoding: chunked\r\n", LENGTH, body=WHOLE), REFUSED),
    ("a length with a sign", post(b"Content-Length: +%d\r\n" % len(BODY)), REFUSED),
    ("a negative length", post(b"Content-Length: -1\r\n"), REFUSED),
    ("a length in hexadecimal", post(b"Content-Length: 0x20\r\n"), REFUSED),
    ("a length beyond 64 bits", post(b"Content-Length: 18446744073709551648\r\n"), REFUSED),
    ("a length with a space inside", post(b"Content-Length: 3 2\r\n"), REFUSED),
    ("an empty length", post(b"Content-Length:\r\n"), REFUSED),
    ("a space before the colon of a length", post(b"Content-Length : %d\r\n" % len(BODY)), REFUSED),
    ("a space before the colon of chunks", post(LENGTH, b"Transfer-Encoding : chunked\r\n"), REFUSED),
    ("another coding", post(b"Transfer-Encoding: gzip, chunked\r\n", body=WHOLE), REFUSED),
    ("chunks that are not last", post(b"Transfer-Encoding: chunked, identity\r\n", body=WHOLE), REFUSED),
    ("chunked twice", post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", body=WHOLE), REFUSED),
    ("a coding that looks like chunked", post(b"Transfer-Encoding: xchunked\r\n", body=WHOLE), REFUSED),
    ("a coding with a vertical tab", post(b"Transfer-Encoding: \x0bchunked\r\n", body=WHOLE), REFUSED),
    ("chunks in HTTP/1.0", post(b"Transfer-Encoding: chunked\r\n", body=WHOLE,
                                line=b"POST /ofrep/v1/evaluate/flags/layout HTTP/1.0\r\n"), REFUSED),
    ("whole chunks", chunked(WHOLE), ANSWERED),
    ("chunks with an extension", chunked(b"%x;name=value\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)), EITHER),
    ("chunks with a line feed in an extension", chunked(b"%x;a\nb\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)), REFUSED),
    ("a chunk extension of 64 KiB", chunked(b"%x;%s\r\n%s\r\n0\r\n\r\n" % (len(BODY), b"a" * 65536, BODY)), REFUSED),
    ("a chunk size beyond 64 bits", chunked(b"1" + b"0" * 15 + b"20\r\n%s\r\n0\r\n\r\n" % BODY), REFUSED),
    ("a chunk size that is none", chunked(b"zz\r\n%s\r\n0\r\n\r\n" % BODY), REFUSED),
    ("a chunk size with a sign", chunked(b"+%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)), REFUSED),
    ("a chunk size with 0x", chunked(b"0x%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)), REFUSED),
    ("a chunk without its end of line", chunked(b"%x\r\n%sXX0\r\n\r\n" % (len(BODY), BODY)), REFUSED),
    ("a chunk size before a bare line feed", chunked(b"%x\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)), REFUSED),
    ("a trailer with a length", chunked(b"%x\r\n%s\r\n0\r\nContent-Length: 5\r\n\r\n" % (len(BODY), BODY)), EITHER),
    ("bare line feeds", b"GET /healthz HTTP/1.1\nHost: localhost\n\n", REFUSED),
    ("a bare line feed between fields", get(b"X: a\nContent-Length: 10\r\n"), REFUSED),
    ("a bare carriage return in a value", get(b"X: a\rContent-Length: 10\r\n"), REFUSED),
    ("a folded field", get(b"X: a\r\n b\r\n"), REFUSED),
    ("a folded chunked", post(LENGTH, b"Transfer-Encoding:\r\n chunked\r\n"), REFUSED),
    ("a space before the first field", b"GET /healthz HTTP/1.1\r\n " + HOST + b"\r\n", REFUSED),
    ("a NUL in a value", get(b"X: a\0b\r\n"), REFUSED),
    ("a NUL in a name", get(b"X\0: a\r\n"), REFUSED),
    ("a NUL in the target", get(target=b"/health\0z"), REFUSED),
    ("a field without a colon", get(b"nothing\r\n"), REFUSED),
    ("a field without a name", get(b": value\r\n"), REFUSED),
    ("a name with a space", get(b"Content Length: 5\r\n"), REFUSED),
    ("a name that is no ASCII", get(b"X-\xc3\xa4: 1\r\n"), REFUSED),
    ("no Host", get(host=b""), REFUSED),
    ("two Hosts", get(HOST), REFUSED),
    ("two Hosts that differ", get(b"Host: evil.example\r\n"), REFUSED),
    ("an empty Host", get(host=b"Host:\r\n"), REFUSED),
    ("another Host", get(host=b"Host: evil.example\r\n"), REFUSED),
    ("a Host with a name and a password", get(host=b"Host: localhost@evil.example\r\n"), REFUSED),
    ("a whole address of another host", get(target=b"http://evil.example/healthz"), REFUSED),
    ("a whole address of this host", get(target=b"http://localhost/healthz"), EITHER),
    ("CONNECT", get(target=b"evil.example:443", method=b"CONNECT"), REFUSED),
    ("a method that is none", get(method=b"G(T"), REFUSED),
    ("a method in small letters", get(method=b"get"), REFUSED),
    ("no version", b"GET /healthz\r\n\r\n", REFUSED),
    ("version 1.10", get(version=b"HTTP/1.10"), REFUSED),
    ("version 2", get(version=b"HTTP/2.0"), REFUSED),
    ("version 1.1 in small letters", get(version=b"http/1.1"), REFUSED),
    ("the beginning of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", REFUSED),
    ("three spaces in the first line", b"GET  /healthz  HTTP/1.1\r\n" + HOST + b"\r\n", REFUSED),
    ("a tab in the first line", b"GET\t/healthz HTTP/1.1\r\n" + HOST + b"\r\n", REFUSED),
    ("a space at the end of the first line", b"GET /healthz HTTP/1.1 \r\n" + HOST + b"\r\n", REFUSED),
    ("a target with a space", get(target=b"/health z"), REFUSED),
    ("a target without a slash", get(target=b"healthz"), REFUSED),
    ("a target with a fragment", get(target=b"/healthz#a"), EITHER),
    ("a target with a percent sign and no digits", get(target=b"/v1/profiles/user_id:%zz"), "answered by 400"),
    ("a target that ends in a percent sign", get(target=b"/v1/profiles/user_id:a%"), "answered by 400"),
    ("a target with a NUL in percent", get(target=b"/v1/profiles/user_id:%00"), "answered by 400"),
    ("a target with dots", get(target=b"/v1/../healthz"), "answered by 404"),
    ("a target of 64 KiB", get(target=b"/" + b"a" * 65536), REFUSED),
    ("a field of 64 KiB", get(b"X: " + b"a" * 65536 + b"\r\n"), REFUSED),
    ("a thousand fields", get(*[b"X%d: a\r\n" % number for number in range(1000)]), REFUSED),
    ("Upgrade to HTTP/2",
     get(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"), ANSWERED),
    ("an expectation that is none", post(LENGTH, b"Expect: the unexpected\r\n"), EITHER),
    ("a length for GET", get(b"Content-Length: 5\r\n") + b"hello", EITHER),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32), REFUSED),
    ("eight thousand NULs", bytes(8000), REFUSED),
    ("a PROXY line before it", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + get(), REFUSED),
]


def answers(received):
    """The status lines of all answers in what came back."""
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def exchange(port, data, timeout=1.5):
    """Sends bytes; returns what came back and whether the connection was closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as plain:
        received = b""
        try:
            plain.sendall(data)
            while part := plain.recv(65536):
                received += part
            return received, True
        except TimeoutError:
            return received, False
        except OSError:
            return received, True


def run(folder, only=None):
    """Sends each; returns what was seen."""
    counted = {"refused": 0, "answered": 0}
    device = Device(folder)
    device.start()
    try:
        for number, (what, request, expected) in enumerate(REQUESTS):
            if only and number % only:
                continue
            who = f"behind-{number}"
            body = json.dumps(event(who, f"{who}-0")).encode()
            behind = (b"POST /v1/track HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                      b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)) + body
            received, is_closed = exchange(device.agent.port, request + behind)
            seen = answers(received)
            check(is_closed, f"{what}: the connection stays open, with {received[:200]!r}")
            check(seen, f"{what}: no answer")
            is_there = device.orders(who) is not None
            if expected == REFUSED or (expected == EITHER and seen[0] >= 400 and len(seen) == 1):
                check(len(seen) == 1 and seen[0] >= 400, f"{what}: answered {seen}: {received[:300]!r}")
                check(not is_there, f"{what}: what stood behind it was taken for a request")
                counted["refused"] += 1
            else:
                first = int(expected[-3:]) if expected.startswith("answered by") else None
                check(first in (None, seen[0]) and (first or seen[0] < 400), f"{what}: answered {seen}: {received[:300]!r}")
                check(len(seen) == 2 and is_there, f"{what}: {seen}, and of the request behind it there is {is_there}")
                counted["answered"] += 1
            status, _, _ = device.ask("GET", "/healthz")
            check(status == 200, f"after {what} a new connection is answered {status}")
        device.check_accounts()
        check(device.agent.stop() == 0, f"it did not end well: {device.log_tail()}")
        return counted
    finally:
        device.agent.kill()
