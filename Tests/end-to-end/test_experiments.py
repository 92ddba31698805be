"""What splits and holdouts have shown (gatehouse experiments, GET /v1/experiments), with the real binary."""

import json
import os
import shutil

from harness import CONSENT, check, equal, track, wait_until
from test_clients import package
from test_commands import CLERK, OPERATOR, run, settings

BUNDLE = """
version: 3
purposes: [analytics, personalization, advertising]
identifiers:
  user_id: { from: [userId, context.targetingKey], send: hmac, unique: true }
  cookie: { from: [anonymousId, context.cookie], send: hmac }
events: { Order Completed: { purpose: analytics }, "*": { purpose: personalization } }
attributes: { orders: { type: counter, when: 'event.event == "Order Completed"' } }
decisions:
  offer:
    purpose: personalization
    record: 0
    variants: { none: 0, ten: 10, free: 15.5 }
    default: none
    goal: { event: Order Completed, within: 7d, value: event.properties.revenue }
    rules: [ { name: the test, split: { ten: 3, free: 2 }, holdout: 20 } ]
  banner:
    purpose: personalization
    variants: { blue: 1, red: 2 }
    default: blue
    goal: { when: 'event.event == "Order Completed" && event.properties.revenue >= 100.0' }
    rules: [ { split: { red: 1, blue: 1 } } ]
"""


def agent_with(bench, text=BUNDLE, name="experiments.yaml", settings="", device=None):
    path = os.path.join(bench.folder, name)
    with open(path, "w") as file:
        file.write(text)
    return bench.agent(bundle=path, settings=settings, name=device)


def report(agent):
    answer = agent.call("GET", "/v1/experiments")
    equal(answer.status, 200, f"status of the report ({answer.body[:300]!r})")
    return {count["decision"]: count for count in answer.json()["experiments"]}


def figures(count):
    return {arm["arm"]: (arm["people"], arm["conversions"], arm.get("value")) for arm in count["arms"]}


def people(agent, names):
    agent.batch([track(name, "Page Opened", context=CONSENT) for name in names])


def test_a_report_counts_what_was_answered(bench):
    agent = agent_with(bench)
    names = [f"user-{number}" for number in range(200)]
    people(agent, names)
    # Asking for all flags at once shows nothing.
    equal(agent.call("POST", "/ofrep/v1/evaluate/flags", {"context": {"targetingKey": names[0]}}).status, 200, "all flags")
    expected = {"holdout": [0, 0, 0.0], "ten": [0, 0, 0.0], "free": [0, 0, 0.0]}
    arms = {}
    for name in names:
        answers = {agent.decide("offer", name)["variant"] for _ in range(2)}
        equal(len(answers), 1, "the answers to one person")
        arms[name] = answers.pop().replace("none", "holdout")
        expected[arms[name]][0] += 1
    wait_until(lambda: sum(arm["people"] for arm in report(agent)["offer"]["arms"]) == 200, 5, "everybody is counted")
    for number, name in enumerate(names):
        if number % (3 if arms[name] == "ten" else 7) == 0:
            agent.batch([track(name, "Order Completed", {"revenue": 20.5}, context=CONSENT),
                         track(name, "Order Completed", {"revenue": 100}, context=CONSENT)])
            expected[arms[name]][1] += 1
            expected[arms[name]][2] += 120.5
    expected = {arm: tuple(values) for arm, values in expected.items()}
    equal(figures(report(agent)["offer"]), expected, "the counts")
    equal([arm["people"] for arm in report(agent)["banner"]["arms"]], [0, 0], "a decision that nobody has asked for")
    # They are on the disk.
    agent.kill()
    agent.start()
    equal(figures(report(agent)["offer"]), expected, "the counts after a kill")
    offer = report(agent)["offer"]
    equal((offer["rule"], offer["goal"], offer["withinSeconds"], offer["control"]),
          ("the test", "Order Completed", 604800, "holdout"), "what is counted")
    check_figures(offer)
    # An erased person leaves the counts.
    gone = next(name for name in names if arms[name] == "ten")
    equal(agent.call("DELETE", f"/v1/profiles/user_id:{gone}").status, 200, "an erasure")
    equal(figures(report(agent)["offer"])["ten"][0], expected["ten"][0] - 1, "the counts after an erasure")
    # The first was asked about all flags, which leaves a record of the other decision.
    there = next(name for name in names[1:] if name != gone)
    export = agent.call("GET", f"/v1/profiles/user_id:{there}/export").body.decode()
    check("Page Opened" in export and "Decision Made" not in export, "record: 0 keeps none")
    agent.check_accounts()


