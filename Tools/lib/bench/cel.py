"""The rules that `Tools/bench cel` measures: the same list as CEL and as C, and the table of what came out.

  cel.py write FOLDER [--rules RULES]     rules as CEL, one a line, and rules.c
  cel.py report FILE [--require] [--json OUT]

RULES is a folder with rules_N.json, each a list of {"cc": [countries], "k": orders, "x": ltv, "tag": tag, "y": churn,
"cel": the rule}; without it, rules of the same shape are made here.
"""

import argparse
import json
import pathlib
import sys

COUNTRIES = [["DE", "AT", "CH"], ["FR", "DE", "IT", "ES"], ["DE", "NL", "BE"], ["US", "CA"]]
SIZES = [1, 10, 100, 1000]
SELECTIVE_SIZES = [100, 1000, 10_000]


def common_rules(folder, count):
    if folder:
        rules = json.loads((pathlib.Path(folder) / f"rules_{count}.json").read_text())
    else:
        rules = [{"cc": COUNTRIES[i % 4], "k": (i * 7 + 7) % 40, "x": (i * 37 + 37) % 3000,
                  "tag": "gold" if i % 5 == 4 else "vip", "y": ((i * 13 + 13) % 100) / 100} for i in range(count)]
        for rule in rules:
            countries = ",".join(f'"{country}"' for country in rule["cc"])
            rule["cel"] = (f'country in [{countries}] && orders >= {rule["k"]} && ltv > {rule["x"]:.1f} && '
                           f'"{rule["tag"]}" in tags && (churn_score < {rule["y"]} || is_subscriber)')
    return rules


def selective_rules(count):
    """(CEL, C with texts numbered) of rules that begin with an equality or a range that few people meet."""
    rules = []
    for i in range(count):
        begin = [
            (f'store == "SH-{i:03}"', f"p->store == {number(f'SH-{i:03}')}"),
            (f"segment == {i}", f"p->segment == {i}"),
            (f"ltv >= {i + 2}.0 && ltv < {i + 2}.8", f"p->ltv >= {i + 2}.0 && p->ltv < {i + 2}.8"),
            (f'context.channel == "kiosk-{i}"', f"p->channel == {number(f'kiosk-{i}')}"),
        ][i % 4]
        rest = (f"orders >= {i % 40} && (churn_score < {i % 100 / 100} || is_subscriber)",
                f"p->orders >= {i % 40} && (p->churn < {i % 100 / 100} || p->is_subscriber)")
        rules.append((f"{begin[0]} && {rest[0]}", f"{begin[1]} && {rest[1]}"))
    return rules


NUMBERS = {}


def number(text):
    """The number of a text, as a C programmer would intern it."""
    return NUMBERS.setdefault(text, len(NUMBERS) + 1)


def c_rule(rule, is_numbered):
    if is_numbered:
        country = "||".join(f"p->country=={number(country)}" for country in rule["cc"])
        tag = f"has(p,{number(rule['tag'])})"
    else:
        country = "||".join(f'is(p->country_text,"{country}",{len(country)})' for country in rule["cc"])
        tag = f'has_text(p,"{rule["tag"]}",{len(rule["tag"])})'
    return (f"({country})&&p->orders>={rule['k']}&&p->ltv>{float(rule['x'])}&&{tag}"
            f"&&(p->churn<{rule['y']}||p->is_subscriber)")


