"""The commands that ask the running agent, with the real binary: profile, quarantine, erasures, status."""

import hashlib
import json
import os
import pty
import signal
import subprocess
import time

from harness import CONSENT, binary, check, equal, track, wait_until
from test_quality import BUNDLE, agent_with, order

EVERYTHING, CLERK, OPERATOR = "token-of-everything", "token-of-the-clerk", "token-of-the-operator"


def tokens():
    lines = ["tokens:"]
    for token, roles in ((EVERYTHING, "collect, decide, privacy, operate"), (CLERK, "privacy"), (OPERATOR, "operate")):
        lines.append(f"  - {{ sha256: {hashlib.sha256(token.encode()).hexdigest()}, roles: [{roles}] }}")
    return "\n".join(lines)


def run(agent, *arguments, token=None, text=None, config=True, code=0):
    """Runs a command against an agent; checks its exit code and that no identifier is in its complaints."""
    environment = {key: value for key, value in os.environ.items() if key != "GATEHOUSE_TOKEN"}
    if token is not None:
        environment["GATEHOUSE_TOKEN"] = token
    where = ["--config", agent.config] if config else []
    done = subprocess.run(
        [*binary(), *arguments, *where], capture_output=True, text=True, timeout=60, env=environment,
        **({"stdin": subprocess.DEVNULL} if text is None else {"input": text}))
    equal(done.returncode, code, f"exit code of {arguments}: {done.stdout} {done.stderr}")
    check("zora" not in done.stderr, f"an identifier in a complaint: {done.stderr}")
    return done


def settings(bench, agent):
    """A Unix socket beside the address, and tokens."""
    with open(agent.config, "a") as file:
        file.write(f"socket: {bench.folder}/agent.sock\n{tokens()}\n")
    agent.stop()
    agent.start()


def test_commands_without_an_agent_and_with_wrong_command_lines(bench):
    agent = bench.agent()
    agent.stop()
    for command in (("profile", "show", "user_id:zora"), ("profile", "erase", "user_id:zora", "--yes"),
                    ("quarantine", "list"), ("erasures",), ("status",)):
        done = run(agent, *command, code=3)
        check("Is the agent running?" in done.stderr and str(agent.port) in done.stderr, done.stderr)
        equal(done.stdout, "", "output")
    for command in (("profile",), ("profile", "show"), ("profile", "unlink"), ("profile", "show", "a", "b"),
                    ("quarantine", "show"), ("quarantine", "show", "--all"), ("quarantine", "release", "0"),
                    ("quarantine", "delete", "1", "--all"), ("quarantine", "list", "1"), ("erasures", "zora"),
                    ("status", "now"), ("status", "--yes"), ("profile", "show", "user_id:1", "--token", "zora"),
                    ("status", "--url", "http://192.0.2.1"), ("status", "--url", "http://127.0.0.1:1/v1"), ("status", "--ca")):
        run(agent, *command, config=False, code=2)
    done = run(agent, "status", "--config", "/nowhere.yaml", config=False, code=3)
    check("/nowhere.yaml" in done.stderr, done.stderr)
    wrong = os.path.join(bench.folder, "wrong.yaml")
    with open(wrong, "w") as file:
        file.write("listen: nowhere\n")
    for command in (("status",), ("store", "compact"), ("audit", "verify"), ("run",)):
        check("wrong.yaml:1:" in run(agent, *command, "--config", wrong, config=False, code=1).stderr, "a wrong configuration")
    for command in ("profile", "quarantine", "erasures", "status"):
        check("--token-file" in run(agent, "help", command, config=False).stdout, "help")