def check_figures(count):
    """Holds intervals, lift and probability against SciPy's, where that is installed."""
    try:
        beta = package("scipy.stats", "models", "requirements-models.txt").beta
        numpy = package("numpy", "models", "requirements-models.txt")
    except Exception as reason:
        print(f"    (without SciPy: {reason})")
        return
    generator = numpy.random.default_rng(7)
    arms = {arm["arm"]: arm for arm in count["arms"]}

    def posterior(arm):
        return beta(1 + arm["conversions"], 1 + arm["people"] - arm["conversions"])

    control = posterior(arms[count["control"]]).rvs(4_000_000, random_state=generator)
    for name, arm in arms.items():
        for bound, share in (("rateLow", 0.025), ("rateHigh", 0.975)):
            exact = posterior(arm).ppf(share)
            check(abs(arm[bound] - exact) < 0.0002 * exact + 1e-6, f"{bound} of {name}: {arm[bound]}, by SciPy {exact}")
        if name == count["control"]:
            check("lift" not in arm, "the control has no lift")
            continue
        ratio = posterior(arm).rvs(4_000_000, random_state=generator) / control
        for bound, share in (("lift", 0.5), ("liftLow", 0.025), ("liftHigh", 0.975)):
            drawn = numpy.quantile(ratio, share)
            check(abs(arm[bound] + 1 - drawn) < 0.005 * drawn, f"{bound} of {name}: {arm[bound]}, drawn {drawn - 1}")
        check(abs(arm["probabilityBetter"] - (ratio > 1).mean()) < 0.002, f"{name} is better: {arm['probabilityBetter']}")


def test_the_command_tells_people_and_programs(bench):
    agent = agent_with(bench)
    settings(bench, agent)
    done = run(agent, "experiments", token=OPERATOR)
    check("offer, rule 1 the test; goal: Order Completed within 7 days; against holdout" in done.stdout, done.stdout)
    check("few people or conversions yet" in done.stdout and "0 of 0 people" in done.stdout, done.stdout)
    check('banner, rule 1; goal: event.event == "Order Completed"' in done.stdout, done.stdout)
    check("within 7 days; against blue" in done.stdout, done.stdout)
    counts = json.loads(run(agent, "experiments", "--json", token=OPERATOR).stdout)["experiments"]
    equal([count["decision"] for count in counts], ["offer", "banner"], "the counts for programs")
    equal(counts[1]["arms"][0]["arm"], "red", "arms stand as in the bundle")
    # Nothing is known: everything is possible.
    arm = counts[0]["arms"][1]
    check(arm["rateLow"] < 0.03 and arm["rateHigh"] > 0.97 and arm["liftLow"] < -0.9 and arm["liftHigh"] > 10, arm)
    check(abs(arm["probabilityBetter"] - 0.5) < 0.001 and "rate" not in arm, arm)
    check("role operate" in run(agent, "experiments", token=CLERK, code=1).stderr, "a token of another role")
    run(agent, "experiments", "now", code=2)
    agent.stop()
    run(agent, "experiments", token=OPERATOR, code=3)


def test_a_bundle_without_goals_has_no_experiments(bench):
    agent = agent_with(bench, "\n".join(line for line in BUNDLE.splitlines() if "goal:" not in line))
    equal(agent.call("GET", "/v1/experiments").json(), {"experiments": []}, "the report")
    equal(agent.call("POST", "/v1/experiments", {}).status, 405, "another method")
    check("no decision of the bundle has a goal" in run(agent, "experiments").stdout, "the words")


def test_stores_that_are_merged_count_everybody_once(bench):
    pepper = os.path.join(bench.folder, "pepper")
    with open(pepper, "wb") as file:
        file.write(os.urandom(32))
    os.chmod(pepper, 0o600)
    devices = [
        agent_with(bench, name=f"bundle-{name}.yaml", settings=f"pepper: {pepper}", device=name) for name in ("one", "two")]
    for number, agent in enumerate(devices):
        # user-10 to user-19 are known to both, and were shown the offer by both.
        names = [f"user-{n}" for n in range(10 * number, 10 * number + 20)]
        people(agent, names)
        for name in names:
            agent.decide("offer", name)
        agent.batch([track(name, "Order Completed", {"revenue": 7}, context=CONSENT) for name in names[:15]])
        wait_until(lambda: sum(arm["people"] for arm in report(agent)["offer"]["arms"]) == 20, 5, "everybody is counted")
    for agent in devices:
        agent.stop()
        shutil.copy(pepper, os.path.join(agent.data, "pepper"))
    one, two = devices
    for _ in range(2):
        run(one, "store", "merge", two.data)
    one.start()
    offer = report(one)["offer"]
    equal(sum(arm["people"] for arm in offer["arms"]) + offer["mixed"], 30, "people")
    equal(offer["mixed"], 0, "a person is drawn by their identifier, and that is the same on both")
    # user-0 to user-14 bought at one, user-10 to user-24 at the other.
    equal(sum(arm["conversions"] for arm in offer["arms"]), 25, "conversions")
    equal(sum(arm["value"] for arm in offer["arms"]), 7.0 * 30, "what they have paid: each order once")


def test_a_report_goes_over_more_people_than_one_snapshot_holds(bench):
    agent = agent_with(bench)
    names = [f"user-{number}" for number in range(17_000)]
    for start in range(0, len(names), 1000):
        people(agent, names[start:start + 1000])
    # Ids are random: of 600 people some twenty are among the last 616.
    connection = agent.connection()
    for name in names[:600]:
        question = {"context": {"targetingKey": name}}
        equal(agent.call("POST", "/ofrep/v1/evaluate/flags/offer", question, connection=connection).status, 200, "a question")
    connection.close()
    wait_until(lambda: sum(arm["people"] for arm in report(agent)["offer"]["arms"]) == 600, 10, "everybody is counted once")
