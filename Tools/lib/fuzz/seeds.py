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
             "POST ", "PUT ", "HEAD ", "DELETE ", "PATCH ", "OPTIONS ", "CONNECT ", " HTTP/1.1\r\n", " HTTP/1.0\r\n",
             "Host: a\r\n",
             "Content-Length: ", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "Connection: keep-alive\r\n",
             "Expect: 100-continue\r\n", "http://a", "[::1]:80", "0\r\n\r\n", "5\r\nhello\r\n", "fffffffffffffff",
             "00", "-1", "+1",
             "0x1", ";a=b", ";a=\"\\\"\"", "Vary: *\r\n", "\x01\xff", "\x01\x10a", "\x7f", "\x80", "\0"],
    "responses": ["\r\n", "\r\n\r\n", "\n", "\r", " ", "HTTP/1.1 ", "HTTP/1.0 ", "HTTP/1.1 100 Continue\r\n\r\n", "200 OK\r\n",
                  "204 ", "304 ", "101 ", "503", "Content-Length: ", "Transfer-Encoding: chunked\r\n",
                  "Connection: close\r\n",
                  "Connection: keep-alive\r\n", "Retry-After: ", "Sun, 06 Nov 1994 08:49:37 GMT", "120", "0\r\n\r\n",
                  "5\r\nhello\r\n", ";a=b", "Vary: *\r\n", "\x01\xff", "\x01\x10a", "\x80", "\0"],
    "yaml": ["- ", ": ", "? ", "# ", "\n  ", "---\n", "...\n", "&a ", "*a", "|\n ", ">-\n ", "|+2\n", "!!str ",
             "!!int ", "!!binary ", "!x ",
             "<<: ", "{", "}", "[", "]", ", ", "'", '"', "\\x41", "\\u00e9", "\\ud83d\\ude00", "0x1f", "0o17", "+.5",
             ".inf", ".nan", "~",
             "null", "True", "NO", "1e3", "1_000", "%YAML 1.2\n", "\ufeff", "\u2028", "\x85", "\t"],
    "identifiers": ["@", ".", "+", "gmail.com", "googlemail.com", " ", "\t", "\u00a0", "\ufeff", "\u3000", "+49",
                    "0049", "011", "00", "(0)",
                    "0171 ", "-", "/", "\u00df", "\u0130", "\u03a3", "\u1e9e", "\u01c5", "%40", ";ext=1", "\uff10",
                    "\u0660"],
    "schema": """"type": "object" "array" "string" "integer" "number" "boolean" "null" "properties": "required": "items":
"prefixItems": "contains": "minContains": "maxContains": "additionalProperties": "patternProperties": "propertyNames":
"dependentRequired": "dependentSchemas": "unevaluatedProperties": "unevaluatedItems": "allOf": "anyOf": "oneOf": "not":
"if": "then": "else": "$ref": "$defs": "$anchor": "$id": "#" "#/$defs/a" "enum": "const": "minimum": "maximum":
"exclusiveMinimum": "exclusiveMaximum": "multipleOf": "minLength": "maxLength": "pattern": "minItems": "maxItems":
"uniqueItems": "minProperties": "maxProperties": "format": true false null {} [] 0 1 -1 0.1 1e300 9007199254740993 "a" "b"
"^a" "[a-z]+$" : , { } [ ]""".split(),
    "model": """"left_children": "right_children": "split_indices": "split_conditions": "default_left": "split_type":
"trees": "base_score": "num_feature": "objective": "binary:logistic" "reg:logistic" "reg:squarederror" "feature_names":
"num_target": "gbtree" "[5E-1]" -1 0 1 2 true false 1e38 1e39 0.5 null""".split(),
    "events": """"type": "userId": "anonymousId": "previousId": "groupId": "messageId": "event": "properties": "traits":
"context": "integrations": "timestamp": "originalTimestamp": "sentAt": "batch": "writeKey": "consent":
"categoryPreferences": "analytics" "email": "phone": "product": "product_id": "revenue": "track" "identify" "page" "group"
"alias" "Order Completed" "Product Viewed" "targetingKey": "device": "id": "till": "number": "user-12345" "a@example.org"
"0171 1234567" "2026-01-31T09:30:00.000Z" "tcf" "gpp" true false null { } [ ] , : 1 -1 90.5""".split(),
    "bundle": """version: purposes: identifiers: events: attributes: scores: audiences: decisions: triggers: destinations:
consent: sources: tables: profiles: from: normalize: send: unique: shared: region: purpose: tier: priority: invalid:
schema: ttl: restricted: fields: fresh: type: when: value: window: limit: scope: variants: default: rules: serve: split:
holdout: cap: serves: per: on: after: unless: url: batch: delay: deny: fallback: format: counter sum mean min max tally
set badge timeline first last string number boolean date email e164 sha256 hmac realtime quarantine strip drop allow
visitor visit event 10m 24h 90d 400KiB has( profile. audience. event. context. now age.profile duration("30m") && || == >
true false null - : { } [ ] , " ' & *""".split() + ["\n", "\n  ", "\n    ", ": "],
    "requests": """GET HEAD POST PUT DELETE /ofrep/v1/evaluate/flags /ofrep/v1/evaluate/flags/offer ?explain=true /v1/profiles/
user_id:u-12345 email: device: till: /consent /export /unlink ?after= ?limit= ?from= /v1/erasures /v1/quarantine /release all
/v1/trace/ /v1/audit /v1/experiments /healthz /readyz /metrics /console.css /v1/arrivals /v1/devices /v1/devices/till-1
/v1/sync /v1/events /v1/decide /v1/batch /v1/track /v1/identify /v1/page /v1/alias HTTP/1.1 HTTP/1.0 Authorization: Bearer
Basic token1 token2 token4 token8 token16 token31 If-None-Match: "*" Content-Type: application/json
application/cloudevents+json application/cloudevents-batch+json ce-id: Sec-GPC: {"context":{"targetingKey":"u-12345"}}
"context": "targetingKey": "flags": "event": "analytics" "personalization" true false null { } [ ] , : %3A %2F %00 ? & = *""".split()
    + ["\n", "\n\n", " "],
    "records": ["\x01", "\x02", "\x03", "\0\0\0\0\0\0\0\x01", "\x01\0\0\0\0\0\0\0", "\xff\xff\xff\xff\xff\xff\xff\xff",
                "\x80\0\0\0\0\0\0\0",
                "\0\0\0\0\0\0\xf0\x7f", "\0\0\0\0\0\0\xf8\x7f", "PG\x02", "\0\x01GH"],
    "sync": ["\x01", "\x02", "\x03", "\0\0\0\0\0\0\0\x01", "\xff\xff\xff\xff\xff\xff\xff\xff", "\x80\0\0\0\0\0\0\0",
             "PG\x02",
             "\0\0\0\0\0\0\xf8\x7f"],
}
# Targets whose inputs are bytes and no text.
BINARY = ("gzip", "consent", "http", "responses", "records", "sync")


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