# limit: gatehouse.tokenBytes
def test_commands_need_the_right_token_and_say_which_role(bench):
    agent, _ = agent_with(bench)
    settings(bench, agent)
    person = ("profile", "show", "user_id:zora")
    done = run(agent, *person, code=1)
    check("GATEHOUSE_TOKEN" in done.stderr and "privacy" in done.stderr, done.stderr)
    check("does not know this token" in run(agent, *person, token="wrong", code=1).stderr, "a wrong token")
    for command, token, role in (
            (person, OPERATOR, "privacy"), (("quarantine", "list"), OPERATOR, "privacy"),
            (("erasures",), OPERATOR, "privacy"), (("quarantine", "release", "1"), CLERK, "operate"),
            (("quarantine", "delete", "--all"), CLERK, "operate"), (("status",), CLERK, "operate")):
        check(f"the role {role}" in run(agent, *command, token=token, code=1).stderr, f"role of {command}")
    check("Nobody here is known" in run(agent, *person, token=CLERK, code=1).stderr, "unknown person")
    # A token from a file, over TCP and over the socket; none that breaks a header.
    path = os.path.join(bench.folder, "token")
    with open(path, "w") as file:
        file.write(OPERATOR + "\n")
    url = ("--url", f"http://127.0.0.1:{agent.port}")
    check("usedBytes:" in run(agent, "status", "--token-file", path).stdout, "status by the socket")
    check("usedBytes:" in run(agent, "status", "--token-file", path, *url, config=False).stdout, "status by TCP")
    for wrong in ("a\r\nX-A: b", "a b", "x" * 513, "\u00e9"):
        check("visible ASCII" in run(agent, "status", token=wrong, code=1).stderr, f"token {wrong!r}")
    check("GATEHOUSE_TOKEN" in run(agent, *person, token="", code=1).stderr, "an empty variable")
    # Without a right token the agent says at least whether it is ready.
    lines = run(agent, "status", code=1).stdout.splitlines()
    equal([line.split(":")[0] for line in lines], ["status", "bundle", "bundleAgeSeconds"], "status without a token")
    equal(lines[:2], ["status: fresh", "bundle: 1"], "status without a token")
    os.remove(os.path.join(bench.folder, "agent.sock"))
    check("agent.sock" in run(agent, "status", token=OPERATOR, code=3).stderr, "a socket that is gone")