def write(options):
    folder = pathlib.Path(options.folder)
    folder.mkdir(parents=True, exist_ok=True)
    sets = [("common", count, common_rules(options.rules, count)) for count in SIZES]
    c = ['#include "reference.h"', "#include <string.h>",
         "static inline int is(struct text t,const char*b,size_t n){return t.count==n&&memcmp(t.bytes,b,n)==0;}",
         "static inline int has(const struct person*p,uint32_t s){for(uint32_t i=0;i<p->tag_count;i++)"
         "if(p->tags[i]==s)return 1;return 0;}",
         "static inline int has_text(const struct person*p,const char*b,size_t n){"
         "for(uint32_t i=0;i<p->tag_count;i++)if(is(p->tag_texts[i],b,n))return 1;return 0;}",
         "typedef int rule(const struct person*);"]
    tables = []
    for name, count, rules in sets:
        (folder / f"{name}_{count}.txt").write_text("".join(rule["cel"] + "\n" for rule in rules))
        for kind in (0, 1):
            tables.append((kind, count, [c_rule(rule, kind == 0) for rule in rules]))
    for count in SELECTIVE_SIZES:
        rules = selective_rules(count)
        (folder / f"selective_{count}.txt").write_text("".join(cel + "\n" for cel, _ in rules))
        tables.append((2, count, [text for _, text in rules]))
    for kind, count, rules in tables:
        for index, rule in enumerate(rules):
            c.append(f"static int r{kind}_{count}_{index}(const struct person*p){{return {rule};}}")
        c.append(f"static rule*const t{kind}_{count}[]={{{','.join(f'r{kind}_{count}_{i}' for i in range(count))}}};")
    c.append("uint32_t reference_rules(const struct person*p,uint32_t set,uint32_t count){rule*const*t=0;")
    for kind, count, _ in tables:
        c.append(f"if(set=={kind}&&count=={count})t=t{kind}_{count};")
    c.append("uint32_t n=0;for(uint32_t i=0;i<count;i++)n+=t[i](p)!=0;return n;}")
    text = "".join(f'{{"{name}",{len(name)}}},' for name in ["vip", "newsletter", "sale"])
    c.append("static struct person person={.orders=17,.age=34,.segment=77,.ltv=1532.75,.churn=0.23,.is_subscriber=1,"
             f".country={number('DE')},.store={number('SH-016')},.channel={number('kiosk-19')},"
             '.country_text={"DE",2},.store_text={"SH-016",6},.channel_text={"kiosk-19",8},'
             f".tags={{{number('vip')},{number('newsletter')},{number('sale')}}},.tag_texts={{{text}}},.tag_count=3,"
             f".numbers={{{','.join(str(i) for i in range(100))}}}}};")
    c.append("struct person*reference_person(void){return &person;}")
    (folder / "rules.c").write_text("\n".join(c) + "\n")


def report(options):
    rows = [json.loads(line) for line in pathlib.Path(options.file).read_text().splitlines()]
    print("ns: a whole decision, with what it needs of the person loaded; loaded: that part left out, as the C has it")
    print(f"{'what':40} {'ns':>9} {'loaded':>7} {'C ns':>9} {'ratio':>6} {'loaded':>6} {'true':>5} {'allocations':>11}")
    failures = []
    for row in rows:
        row["ratio"] = row["ns"] / row["c"]
        loaded, ratio = "", ""
        if "loaded" in row:
            row["loadedRatio"] = row["loaded"] / row["c"]
            loaded, ratio = f"{row['loaded']:.1f}", f"{row['loadedRatio']:.2f}"
        print(f"{row['what']:40} {row['ns']:9.1f} {loaded:>7} {row['c']:9.1f} {row['ratio']:6.2f} {ratio:>6} "
              f"{row['matches']:5} {row['allocations']:11}")
        if row["matches"] != row["cMatches"]:
            failures.append(f"{row['what']}: {row['matches']} are true, in C {row['cMatches']}")
        if row["allocations"]:
            failures.append(f"{row['what']}: {row['allocations']} allocations")
    cost = {row["what"]: row["ns"] for row in rows}
    growth = cost["10000 selective rules"] / cost["100 selective rules"]
    print(f"10,000 selective rules cost {growth:.2f} times what 100 do")
    if options.require:
        for row in rows:
            # A profile's texts come as texts: C that finds them numbered is held against at 1,000 rules only.
            limit = 1 if row["what"].startswith("1000 common") else 4 if "compares texts" in row["what"] else None
            ratio = row.get("loadedRatio", row["ratio"])
            if limit and ratio > limit:
                failures.append(f"{row['what']}: {ratio:.2f} times the C, {limit} are allowed")
        if growth >= 4:
            failures.append("10,000 selective rules cost too much")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(rows, indent=1))
    for failure in failures:
        print("FAILED " + failure, file=sys.stderr)
    return 1 if failures else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("write")
    command.add_argument("folder")
    command.add_argument("--rules")
    command.set_defaults(run=write)
    command = commands.add_parser("report")
    command.add_argument("file")
    command.add_argument("--require", action="store_true")
    command.add_argument("--json")
    command.set_defaults(run=report)
    options = parser.parse_args()
    return options.run(options)


if __name__ == "__main__":
    sys.exit(main())
