"""Scores at work, with the real binary: XGBoost trains on public data sets, its model goes into a bundle as it was saved,
and what XGBoost predicts is held against what the agent makes of each row."""

import json
import os
import signal
import subprocess
import time

from harness import TOP, binary, check, equal, track, wait_until
from test_clients import package
from test_delivery import arrivals, wait_for_delivery

HEAD = {
    "version": 1, "purposes": ["analytics", "personalization"],
    "identifiers": {"user_id": {"from": ["userId", "context.targetingKey"], "send": "hmac", "unique": True}},
    "events": {"*": {"purpose": "analytics"}},
}
# The score is compared where it is computed, since an answer has a variant and no score in it.
RULES = {
    "variants": {"other": 0, "near": 1, "equal": 2}, "default": "other",
    "rules": [
        {"name": "equal", "when": 'score("model") == context.expected', "serve": "equal"},
        {"name": "near", "serve": "near",
         "when": 'score("model") > context.expected - 0.000001 && score("model") < context.expected + 0.000001'},
    ],
}


def learn(objective, rows, labels, names=None, rounds=100, **options):
    """Trains; returns the model as it is saved, and what it predicts for the rows."""
    xgboost = package("xgboost", "models", "requirements-models.txt")
    matrix = xgboost.DMatrix(rows, label=labels, feature_names=names)
    booster = xgboost.train({"objective": objective, "max_depth": 6, "nthread": 1, **options}, matrix, rounds)
    return json.loads(bytes(booster.save_raw("json"))), [float(value) for value in booster.predict(matrix)]


def holes(rows):
    """The rows with a tenth of their values missing."""
    numpy = package("numpy", "models", "requirements-models.txt")
    rows = numpy.array(rows, dtype="float64")
    rows[numpy.random.default_rng(1).random(rows.shape) < 0.1] = float("nan")
    return rows


def data(name):
    return getattr(package("sklearn.datasets", "models", "requirements-models.txt"), name)()


def write(bench, model, features, version=1, **more):
    path = os.path.join(bench.folder, "scores.json")
    bundle = {**HEAD, "version": version, "scores": {"model": {"model": model, "features": features}},
              "decisions": {"compare": RULES}, **more}
    with open(path, "w") as file:
        json.dump(bundle, file)
    return path


def by_column(names):
    return {name: f"context.row[{number}]" for number, name in enumerate(names)}


def compare(agent, rows, predictions):
    """Asks for every row; returns how many scores are the prediction to the last bit. All are within a millionth of it."""
    connection = agent.connection()
    same = 0
    for number, (row, expected) in enumerate(zip(rows, predictions)):
        # What is missing is null.
        values = [None if value != value else float(value) for value in row]
        answer = agent.call("POST", "/ofrep/v1/evaluate/flags/compare", {"context": {"row": values, "expected": expected}},
                            connection=connection)
        equal(answer.status, 200, f"status for row {number}")
        variant = answer.json()["variant"]
        check(variant != "other", f"the score of row {number} is not within a millionth of XGBoost's {expected}")
        same += variant == "equal"
    connection.close()
    equal(agent.metrics().get("gatehouse_evaluation_errors_total", 0), 0, "expressions that failed")
    return same


def breast_cancer(bench, arch):
    cancer = data("load_breast_cancer")
    rows = holes(cancer.data)
    model, predictions = learn("binary:logistic", rows, cancer.target)
    path = write(bench, model, by_column(f"f{number}" for number in range(len(rows[0]))))
    same = compare(bench.agent(arch=arch, bundle=path), rows, predictions)
    print(f"      {len(rows)} rows within a millionth of XGBoost's predictions, {same} the same to the last bit", flush=True)


def test_xgboost_classifies_and_the_agent_agrees(bench):
    breast_cancer(bench, "x86_64")


def test_xgboost_classifies_and_aarch64_agrees_under_qemu(bench):
    breast_cancer(bench, "aarch64")


def test_xgboost_classifies_and_armv7_agrees_under_qemu(bench):
    breast_cancer(bench, "armv7")


def test_xgboost_estimates_numbers_and_the_agent_agrees(bench):
    """Features by the names that they have in the data set; the bundle is YAML, with the model in it as it was saved."""
    diabetes = data("load_diabetes")
    rows = holes(diabetes.data)
    model, predictions = learn("reg:squarederror", rows, diabetes.target, names=diabetes.feature_names)
    path = os.path.join(bench.folder, "scores.yaml")
    with open(path, "w") as file:
        for section, content in (*HEAD.items(), ("decisions", {"compare": RULES})):
            file.write(f"{section}: {json.dumps(content)}\n")
        file.write(f"scores:\n  model:\n    model: {json.dumps(model)}\n    features:\n")
        for name, expression in by_column(diabetes.feature_names).items():
            file.write(f"      {name}: {expression}\n")
    same = compare(bench.agent(bundle=path), rows, predictions)
    equal(same, len(rows), "rows with the same number to the last bit")