def test_profile_is_shown_exported_and_erased(bench):
    agent, _ = agent_with(bench)
    settings(bench, agent)
    note = "\u001b[31mred\u009b\n"
    events = [order("zora", {"revenue": 5, "note": note}), order("zora", {"revenue": 500})]
    events[0]["properties"]["email"] = "Zora+1@example.org"
    headers = {"Authorization": f"Bearer {EVERYTHING}"}
    equal(agent.call("POST", "/v1/batch", {"batch": events}, headers).status, 200, "batch")
    # By any of the identifiers, percent-encoded on the way, and from standard input.
    shown = run(agent, "profile", "show", "user_id:zora", token=CLERK).stdout
    check("attributes: spent 5.0\n" in shown and "consent: analytics true\n" in shown, shown)
    equal(run(agent, "profile", "show", "email:ZORA+1@example.org", token=CLERK).stdout, shown, "by another identifier")
    equal(run(agent, "profile", "show", "-", token=CLERK, text=" user_id:zora \n").stdout, shown, "from standard input")
    record = json.loads(run(agent, "profile", "show", "user_id:zora", "--json", token=CLERK).stdout)
    equal(record, agent.call("GET", "/v1/profiles/user_id:zora", headers=headers).json(), "--json")
    equal(run(agent, "profile", "show", record["id"], token=CLERK).stdout, shown, "by the profile's id")
    check("KIND:VALUE" in run(agent, "profile", "show", "zora", token=CLERK, code=1).stderr, "no reference")
    check("1024" in run(agent, "profile", "show", "user_id:" + "a" * 1020, token=CLERK, code=2).stderr, "a long reference")
    # The export is the API's, into a new file that is its owner's.
    path = os.path.join(bench.folder, "export.json")
    run(agent, "profile", "export", "user_id:zora", "--out", path, token=CLERK)
    equal(os.stat(path).st_mode & 0o777, 0o600, "mode")
    with open(path) as file:
        export = json.load(file)
    equal(sorted(export), ["audit", "events", "quarantined", "record"], "members")
    equal(export["events"][0]["event"]["properties"]["note"], note, "an event")
    equal((len(export["events"]), len(export["quarantined"])), (1, 1), "events and quarantine")
    check("exists" in run(agent, "profile", "export", "user_id:zora", "--out", path, token=CLERK, code=3).stderr, "a second time")
    missing = os.path.join(bench.folder, "nobody.json")
    run(agent, "profile", "export", "user_id:nobody", "--out", missing, token=CLERK, code=1)
    check(not os.path.exists(missing), "a file for nobody")
    # Control characters of an event do not reach a terminal.
    shown = run(agent, "quarantine", "list", token=CLERK).stdout
    check("\u001b" not in shown and "\u009b" not in shown, repr(shown))
    # An erasure asks, and --yes answers.
    check("--yes" in run(agent, "profile", "erase", "user_id:zora", token=CLERK, code=2).stderr, "without a terminal")
    equal(run(agent, "erasures", token=CLERK).stdout, "erasures: none\n", "erasures")
    equal(at_terminal(agent, "no\n", "profile", "erase", "user_id:zora"), 1, "an answer of no")
    run(agent, "profile", "show", "user_id:zora", token=CLERK)
    receipt = json.loads(run(agent, "profile", "erase", "user_id:zora", "--yes", "--json", token=CLERK).stdout)
    run(agent, "profile", "show", "user_id:zora", token=CLERK, code=1)
    run(agent, "profile", "erase", "user_id:zora", "--yes", token=CLERK, code=1)
    wait_until(
        lambda: "state: erased" in run(agent, "erasures", receipt["receipt"], token=CLERK).stdout, 10, "the erasure ends")
    listed = json.loads(run(agent, "erasures", "--json", token=CLERK).stdout)["erasures"]
    equal([entry["receipt"] for entry in listed], [receipt["receipt"]], "erasures")
    equal(run(agent, "erasures", "--after", receipt["receipt"], token=CLERK).stdout, "erasures: none\n", "after the last")
    check("no such receipt" in run(agent, "erasures", "0" * 32, token=CLERK, code=1).stderr, "another receipt")
    equal(agent.call("GET", "/v1/erasures?after=x", headers=headers).status, 400, "after no receipt")
    equal(agent.call("GET", "/v1/erasures").status, 401, "without a token")
    # Somebody else answers yes at a terminal.
    agent.call("POST", "/v1/batch", {"batch": [order("zoran", {"revenue": 5})]}, headers)
    equal(at_terminal(agent, "yes\n", "profile", "erase", "user_id:zoran"), 0, "an answer of yes")
    run(agent, "profile", "show", "user_id:zoran", token=CLERK, code=1)
    check("zora" not in agent.log(), "an identifier in the agent's log")


