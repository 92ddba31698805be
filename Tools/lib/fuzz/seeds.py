"""Writes what Tools/fuzz begins with: a file for each input, and libFuzzer's dictionary of the format's words.

  seeds.py TARGET FOLDER DICTIONARY

A target is a function of this file that gives its inputs, and an entry of WORDS.
"""

import base64
import gzip
import json
import pathlib
import re
import sys
import zlib

TOP = pathlib.Path(__file__).resolve().parents[3]
SHARED = TOP.parent / "shared/conformance"

WORDS = {
    "cel": """&& || ! == != < <= > >= in + - * / % ? : ( ) [ ] { } . , .? [? true false null 0 1u 1.5 1e308
0x7fffffffffffffff 9223372036854775807 -9223372036854775808 '' "" b'\\xff' r'' ''' \\u0000 .all( .exists( .exists_one( .map(
.filter( has( .transformList( .transformMap( .transformMapEntry( cel.bind( optional.of( optional.none() .orValue( .optMap(
.optFlatMap( .value() .hasValue() .matches( .format([ .substring( .replace( .split( .join( .indexOf( .charAt( .reverse()
.trim() .lowerAscii() .startsWith( .endsWith( .contains( .size() strings.quote( math.greatest( math.bitShiftLeft(
math.round( base64.encode( base64.decode( timestamp( duration( .getHours( .getFullYear( ip( cidr( .containsIP( .masked()
string( int( uint( double( bytes( bool( type( dyn( size( profile. profile.orders profile.ltv profile.country profile.tags
profile.vip profile.none profile.never profile.any profile.categories profile.age now event. event.properties. context.
context.channel context.list 'gold' 'kiosk' "Order-Completed" %s %d %.2f %x %e [a-z]+ (?i) \\b \\p{L} {2,3}""".split(),
    "json": """{ } [ ] , : "" "a": null true false 0 -0 1 0.1 1e1 1E+1 e-400 e308 1.7976931348623157e308 4.9e-324 2.2250738585072011e-308
9007199254740993 9223372036854775807 -9223372036854775808 18446744073709551616 0.30000000000000004 \\u0000 \\ud83d \\ude00
\\ud83d\\ude00 \\udfff \\uFFFF \\" \\\\ \\/ \\b \\f \\n \\r \\t é 😀 \x7f \u2028 \ufeff""".split(),
    "gzip": ["\x1f\x8b\x08", "\x1f\x8b\x08\x1f", "\x03\x00", "\x00\x00\x00\xff\xff", "\xff\xff\xff\xff", "\x04\xc1"],
    "cloudevents": """ce-id: ce-source: ce-specversion: ce-type: ce-subject: ce-time: ce-userid: ce-anonymousid: Content-Type:
application/json text/plain +json;charset= 1.0 "id": "source": "specversion": "type": "subject": "time": "data":
"data_base64": "datacontenttype": "dataschema": "userid": "anonymousid": "userId": "track" %C3%A9 %20 % %zz 2026-01-31T09:30:00Z
{ } [ ] , : "" true 0 -1 2147483648""".split(),
    "consent": """~ . DBAA DBABM DBACNY DBABLA DBABTA 1YNN 1YYY 1--- 1YNY QA YA IAAA QAAA YAAAAAAAAAAA CAAA BAAA
\xff\xff""".split(),
    "http": ["\r\n", "\r\n\r\n", "\n", "\r", " ", "\t", ": ", ":", ",", ";", "=", "\"", "?", "#", "%00", "%2F", "/", "*", "GET ",
             "POST ", "PUT ", "HEAD ", "DELETE ", "PATCH ", "OPTIONS ", "CONNECT ", " HTTP/1.1\r\n", " HTTP/1.0\r\n", "Host: a\r\n",
             "Content-Length: ", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "Connection: keep-alive\r\n",
             "Expect: 100-continue\r\n", "http://a", "[::1]:80", "0\r\n\r\n", "5\r\nhello\r\n", "fffffffffffffff", "00", "-1", "+1",
             "0x1", ";a=b", ";a=\"\\\"\"", "Vary: *\r\n", "\x01\xff", "\x01\x10a", "\x7f", "\x80", "\0"],
    "responses": ["\r\n", "\r\n\r\n", "\n", "\r", " ", "HTTP/1.1 ", "HTTP/1.0 ", "HTTP/1.1 100 Continue\r\n\r\n", "200 OK\r\n",
                  "204 ", "304 ", "101 ", "503", "Content-Length: ", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n",
                  "Connection: keep-alive\r\n", "Retry-After: ", "Sun, 06 Nov 1994 08:49:37 GMT", "120", "0\r\n\r\n",
                  "5\r\nhello\r\n", ";a=b", "Vary: *\r\n", "\x01\xff", "\x01\x10a", "\x80", "\0"],
}


