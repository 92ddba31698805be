"""Decisions over HTTP: the agent against a fixed answer in C, under the same wrk, in turns. See Tools/bench.

One serving thread each, client and server on a core of their own where the machine has two. The turns alternate, so
that whatever else the machine does falls on both; the figures are medians over the turns, the ratios over the rounds.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from agent import DEFAULT_BINARY, Agent, Connection, free_port, process_memory_kib  # noqa: E402

PATH = "/ofrep/v1/evaluate/flags/checkout_offer"
CONNECTIONS = 16
TICKS = os.sysconf("SC_CLK_TCK")


def pinned(core):
    """A command's prefix that keeps it on one core; nothing where there is only one."""
    return ["taskset", "-c", str(core)] if len(os.sched_getaffinity(0)) > 1 else []


def cores():
    return sorted(os.sched_getaffinity(0))


# --- The two servers -----------------------------------------------------------------------------------------------


def events(customer):
    """Two orders and four views of one customer, who has granted both purposes."""
    context = {"consent": {"categoryPreferences": {"analytics": True, "personalization": True}}}
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    def event(number, name, properties):
        return {"type": "track", "event": name, "userId": f"customer-{customer}", "context": context,
                "messageId": f"bench-{customer}-{number}", "timestamp": when, "properties": properties}

    yield from (
        event(number, "Order Completed",
              {"order_id": f"{customer}-{number}", "revenue": 90.5, "country": "DE", "payment": "card", "shop": "berlin"})
        for number in range(2))
    yield from (
        event(10 + number, "Product Viewed",
              {"product_id": f"p-{number}", "category": f"c-{number % 2}", "shop": "berlin"})
        for number in range(4))


def seed(agent, customers, form="%d"):
    """Lets customers from 1 on do what `events` says; `form` writes their numbers."""
    connection = Connection(agent.url)
    batch = []
    for customer in range(1, customers + 1):
        batch += events(form % customer)
        if len(batch) >= 300 or customer == customers:
            body = json.dumps({"batch": batch}).encode()
            status, _, answer = connection.ask("POST", "/v1/batch", body, {"Content-Type": "application/json"})
            if status not in (200, 202):
                sys.exit(f"bench: POST /v1/batch answered {status}: {answer.decode(errors='replace')}")
            batch = []


def decide(agent, customer):
    body = json.dumps({"context": {"targetingKey": f"customer-{customer}"}}).encode()
    status, _, answer = Connection(agent.url).ask("POST", PATH, body, {"Content-Type": "application/json"})
    if status != 200:
        sys.exit(f"bench: the decision answered {status}: {answer.decode(errors='replace')}")
    return json.loads(answer), answer


def check(agent, customers):
    """Every tenth customer must get what the tenth rule serves, else something cheaper is measured. Returns an answer."""
    for customer in range(1, customers + 1, max(1, customers // 10)):
        decision, answer = decide(agent, customer)
        if decision.get("variant") != "ten":
            sys.exit(f"bench: customer-{customer} got {decision}, not the variant of the tenth rule")
    return answer.decode()


def start_reference(binary, answer):
    port = free_port()
    process = subprocess.Popen([*pinned(cores()[0]), binary, str(port), answer])
    url = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            Connection(url).open()
            return process, url
        except OSError:
            time.sleep(0.01)
    sys.exit("bench: the reference does not listen")


# --- Measuring -----------------------------------------------------------------------------------------------------


def cpu_seconds(process):
    """User and system time of all threads of a process so far."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def milliseconds(text):
    value, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def run(url, process, seconds, customers):
    """One turn of wrk; returns its figures."""
    before = cpu_seconds(process)
    output = subprocess.run(
        [*pinned(cores()[-1]), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-s",
         str(HERE / "decide.lua"), url + PATH, "--", str(customers)],
        capture_output=True, text=True, check=True).stdout
    cpu = cpu_seconds(process) - before
    if re.search(r"Non-2xx|Socket errors", output):
        sys.exit(f"bench: not every request was answered:\n{output}")
    requests = int(re.search(r"(\d+) requests in", output)[1])
    return {
        "requests_per_second": float(re.search(r"Requests/sec:\s*([\d.]+)", output)[1]),
        "p50_ms": milliseconds(re.search(r"^\s+50%\s+(\S+)$", output, re.M)[1]),
        "p99_ms": milliseconds(re.search(r"^\s+99%\s+(\S+)$", output, re.M)[1]),
        "cpu_us": cpu / requests * 1e6,
    }


def medians(turns):
    return {name: statistics.median(turn[name] for turn in turns) for name in turns[0]}


def line(name, figures):
    return (f"{name:24}{figures['requests_per_second']:>10,.0f} req/s   p50 {figures['p50_ms']:6.2f} ms   "
            f"p99 {figures['p99_ms']:6.2f} ms   server CPU {figures['cpu_us']:6.2f} us/req")


def main():
    parser = argparse.ArgumentParser(prog="Tools/bench http", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--binary", default=str(DEFAULT_BINARY), help="the agent to measure")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each server (15)")
    parser.add_argument("--seconds", type=int, default=1, help="length of a turn (1)")
    parser.add_argument("--customers", type=int, default=1000, help="profiles that are asked for in turn (1000)")
    parser.add_argument("--require", type=float, help="fail when the ratio is below this")
    parser.add_argument("--smoke", action="store_true", help="one short turn each: shows that it works, no more")
    parser.add_argument("--json", help="write the figures into this file too")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.seconds, options.customers = 1, 1, 50

    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as folder:
        config = {"bundle": {"file": str(HERE / "rules.yaml")}, "threads": 1}
        with Agent(folder, binary=options.binary, config=config, runner=pinned(cores()[0])) as agent:
            seed(agent, options.customers)
            answer = check(agent, options.customers)
            reference, url = start_reference(options.reference, answer)
            try:
                turns = {"agent": [], "reference": []}
                for number in range(options.rounds):
                    pair = [("agent", agent.url, agent.process), ("reference", url, reference)]
                    for name, target, process in pair if number % 2 == 0 else pair[::-1]:
                        turns[name].append(run(target, process, options.seconds, options.customers))
                memory = process_memory_kib(agent.process.pid)
            finally:
                reference.kill()
                reference.wait()

    figures = {name: medians(of) for name, of in turns.items()}
    # Of the two turns of one round, which ran within seconds of each other: what else the machine did is in both.
    pairs = list(zip(turns["agent"], turns["reference"]))
    ratio = statistics.median(a["requests_per_second"] / r["requests_per_second"] for a, r in pairs)
    cpu_ratio = statistics.median(r["cpu_us"] / a["cpu_us"] for a, r in pairs)
    print(f"{options.rounds} turns of {options.seconds} s each, {CONNECTIONS} connections, one serving thread, "
          f"{options.customers} profiles, 10 rules")
    print(line("fixed answer in C", figures["reference"]))
    print(line("Gatehouse", figures["agent"]))
    print(f"ratio {ratio:.2f} by requests a second, {cpu_ratio:.2f} by CPU a request; anonymous memory {memory:,} KiB")
    if options.smoke:
        print("(a smoke run: too short for the figures to mean anything)")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(
            {"agent": figures["agent"], "reference": figures["reference"], "ratio": ratio, "cpu_ratio": cpu_ratio,
             "anonymous_kib": memory, "turns": turns}, indent=1))
    if options.require and ratio < options.require:
        sys.exit(f"bench: the ratio {ratio:.2f} is below {options.require}")


if __name__ == "__main__":
    main()