def at_terminal(agent, answer, *arguments):
    """Runs a command at a terminal of its own and types an answer; its exit code."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ["GATEHOUSE_TOKEN"] = CLERK
        os.execv(binary()[0], [*binary(), *arguments, "--config", agent.config])
    seen = b""
    while b"Type yes" not in seen:
        seen += os.read(terminal, 1000)
    os.write(terminal, answer.encode())
    try:
        while os.read(terminal, 1000):
            pass
    except OSError:
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# limit: Serving.exportBytes
def test_profile_export_joins_all_pages(bench):
    agent = bench.agent()
    filler = "x" * 30_000
    for turn in range(8):
        agent.batch([
            track("zora", "Product Viewed", {"product_id": f"{turn}-{number}", "filler": filler}) for number in range(12)])
    check(b'"after":' in agent.call("GET", "/v1/profiles/user_id:zora/export").body, "one page is enough; make it more")
    export = json.loads(run(agent, "profile", "export", "user_id:zora").stdout)
    equal([entry["event"]["properties"]["product_id"] for entry in export["events"]],
          [f"{turn}-{number}" for turn in range(8) for number in range(12)], "events")
    check("after" not in export, "it says that there is more")


def test_quarantine_is_listed_shown_released_and_deleted(bench):
    agent, path = agent_with(bench)
    equal(run(agent, "quarantine", "list").stdout, "nothing is in quarantine\n", "at first")
    agent.batch([order("zora", {"revenue": 500}), order("zora", {"revenue": 2, "coupon": "no \u001b[31m"}),
                 order("zora", {"revenue": 600})])
    lines = run(agent, "quarantine", "list").stdout.splitlines()
    equal([line.split("  ")[0::2] for line in lines],
          [[number, "Order Completed", f"/properties/{name}"] for number, name in (("1", "revenue"), ("2", "coupon"), ("3", "revenue"))],
          "numbers and names")
    check(lines[0].endswith("  maximum  /properties/revenue") and lines[1].endswith("  pattern  /properties/coupon"), f"{lines}")
    equal(run(agent, "quarantine", "list", "--after", "2").stdout, lines[2] + "\n", "--after")
    shown = run(agent, "quarantine", "show", "2").stdout
    check("pointer: /properties/coupon\n" in shown and "properties: revenue 2, coupon no  [31m\n" in shown, repr(shown))
    equal(json.loads(run(agent, "quarantine", "show", "2", "--json").stdout)["what"]["event"]["properties"]["revenue"], 2, "--json")
    check("no such event" in run(agent, "quarantine", "show", "4", code=1).stderr, "a number that is not there")
    kept = run(agent, "quarantine", "release", "1", code=1)
    check("/properties/revenue" in kept.stdout and "not released" in kept.stderr, f"{kept}")
    with open(path, "w") as file:
        file.write(BUNDLE.format(version=2, invalid="quarantine", maximum=550))
    agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: run(agent, "status").stdout.startswith("status: fresh\nbundle: 2\n"), 10, "the bundle is not taken")
    equal(run(agent, "quarantine", "release", "1").stdout, "kept: none\nreleased: 1\n", "release")
    released = json.loads(run(agent, "quarantine", "release", "--all", "--json").stdout)
    equal((released["released"], [entry["number"] for entry in released["kept"]]), (0, [2, 3]), "release --all")
    equal(run(agent, "quarantine", "delete", "2").stdout, "deleted: 1\n", "delete")
    run(agent, "quarantine", "delete", "2", code=1)
    equal(run(agent, "quarantine", "delete", "--all").stdout, "deleted: 1\n", "delete --all")
    equal(run(agent, "quarantine", "list", "--json").stdout, '{"quarantined":[],"last":0}\n', "what is left")


def test_status_tells_readiness_and_accounts(bench):
    hub = bench.hub()
    agent = bench.agent_of(hub)
    agent.batch([track("zora", "Order Completed", {"order_id": "1", "revenue": 5})])
    wait_until(lambda: agent.accounts()[1]["hub"]["delivered"] == 1, 20, "the event is not delivered")
    events, destinations = agent.accounts()
    seen = json.loads(run(agent, "status", "--json").stdout)
    equal((seen["status"], seen["events"], seen["destinations"]), ("fresh", events, destinations), "status --json")
    equal((seen["profiles"], seen["bundle"]), (1, 1), "status --json")
    shown = run(agent, "status").stdout
    check("events: received 1, admitted 1," in shown and "  hub: admitted 1, delivered 1, queued 0," in shown, shown)
    # A hub, over TLS: with its authority, and not without.
    url = ("--url", f"https://localhost:{hub.port}")
    check("status: " in run(hub, "status", *url, "--ca", hub.tls.authority, config=False).stdout, "a hub")
    check("status: " in run(hub, "status", "--ca", hub.tls.authority).stdout, "a hub by its configuration")
    check("certificate" in run(hub, "status", *url, config=False, code=3).stderr, "a hub that nobody vouches for")
    # --watch looks again, also while there is no agent.
    watch = subprocess.Popen(
        [*binary(), "status", "--watch", "--config", agent.config], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(2.5)
    agent.stop()
    time.sleep(2)
    watch.send_signal(signal.SIGTERM)
    output, complaints = watch.communicate(timeout=10)
    check(output.count("status: fresh") == 2 and "Is the agent running?" in complaints, f"{output} {complaints}")