def test_p10_a_hundred_trees_of_depth_six_fit(bench):
    """As many nodes as such trees can have: what a bundle with them takes, in memory and in time."""
    numpy = package("numpy", "models", "requirements-models.txt")
    random = numpy.random.default_rng(7)
    rows = random.normal(size=(20_000, 30))
    labels = (rows[:, 0] * rows[:, 1] + rows[:, 2] + random.normal(size=len(rows)) > 0).astype(int)
    model, predictions = learn("binary:logistic", rows, labels, min_child_weight=0)
    nodes = sum(len(tree["left_children"]) for tree in model["learner"]["gradient_booster"]["model"]["trees"])
    check(nodes > 10_000, f"the trees have {nodes} nodes; this test shows nothing")
    features = by_column(f"f{number}" for number in range(30))
    small, _ = learn("binary:logistic", rows[:100], labels[:100], rounds=1)
    agent = bench.agent(bundle=write(bench, small, features))
    agent.decide("compare", "zora", row=[1.5] * 30, expected=0.5)
    before = agent.rss_anon_kib()
    path = write(bench, model, features, version=2)
    begin = time.monotonic()
    agent.process.send_signal(signal.SIGHUP)
    most = 0

    def is_loaded():
        nonlocal most
        most = max(most, agent.rss_anon_kib())
        return "version=2" in agent.log() or agent.metrics()["gatehouse_bundle_version"] == 2

    wait_until(is_loaded, 20, "the bundle is not in force", 0.002)
    loading = time.monotonic() - begin
    compare(agent, rows[:500], predictions[:500])
    reloaded = agent.rss_anon_kib()
    agent.stop()
    agent.start()
    compare(agent, rows[:50], predictions[:50])
    started = agent.rss_anon_kib()
    print(f"      {nodes} nodes, a bundle of {os.path.getsize(path) / 1024:.0f} KiB, loaded in {loading:.2f} s; RssAnon "
          f"{before} KiB with one tree, {most} at most while it was loaded, {reloaded} after that, {started} after a start",
          flush=True)
    check(reloaded < 4096 and started < 4096, f"RssAnon: {before} KiB, {reloaded} KiB, {started} KiB")


def test_audiences_decisions_and_destinations_ask_for_a_persons_scores(bench):
    hub = bench.hub()
    path = os.path.join(bench.folder, "people.yaml")
    with open(path, "w") as file:
        file.write(PEOPLE.replace("PORT", str(hub.port)))
    agent = bench.agent(bundle=path, settings=f"tls: {{ ca: {hub.tls.authority} }}")
    equal(agent.decide("offer", "zora")["variant"], "none", "nothing is known yet")
    agent.batch([track("zora", "Order Completed", {"revenue": 100}), track("zora", "Order Completed", {"revenue": 50}),
                 track("yuri", "Order Completed", {"revenue": 10})])
    equal(agent.decide("offer", "zora")["variant"], "ten", "20 points")
    equal(agent.decide("offer", "zora", voucher="X")["variant"], "twenty", "25 points with the question's")
    equal(agent.decide("offer", "yuri", voucher="X")["variant"], "none", "5 points")
    record = agent.profile("user_id:zora")
    equal(record["audiences"], ["loyal"], "audiences")
    equal(record["scores"]["loyalty"], 20, "points")
    # 1 / (1 + e^-(0.5 - 0.01 * 150))
    check(abs(record["scores"]["churn"] - 0.2689414213699951) < 1e-15, f"a probability of {record['scores']['churn']}")
    equal(agent.profile("user_id:yuri")["audiences"], [], "audiences of somebody else")
    wait_for_delivery(agent)
    orders = [message["properties"]["revenue"] for message in arrivals(hub) if message["event"] == "Order Completed"]
    equal(orders, [100, 50], "what the filter let pass")
    # Who has not granted the purpose has no score there either.
    agent.call("PUT", "/v1/profiles/user_id:zora/consent", {"personalization": False})
    equal(agent.decide("offer", "zora", voucher="X")["variant"], "none", "without consent")
    equal(agent.metrics().get("gatehouse_evaluation_errors_total", 0), 0, "expressions that failed")
    agent.check_accounts()


PEOPLE = """
version: 1
purposes: [analytics, personalization]
identifiers:
  user_id: { from: [userId, context.targetingKey], send: hmac, unique: true }
events: { '*': { purpose: analytics } }
attributes:
  orders: { type: counter, when: 'event.event == "Order Completed"' }
  spent: { type: sum, value: event.properties.revenue }
scores:
  loyalty: { points: { profile.orders >= 2: 20, 'context.voucher == "X"': 5 } }
  churn: { logistic: { intercept: 0.5, weights: { profile.spent: -0.01 } } }
audiences:
  loyal: score("loyalty") >= 20.0 && score("churn") < 0.5
decisions:
  offer:
    purpose: personalization
    variants: { none: 0, ten: 10, twenty: 20 }
    default: none
    rules:
      - { name: many, when: 'audience.loyal && score("loyalty") > 20.0', serve: twenty }
      - { name: some, when: audience.loyal, serve: ten }
destinations:
  hub:
    url: https://localhost:PORT/v1/batch
    purpose: analytics
    when: 'score("loyalty") >= 20.0'
    batch: { delay: 1s }
"""


def test_scores_are_computed_without_allocation_and_as_in_c(bench):
    """The smoke size of `Tools/bench score`: it fails if anything is allocated or a score is not the C's."""
    run = subprocess.run([os.path.join(TOP, "Tools", "bench"), "score", "--smoke"], capture_output=True, text=True)
    equal(run.returncode, 0, f"Tools/bench score --smoke: {run.stdout}{run.stderr[-2000:]}")
    equal(run.stdout.count(" ns"), 4, f"figures: {run.stdout}")


def test_what_is_wrong_with_a_model_is_said_by_line_and_column(bench):
    path = os.path.join(bench.folder, "wrong.yaml")
    with open(path, "w") as file:
        file.write("version: 1\npurposes: [analytics]\nscores:\n  churn:\n    model:\n      learner:\n"
                   "        objective: { name: 'multi:softmax' }\n        learner_model_param: {}\n")
    result = subprocess.run([*binary(), "check", path], capture_output=True, text=True)
    equal(result.returncode, 1, "exit code")
    check(result.stderr.startswith(f"{path}:7:28: ") and "multi" not in result.stderr, f"says: {result.stderr}")
