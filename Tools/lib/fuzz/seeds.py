"""Writes what Tools/fuzz begins with: a file for each expression, and libFuzzer's dictionary of the language's words.

  seeds.py FOLDER DICTIONARY
"""

import json
import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parents[3]

WORDS = """&& || ! == != < <= > >= in + - * / % ? : ( ) [ ] { } . , .? [? true false null 0 1u 1.5 1e308 0x7fffffffffffffff
9223372036854775807 -9223372036854775808 '' "" b'\\xff' r'' ''' \\u0000 .all( .exists( .exists_one( .map( .filter( has(
.transformList( .transformMap( .transformMapEntry( cel.bind( optional.of( optional.none() .orValue( .optMap( .optFlatMap(
.value() .hasValue() .matches( .format([ .substring( .replace( .split( .join( .indexOf( .charAt( .reverse() .trim()
.lowerAscii() .startsWith( .endsWith( .contains( .size() strings.quote( math.greatest( math.bitShiftLeft( math.round(
base64.encode( base64.decode( timestamp( duration( .getHours( .getFullYear( ip( cidr( .containsIP( .masked() string( int(
uint( double( bytes( bool( type( dyn( size( profile. profile.orders profile.ltv profile.country profile.tags profile.vip
profile.none profile.never profile.any profile.categories profile.age now event. event.properties. context. context.channel
context.list 'gold' 'kiosk' "Order-Completed" %s %d %.2f %x %e [a-z]+ (?i) \\b \\p{L} {2,3}""".split()


def expressions():
    """Every expression that can be found without asking: tests, bundles, README, the shared conformance cases."""
    for file in [TOP / "README.md", *(TOP / "Tests/CELTests").glob("*.swift"), *(TOP / "Firmware-Config").rglob("*.yaml")]:
        text = file.read_text(encoding="utf-8")
        yield from re.findall(r'"((?:[^"\\\n]|\\.){3,300})"', text)
        yield from re.findall(r"`([^`\n]{3,300})`", text)
        yield from re.findall(r"when: '?([^'\n]{3,300})'?", text)
    for file in sorted((TOP.parent / "shared/conformance/cel").glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)["expr"]


def main(folder, dictionary):
    known = [text.encode() for text in dict.fromkeys(expressions())]
    # Rules in groups of three lines, too.
    rules = [text for text in known if b"profile" in text or b"context" in text]
    known += [b"\n".join(rules[index:index + 3]) for index in range(0, len(rules) - 2)]
    for number, text in enumerate(known):
        # The first byte: types checked, and each kind of `profile.any` in turn.
        (pathlib.Path(folder) / f"{number:05}").write_bytes(bytes([number % 16 << 2]) + text)
    lines = []
    for word in WORDS:
        escaped = word.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'"{escaped}"')
    pathlib.Path(dictionary).write_text("\n".join(lines) + "\n")


main(*sys.argv[1:])