def unindent(text):
    lines = text.splitlines(True)
    least = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "".join(line[least:] if line.strip() else "\n" for line in lines)


def bundles():
    """Whole bundles and parts of them: samples, and what the tests and the README write."""
    for file in sorted((TOP / "Firmware-Config").rglob("*.yaml")):
        yield file.read_text(encoding="utf-8")
    for block in re.findall(r"```yaml\n(.*?)```", (TOP / "README.md").read_text(encoding="utf-8"), re.S):
        yield block
    files = [*(TOP / "Tests").rglob("*.swift"), *(TOP / "Tests").rglob("*.py"), *(TOP / "Tools/lib").rglob("*.yaml")]
    for file in sorted([*files, TOP / "Tools/lib/fuzz/FuzzPlan.swift"]):
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".yaml":
            yield text
        for block in re.findall(r'"""\n(.*?)"""', text, re.S):
            if re.search(r"^\s*\w+: ", block, re.M):
                yield unindent(block.replace("\\n", "\n").replace('\\"', '"'))


def bundle():
    head = ("version: 1\npurposes: [analytics, personalization]\nidentifiers:\n  user_id: { from: [userId] }\nevents:\n"
            "  \"*\": { purpose: analytics }\n")
    for number, text in enumerate(dict.fromkeys(bundles())):
        for whole in (text, text if "version:" in text else head + text):
            if len(whole) < 3000:
                yield bytes([number % 4]) + whole.encode()


def yaml():
    for number, text in enumerate(dict.fromkeys(bundles())):
        # Pieces of a text that is longer than an input.
        lines = text.splitlines(True)
        for start in range(0, len(lines), 12):
            yield bytes([number % 2 * 0x41]) + "".join(lines[start:start + 12]).encode()
    tests = (TOP / "Tests/FormatsTests/YAMLTests.swift").read_text(encoding="utf-8")
    for text in re.findall(r'"((?:[^"\\\n]|\\.){3,200})"', tests):
        yield b"\x00" + text.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"').replace("\\\\", "\\").encode()
    for text in list(texts())[:100]:
        yield b"\x00" + text.encode()


