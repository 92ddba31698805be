"""From exec to the first decision: an agent with a store of many profiles, started again and again. See Tools/bench.

The time runs from just before the process is made until the answer to one decision has come, with the caller's own
cost in it. Each start follows a clean stop or, in turns, kill -9, after which the store has to be taken up as it lies.
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))
from agent import DEFAULT_BINARY, Agent, Connection, process_memory_kib  # noqa: E402
from decisions import decide, seed  # noqa: E402


def start_once(agent, ask):
    """Starts the agent; returns the seconds until its first decision was there, and what `ask`, which asks for it, returned."""
    with open(agent.log_file, "ab") as log:
        begin = time.perf_counter()
        agent.process = subprocess.Popen(
            agent.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        while True:
            try:
                Connection(agent.url).open()
                break
            except ConnectionRefusedError:
                if time.perf_counter() - begin > 20 or agent.process.poll() is not None:
                    sys.exit(f"bench: the agent does not answer:\n{agent.log_tail()}")
                time.sleep(0.0002)
        decision = ask()
        return time.perf_counter() - begin, decision


def main():
    parser = argparse.ArgumentParser(prog="Tools/bench start", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(DEFAULT_BINARY), help="the agent to measure")
    parser.add_argument("--profiles", type=int, default=10_000, help="profiles in the store (10000)")
    parser.add_argument("--starts", type=int, default=40, help="how often it is started (40)")
    parser.add_argument("--require", type=float, help="fail when the slowest start took more milliseconds than this")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as folder:
        config = {"bundle": {"file": str(HERE / "rules.yaml")}}
        with Agent(folder, binary=options.binary, config=config) as agent:
            seed(agent, options.profiles)
            agent.stop()
            taken = []
            for number in range(options.starts):
                customer = 1 + number % options.profiles
                seconds, (decision, _) = start_once(agent, lambda: decide(agent, customer))
                if decision.get("variant") != "ten":
                    sys.exit(f"bench: the first decision was {decision}, not the variant of the tenth rule")
                taken.append(seconds * 1000)
                memory = process_memory_kib(agent.process.pid)
                if number % 2:
                    agent.kill()
                else:
                    agent.stop()
    print(f"exec to first decision, {options.profiles:,} profiles, {options.starts} starts, every second after kill -9: "
          f"median {statistics.median(taken):.1f} ms, slowest {max(taken):.1f} ms; anonymous memory then {memory:,} KiB")
    if options.require and max(taken) > options.require:
        sys.exit(f"bench: the slowest start took more than {options.require} ms")


if __name__ == "__main__":
    main()
