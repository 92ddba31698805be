"""Rules of Tools/bench cel in the engines that PyPI has, each as it is quickest: compiled once, all rules of a decision in
one call where it has one. Prints one JSON object a line: engine, rules, ns (a decision: all of its rules), matches.

  engines.py [--milliseconds N] [--sizes N,N]

An engine that is not there, or does not come to what the rules come to here, says so on a line of its own: {"engine", "why"}.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cel import common_rules  # noqa: E402  (this folder's, and not the package of that name: see main)

PERSON = {"country": "DE", "orders": 17, "ltv": 1532.75, "tags": ["vip", "newsletter", "sale"], "churn_score": 0.23,
          "is_subscriber": True}


def expected(rules):
    """How many of the rules hold."""
    return sum(
        PERSON["country"] in rule["cc"] and PERSON["orders"] >= rule["k"] and PERSON["ltv"] > rule["x"]
        and rule["tag"] in PERSON["tags"] and (PERSON["churn_score"] < rule["y"] or PERSON["is_subscriber"])
        for rule in rules)


# --- The engines: each takes rules and gives a function that decides and says how many hold -------------------------


def zen(rules):
    """One expression, a list of all rules: its decision graphs take a hundred times as long to begin."""
    import zen as engine

    def text(rule):
        countries = ", ".join(f'"{country}"' for country in rule["cc"])
        return (f'country in [{countries}] and orders >= {rule["k"]} and ltv > {float(rule["x"])} and '
                f'"{rule["tag"]}" in tags and (churn_score < {rule["y"]} or is_subscriber)')

    expression = engine.compile_expression("[" + ", ".join(text(rule) for rule in rules) + "]")
    return lambda: sum(expression.evaluate(PERSON))


def common_expression_language(rules):
    """One program, a list of all rules, over a context that stays."""
    import cel as engine

    program = engine.compile("[" + ", ".join(rule["cel"] for rule in rules) + "]")
    context = engine.Context(variables=PERSON)
    return lambda: sum(program.execute(context))


def cel_python(rules):
    import celpy

    environment = celpy.Environment()
    programs = [environment.program(environment.compile(rule["cel"])) for rule in rules]
    person = {name: celpy.json_to_cel(value) for name, value in PERSON.items()}
    return lambda: sum(bool(program.evaluate(person)) for program in programs)


def cedarpy(rules):
    """A policy for each rule, parsed once; it has no fractions, so money is in cents and shares in hundredths."""
    import cedarpy as engine

    def text(rule):
        countries = ", ".join(f'"{country}"' for country in rule["cc"])
        return (f'permit(principal, action, resource) when {{ [{countries}].contains(context.country) && '
                f'context.orders >= {rule["k"]} && context.ltv > {round(rule["x"] * 100)} && '
                f'context.tags.contains("{rule["tag"]}") && '
                f'(context.churn_score < {round(rule["y"] * 100)} || context.is_subscriber) }};')

    policies = "\n".join(text(rule) for rule in rules)
    if hasattr(engine, "PolicySet"):
        policies = engine.PolicySet.from_str(policies)
    context = {**PERSON, "ltv": 153275, "churn_score": 23}
    request = {"principal": 'P::"p"', "action": 'Action::"a"', "resource": 'R::"r"', "context": context}
    return lambda: len(engine.is_authorized(request, policies, []).diagnostics.reasons)


ENGINES = {"zen-engine": (zen, 10_000), "common-expression-language": (common_expression_language, 10_000),
           "cel-python": (cel_python, 100), "cedarpy": (cedarpy, 1000)}


# --- Measuring -----------------------------------------------------------------------------------------------------


def nanoseconds(decide, seconds):
    """Of one call: the median of nine turns."""
    taken = []
    for _ in range(9):
        count, begin = 0, time.perf_counter_ns()
        while count == 0 or time.perf_counter_ns() - begin < seconds * 1e9 / 9:
            decide()
            count += 1
        taken.append((time.perf_counter_ns() - begin) / count)
    return statistics.median(taken)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--milliseconds", type=float, default=300)
    parser.add_argument("--sizes", default="1,10,100,1000")
    options = parser.parse_args()
    # This folder has a cel.py, and PyPI a package cel: the folder's has been imported, and makes way.
    here = pathlib.Path(__file__).resolve().parent
    sys.path[:] = [place for place in sys.path if pathlib.Path(place or ".").resolve() != here]
    del sys.modules["cel"]
    for name, (make, most) in ENGINES.items():
        for size in map(int, options.sizes.split(",")):
            if size > most:
                continue
            rules = common_rules(None, size)
            try:
                decide = make(rules)
                matches = decide()
                if matches != expected(rules):
                    raise ValueError(f"{matches} of {size} rules hold, and should {expected(rules)}")
            except Exception as error:  # noqa: BLE001  whatever an engine fails with, the others are measured
                why = f"{type(error).__name__}: {error}"[:200]
                print(json.dumps({"engine": name, "rules": size, "why": why}), flush=True)
                continue
            print(json.dumps({"engine": name, "rules": size, "ns": nanoseconds(decide, options.milliseconds / 1000),
                              "matches": matches}), flush=True)


main()