def identifiers():
    values = [" Jane.Doe+news@Gmail.com\t", "ja ne@example. com", "J\u00dcRGEN@example.com", "0171 123 45-67", "+49 (0)171 1234567", "+1 650-555-1234",
              "0039 06 1234567", "011 44 20 7946 0958", "\u0130stanbul", "\u03a3\u03a3", "card 12 34", "user-12345",
              "jane@googlemail.com"]
    for file in sorted((SHARED / "identifiers").glob("*.jsonl")):
        values += [json.loads(line)["input"] for line in file.read_text(encoding="utf-8").splitlines()]
    for number, value in enumerate(dict.fromkeys(values)):
        for form in range(5):
            yield bytes([form | number % 4 << 3, number % 16]) + value.encode()


def schema():
    text = (TOP / "Tests/CollectionTests/SchemaTests.swift").read_text(encoding="utf-8")
    for line in text.splitlines():
        found = re.findall(r'#"(.*?)"#|"((?:[^"\\]|\\.)*)"', line)
        parts = [(raw or plain.replace('\\"', '"')).encode() for raw, plain in found]
        if parts and parts[0][:1] == b"{":
            for value in parts[1:3] or [b"{}"]:
                yield parts[0] + b"\n" + value
    for block in re.findall(r"schema: (\{.*?\})$", (TOP / "README.md").read_text(encoding="utf-8"), re.M):
        yield block.encode()
    event = {"type": "object", "required": ["a"], "properties": {"a": {"type": "number", "minimum": 0}, "b": {"enum": ["x", 1]}},
             "additionalProperties": False}
    yield json.dumps(event).encode() + b'\n{"a":-1,"b":2,"c":[]}'


def model():
    def tree(left, right, split, condition, default, kind=None):
        tree = {"left_children": left, "right_children": right, "split_indices": split, "split_conditions": condition,
                "default_left": default}
        return tree if kind is None else {**tree, "split_type": kind}

    small = tree([1, -1, -1], [2, -1, -1], [1, 0, 0], [0.5, -0.25, 0.75], [1, 0, 0])
    large = tree([1, 3, -1, -1, -1], [2, 4, -1, -1, -1], [0, 2, 0, 0, 0], [29.5, 1e30, 0.5, -0.125, 0.25], [True, False, 0, 0, 0],
                 [0, 0, 0, 0, 0])
    number = 0
    for trees in ([], [small], [large], [small, large]):
        for objective in ("binary:logistic", "reg:logistic", "reg:squarederror", "multi:softmax"):
            for base in ("5E-1", "[5E-1]", 0.25):
                names = [["a", "b", "c"], []][number % 2]
                yield bytes([number % 64]) + json.dumps({"learner": {
                    "feature_names": names, "objective": {"name": objective},
                    "learner_model_param": {"num_feature": "3", "base_score": base, "num_target": "1"},
                    "gradient_booster": {"name": "gbtree", "model": {"trees": trees}}}}, separators=(",", ":")).encode()
                number += 1


def events():
    person = {"userId": "user-12345", "anonymousId": "kiosk-0001", "timestamp": "2026-01-31T09:30:00.000Z", "messageId": "m-user-12345"}
    consent = {"consent": {"categoryPreferences": {"analytics": True, "personalization": False}}}
    order = {**person, "type": "track", "event": "Order Completed", "context": {**consent, "till": {"number": 4}},
             "properties": {"revenue": 90.5, "category": "shoes", "note": "of USER-12345", "email": "a@example.org"}}
    view = {**person, "type": "track", "event": "Product Viewed", "properties": {"product": "p-1", "x": {"y": [1, "a@example.org"]}}}
    messages = [
        order, view, {**view, "properties": {"product_id": "x" * 30}}, {**order, "properties": {}}, {"type": "page", "userId": "u"},
        {**person, "type": "identify", "traits": {"email": "A@example.org", "phone": "0171 1234567", "name": "kiosk-0001"}},
        {**person, "type": "identify", "context": {"traits": {"email": "a@example.org"}}}, {"type": "screen", **person, "name": "user-12345"},
        {**person, "type": "group", "groupId": "g-1", "traits": {"email": "shop@example.org"}}, {**person, "type": "alias", "previousId": "old-12345"},
        {**person, "type": "track", "event": "Segment Consent Preference Updated", "context": consent}, {"type": "track"}, 7,
        {**person, "type": "track", "event": "user-12345", "originalTimestamp": "2026-01-31", "sentAt": "2026-01-31T09:31:00Z"},
    ]
    for number, message in enumerate(messages):
        for route in range(1, 7):
            yield bytes([route | (number % 2) << 3]) + json.dumps(message, separators=(",", ":")).encode()
        yield b"\x00" + json.dumps({"batch": [message, order]}, separators=(",", ":")).encode()
    yield b"\x00" + json.dumps({"batch": messages, "sentAt": "2026-01-31T09:31:00Z", "context": consent, "integrations": {"All": False}},
                             separators=(",", ":")).encode()
    for text in texts():
        yield b"\x01" + text.encode()
        yield b"\x00" + b'{"batch":[' + text.encode() + b"]}"