def cel():
    """Every expression that can be found without asking: tests, bundles, README, the shared conformance cases."""
    known = [text.encode() for text in dict.fromkeys(expressions())]
    # Rules in groups of three lines, too.
    rules = [text for text in known if b"profile" in text or b"context" in text]
    known += [b"\n".join(rules[index:index + 3]) for index in range(0, len(rules) - 2)]
    for number, text in enumerate(known):
        # The first byte: types checked, and each kind of `profile.any` in turn.
        yield bytes([number % 16 << 2]) + text


def expressions():
    for file in [TOP / "README.md", *(TOP / "Tests/CELTests").glob("*.swift"), *(TOP / "Firmware-Config").rglob("*.yaml")]:
        text = file.read_text(encoding="utf-8")
        yield from re.findall(r'"((?:[^"\\\n]|\\.){3,300})"', text)
        yield from re.findall(r"`([^`\n]{3,300})`", text)
        yield from re.findall(r"when: '?([^'\n]{3,300})'?", text)
    for file in sorted((SHARED / "cel").glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)["expr"]


def texts():
    """JSON texts, and what looks like some, of the README and the tests."""
    for file in [TOP / "README.md", *(TOP / "Tests").rglob("*.swift"), *(TOP / "Tests").rglob("*.py")]:
        text = file.read_text(encoding="utf-8")
        yield from re.findall(r'#"([\[{][^\n]{0,600}?)"#', text)
        yield from re.findall(r"'(\{[^'\n]{0,600}\})'", text)


def json_texts():
    extremes = [
        "[" * 130 + "]" * 130, '{"a":' * 64 + "1" + "}" * 64, '{"a":1,"b":2,"a":3}', '{"\\u0061":1,"a":2}', "0." + "0" * 400 + "1",
        "1" + "0" * 400, "-" + "9" * 305, "1" + "0" * 300 + "e-300", "9007199254740993.0", "2.2250738585072012e-308",
        "1e23", "8.5e22", '"\\ud83d\\ude00\\u00e9é😀\\u0000"', "{" + ",".join(f'"{n}":{n}' for n in range(40)) + "}",
    ]
    for number, text in enumerate(dict.fromkeys([*texts(), *extremes])):
        yield b"\x00" + text.encode()
        # The first byte: depth, values and duplicate keys limited.
        yield bytes([number % 256 | 1]) + text.encode()


def gzip_inputs():
    plain = [text.encode() for text in dict.fromkeys(texts())][:60]
    plain += [b"", b"a", bytes(range(256)) * 4, b"a" * 100_000, bytes(1 << 20), b"".join(plain)]
    for number, text in enumerate(plain):
        for level in (0, 1, 9):
            packed = gzip.compress(text, level, mtime=0)
            # The first byte: gzip as it is, and with the blocks alone, each with a limit.
            if len(packed) < 4000:
                yield bytes([0x58 | number % 2 << 7]) + packed
                yield bytes([0x5A | number % 2 << 7]) + packed[10:-8]
        if len(text) < 4000:
            yield b"\x01" + text
            yield b"\x05" + text
    full = zlib.compressobj(9, zlib.DEFLATED, 31)
    yield b"\xd8" + gzip.compress(b"one", mtime=0) + gzip.compress(b"two", mtime=0) + full.flush()
    # With a file name, a comment and a checksum of the header (RFC 1952 section 2.3.1).
    yield b"\x58\x1f\x8b\x08\x1e\0\0\0\0\0\3\2\0xxname\0comment\0\0\0" + gzip.compress(b"x", mtime=0)[10:]