def requests():
    flags, person = "/ofrep/v1/evaluate/flags", "/v1/profiles/user_id:u-12345"
    asked = ['{"context":{"targetingKey":"u-12345"}}', '{"context":{"targetingKey":"nobody-1","device":{"id":"k"},"till":{"number":4}}}',
             '{"context":{"targetingKey":""}}', '{"context":{}}', '{"context":[]}', '{}', '[]', '{"context":{"x":1e400}}', "{", ""]
    event = '{"type":"track","event":"Order Completed","userId":"u-12345","properties":{"revenue":9}}'
    calls = [("POST", path, text) for text in asked for path in (f"{flags}/offer", flags, f"{flags}/offer?explain=true", f"{flags}/none")]
    calls += [("PUT", f"{person}/consent", text) for text in
              ('{"personalization":false}', '{"analytics":true,"none":true}', '{"analytics":1}', "[]", "", '{"tcf":"CAAA"}')]
    calls += [("GET", path, "") for path in (
        person, f"{person}/export?after=1", "/v1/profiles/email:u-12345%40example.org", "/v1/profiles/" + "0" * 32, "/v1/profiles/x",
        "/v1/profiles/user_id:%ff", "/v1/erasures", "/v1/erasures/x?after=1", "/v1/quarantine?after=0&limit=5",
        "/v1/trace/user_id:u-12345", "/v1/trace/user_id:u-12345?after=3", "/v1/audit?after=1&limit=2", "/v1/audit?limit=x",
        "/v1/experiments", "/healthz", "/readyz", "/metrics", "/", "/console.css", "/console.js", "/v1/arrivals?from=0&limit=2",
        "/v1/devices", "/v1/devices/till-1", "/v1/none", "*", "/v1/audit?after=18446744073709551615")]
    calls += [("DELETE", person, ""), ("POST", f"{person}/unlink", ""), ("POST", "/v1/quarantine/1/release", ""), ("HEAD", "/readyz", ""),
              ("DELETE", "/v1/quarantine/all", ""), ("POST", "/v1/devices/till-1/flush", ""), ("POST", "/v1/sync", "x"),
              ("POST", "/v1/decide", '{"flags":["offer"],"event":' + event + "}"), ("POST", "/v1/batch", '{"batch":[' + event + "]}"),
              ("POST", "/v1/track", event), ("POST", "/v1/identify", '{"userId":"u-12345"}'), ("PATCH", "/v1/audit", "")]
    cloud = '{"id":"1","source":"/till","specversion":"1.0","type":"track","data":{"userId":"u-12345"}}'
    lines = {"": calls, "\nIf-None-Match: *": calls[:8], "\nContent-Type: application/cloudevents+json": [("POST", "/v1/events", cloud)],
             "\nContent-Type: application/cloudevents-batch+json": [("POST", "/v1/events", f"[{cloud}]")]}
    for fields, some in lines.items():
        for number, (method, path, body) in enumerate(some):
            text = f"{method} {path} HTTP/1.1{fields}"
            for who in (0, 1):
                yield bytes([who]) + f"{text}\n\n{body}".encode()
                # The tokens' roles are the bits of their numbers.
                token = 31 if number % 3 else 1 << number % 5
                yield bytes([who | 2]) + f"{text}\nAuthorization: Bearer token{token}\n\n{body}".encode()
                yield bytes([who | 4]) + f"{text}\n\n".encode() + gzip.compress(body.encode(), mtime=0)


def nothing():
    """Of records and exchanges the fuzzer itself writes seeds, by the code that writes them on a device."""
    return []


INPUTS = {
    "http": http, "responses": responses, "cloudevents": cloudevents, "cel": cel, "json": json_texts, "gzip": gzip_inputs,
    "consent": consent, "yaml": yaml, "bundle": bundle, "identifiers": identifiers, "schema": schema, "model": model, "events": events,
    "requests": requests, "records": nothing, "sync": nothing,
}


def main(target, folder, dictionary):
    for number, text in enumerate(INPUTS[target]()):
        (pathlib.Path(folder) / f"{number:05}").write_bytes(text)
    lines = []
    for word in WORDS[target]:
        # Bytes beyond ASCII by their numbers.
        word = word.encode("latin-1" if target in BINARY else "utf-8")
        escaped = "".join(f"\\x{byte:02x}" if not 32 <= byte < 127 or byte in b'"\\' else chr(byte) for byte in word)
        lines.append(f'"{escaped}"')
    pathlib.Path(dictionary).write_text("\n".join(lines) + "\n")


main(*sys.argv[1:])