def digits_of(text):
    """The bytes of a text of base64url, padded to whole bytes with zeros."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    bits = "".join(format(digits.index(digit), "06b") for digit in text)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[place:place + 8], 2) for place in range(0, len(bits), 8))


def consent():
    found = set()
    for file in (TOP / "Tests/GovernanceTests").glob("*.swift"):
        found |= set(re.findall(r'"([A-Za-z0-9_.~=-]{4,600})"', file.read_text(encoding="utf-8")))
    for text in sorted(found):
        yield bytes([{"C": 0, "B": 1}.get(text[0], 2)]) + text.encode()
        parts = re.sub("[^A-Za-z0-9_.-]", "", text).split(".")
        packed = [digits_of(part) for part in parts]
        if "~" in text or len(packed[0]) == 0:
            continue
        # Bits of a core, of segments behind one, and of each section of the US.
        yield bytes([3 if text[0] == "C" else 4]) + packed[0]
        yield b"\x05" + b"\xff\xff".join(packed[1:])
        for section in range(5, 28):
            if len(packed[0]) < 20:
                yield bytes([7, section - 1]) + b"\xff\xff".join(packed)
    yield b"\x06" + bytes.fromhex("0018d8") + b"\xff\xff" + digits_of("BVVVkkkkkpFY")


def cloudevents():
    person = {"id": "1", "source": "/shop", "specversion": "1.0", "type": "com.example.order", "userid": "u"}
    events = [
        person, {**person, "data": {"a": 1}}, {**person, "data": [1, "x", None]}, {**person, "data_base64": "eyJhIjoxfQ=="},
        {**person, "time": "2026-01-31T09:30:00Z", "subject": "s", "dataschema": "http://x/", "flag": True, "count": 7},
        {**person, "type": "com.example.track", "data": {"type": "track", "event": "A", "userId": "u", "context": {"a": {}}}},
        {**person, "datacontenttype": "text/plain", "data": "caf\u00e9"}, {"id": ""}, 1,
    ]
    for event in events:
        yield b"\x00" + json.dumps(event).encode()
    yield b"\x01" + json.dumps(events).encode()
    yield b"\x01[]"
    headers = "ce-id: 1\nce-source: /shop\nce-specversion: 1.0\nce-type: com.example.order\nce-userid: caf%C3%A9%20%22\n"
    for kind, body in [("application/json", '{"a":1}'), ("text/plain", "a"), ("image/png", "\x00\x01"), ("a/b+json;q=1", "[]")]:
        yield b"\x02" + (headers + f"Content-Type: {kind}\n\n" + body).encode("latin-1")


def literals(*files):
    """The texts of HTTP in the Swift tests, each literal as far as it goes."""
    for name in files:
        text = (TOP / "Tests" / name).read_text(encoding="utf-8")
        text = re.sub(r'"\s*\+ "', "", text)
        for literal in re.findall(r'"((?:[^"\\\n]|\\.)+)"', text):
            literal = re.sub(r"\\u\{([0-9A-Fa-f]+)\}", lambda code: chr(int(code[1], 16)), literal)
            literal = literal.replace("\\r", "\r").replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"')
            yield literal.encode("utf-8")


def cuts(texts):
    """Each text in single bytes, in pieces of several sizes, and with a small limit for its body."""
    for number, text in enumerate(dict.fromkeys(texts)):
        yield b"\x00" + text
        yield bytes([0x23, 1 + number % 40, 1 + number % 7, 1 + number % 90]) + text


def http():
    texts = [text for text in literals("HTTPTests/RequestParserTests.swift", "HTTPTests/ChunkedDecoderTests.swift")]
    chunked = b"POST /v1/batch HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    whole = [text for text in texts if b"HTTP/1." in text]
    bodies = [text for text in texts if re.match(rb"[0-9a-fA-F]+[;\r]", text)]
    yield from cuts(texts)
    yield from cuts(chunked + body + whole[0] for body in bodies)
    yield from cuts(whole[index] + whole[(index + 1) % len(whole)] for index in range(len(whole)))
    # Two chunks that together are as long as a small body may be, and one byte longer.
    yield from cuts(chunked + b"32\r\n" + b"a" * 50 + b"\r\n%x\r\n" % size + b"a" * size + b"\r\n0\r\n\r\n" for size in (50, 51))
    yield from cuts([b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" + whole[0]])
    for file in sorted((SHARED / "http").glob("*.jsonl")):
        cases = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        yield from cuts(base64.b64decode(case["base64"]) for case in cases)
    # Runs written short: a head, a target, fields, a chunk and an extension at their limits.
    for piece in (1, 4, 40):
        for text in [
            b"GET /\x01\x7fa HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /\x01\x80a HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\xfea\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\xffa\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A:\r\n" * 63 + b"\r\n", chunked + b"4000\r\n\x01\xffa\x01\x01a\r\n0\r\n\r\n",
            chunked + b"1;\x01\x0fa\r\na\r\n0\r\nX: \x01\x3fa\r\n\r\n",
        ]:
            yield bytes([0x11, piece]) + text


def responses():
    texts = [text for text in literals("HTTPTests/ResponseParserTests.swift", "DeliveryTests/HTTPSClientTests.swift")]
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    texts += [chunked + text for text in literals("HTTPTests/ChunkedDecoderTests.swift") if re.match(rb"[0-9a-fA-F]+[;\r]", text)]
    for text in cuts(texts):
        yield text
        yield bytes([text[0] | 0x40]) + text[1:]
    yield b"\x11\x04HTTP/1.1 200 OK\r\nX: \x01\xffa\r\n\r\n"
    yield b"\x11\x04HTTP/1.1 503 \x01\x40a\r\nRetry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"


INPUTS = {"http": http, "responses": responses, "cloudevents": cloudevents, "cel": cel, "json": json_texts, "gzip": gzip_inputs, "consent": consent}


def main(target, folder, dictionary):
    for number, text in enumerate(INPUTS[target]()):
        (pathlib.Path(folder) / f"{number:05}").write_bytes(text)
    lines = []
    for word in WORDS[target]:
        # Bytes beyond ASCII by their numbers: gzip's and consent's are bytes, those of the others UTF-8.
        word = word.encode("latin-1" if target in ("gzip", "consent", "http", "responses") else "utf-8")
        escaped = "".join(f"\\x{byte:02x}" if not 32 <= byte < 127 or byte in b'"\\' else chr(byte) for byte in word)
        lines.append(f'"{escaped}"')
    pathlib.Path(dictionary).write_text("\n".join(lines) + "\n")


main(*sys.argv[1:])
