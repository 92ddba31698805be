"""Tables of a bundle at work, with the real binary: attributes, decisions and destinations look things up in them."""

import os
import signal
import time

from harness import check, equal, track, wait_until
from test_delivery import arrivals, wait_for_delivery

BUNDLE = """
version: {version}
purposes: [analytics, personalization]
identifiers:
  user_id: {{ from: [userId, context.targetingKey], send: hmac, unique: true }}
events: {{ '*': {{ purpose: analytics }} }}
tables:
  products:
{products}
  stores: {{ '17': {{ city: Berlin }} }}
attributes:
  categories: {{ type: tally, value: 'tables.products[event.properties.product_id].category' }}
  earned: {{ type: sum, value: 'tables.products[event.properties.product_id].margin * event.properties.price' }}
audiences:
  shoe_lover: '"shoes" in profile.categories && profile.categories["shoes"] >= 2'
decisions:
  by_product:
    variants: {{ high: 1, low: 0 }}
    default: low
    rules: [{{ name: margin, when: '{condition}', serve: high }}]
  by_person:
    purpose: personalization
    variants: {{ shoes: 1, other: 0 }}
    default: other
    rules: [{{ name: lover, when: 'audience.shoe_lover && context.store in tables.stores', serve: shoes }}]
{destinations}
"""

PRODUCTS = """
    p-00003: { category: shoes, margin: 0.5, brand: Acme }
    p-00007: { category: bags, margin: 0.25 }
    p-00009: { brand: Acme }
"""

DESTINATION = """
destinations:
  hub:
    url: https://localhost:{port}/v1/batch
    purpose: analytics
    when: 'tables.products[event.properties.product_id].category != "bags"'
    batch: {{ delay: 1s }}
"""


def write_bundle(bench, version=1, products=PRODUCTS, destinations="",
                 condition="tables.products[context.product].margin > 0.3"):
    path = os.path.join(bench.folder, "tables.yaml")
    with open(path, "w") as file:
        file.write(BUNDLE.format(version=version, products=products, destinations=destinations, condition=condition))
    return path


def viewed(product, price=10):
    return track("zora", "Product Viewed", {"product_id": product, "price": price})


def test_every_kind_of_rule_looks_things_up(bench):
    hub = bench.hub()
    path = write_bundle(bench, destinations=DESTINATION.format(port=hub.port))
    agent = bench.agent(bundle=path, settings=f"tls: {{ ca: {hub.tls.authority} }}")
    # Of a decision without a purpose: what is not there makes the rule not match, and is no mistake.
    for context, variant in (
            ({"product": "p-00003"}, "high"), ({"product": "p-00007"}, "low"), ({"product": "p-00009"}, "low"),
            ({"product": "p-1"}, "low"), ({"product": 3}, "low"), ({}, "low")):
        equal(agent.decide("by_product", "zora", **context)["variant"], variant, f"{context}")
    equal(agent.decide("by_person", "zora", store="17")["variant"], "other", "nothing is known yet")
    agent.batch([viewed("p-00003"), viewed("p-00007"), viewed("p-00003", 4), viewed("p-00009"), viewed("p-1")])
    attributes = agent.profile("user_id:zora")["attributes"]
    equal(attributes["categories"], {"shoes": 2, "bags": 1}, "categories")
    equal(attributes["earned"], 9.5, "earned")
    equal(agent.profile("user_id:zora")["audiences"], ["shoe_lover"], "audiences")
    equal(agent.decide("by_person", "zora", store="17")["variant"], "shoes", "by the person and the store")
    equal(agent.decide("by_person", "zora", store="18")["variant"], "other", "by a store that is not there")
    wait_for_delivery(agent)
    equal([message["properties"]["product_id"] for message in arrivals(hub)], ["p-00003", "p-00003"], "what the filter let pass")
    equal(agent.metrics().get("gatehouse_evaluation_errors_total", 0), 0, "rules that failed")
    agent.check_accounts()


def test_a_bundle_brings_new_tables_or_none(bench):
    path = write_bundle(bench)
    agent = bench.agent(bundle=path)
    equal(agent.decide("by_product", "zora", product="p-00007")["variant"], "low", "a margin of 0.25")
    write_bundle(bench, version=2, products="    p-00007: { margin: 0.75 }")
    agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: agent.metrics()["gatehouse_bundle_version"] == 2, 5, "the bundle is not in force")
    equal(agent.decide("by_product", "zora", product="p-00007")["variant"], "high", "a margin of 0.75")
    equal(agent.decide("by_product", "zora", product="p-00003")["variant"], "low", "a product that is gone")
    # A name that is none is a mistake of the bundle, which then does not replace the one in force (promise P9).
    write_bundle(bench, version=3, condition="tables.prodcts[context.product].margin > 0.3")
    agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "did you mean 'products'" in agent.log(), 5, f"the mistake is not named: {agent.log()}")
    equal(agent.metrics()["gatehouse_bundle_version"], 2, "the version in force")
    equal(agent.decide("by_product", "zora", product="p-00007")["variant"], "high", "a margin of 0.75")


def rows(count):
    return "\n".join(
        f"    p-{number:05}: {{ category: category {number % 20}, margin: {number / 20000}, brand: brand {number % 300} }}"
        for number in range(count))


def test_p10_ten_thousand_rows_fit_and_cost_what_ten_do(bench):
    path = write_bundle(bench, products=rows(10))
    agent = bench.agent(bundle=path)
    agent.decide("by_product", "zora", product="p-00009")
    before = agent.rss_anon_kib()
    connection = agent.connection()

    def fastest(count):
        """The least of many answers' milliseconds; keys are taken from all over the table."""
        least = 1e9
        for number in range(500):
            begin = time.perf_counter()
            answer = agent.call(
                "POST", "/ofrep/v1/evaluate/flags/by_product", {"context": {"product": f"p-{number * 7919 % count:05}"}},
                connection=connection)
            least = min(least, (time.perf_counter() - begin) * 1000)
            equal(answer.status, 200, f"{answer.body}")
        return least

    few = fastest(10)
    write_bundle(bench, version=2, products=rows(10_000))
    begin = time.monotonic()
    agent.process.send_signal(signal.SIGHUP)
    wait_until(lambda: agent.metrics()["gatehouse_bundle_version"] == 2, 20, "the bundle is not in force", 0.02)
    loading = time.monotonic() - begin
    many = fastest(10_000)
    equal(agent.decide("by_product", "zora", product="p-06001")["variant"], "high", "a margin of 0.30005")
    equal(agent.decide("by_product", "zora", product="p-06000")["variant"], "low", "a margin of 0.3")
    reloaded = agent.rss_anon_kib()
    agent.stop()
    agent.start()
    agent.decide("by_product", "zora", product="p-06001")
    # Who looks after bundles gives way to decisions, and lets go of what reading this one took a moment later.
    started = agent.rss_anon_kib()
    for _ in range(50):
        if started - before < 1400:
            break
        time.sleep(0.1)
        started = agent.rss_anon_kib()
    print(f"      a decision: {few:.3f} ms with 10 rows, {many:.3f} ms with 10,000; loaded in {loading:.2f} s; "
          f"RssAnon {before} KiB with 10 rows, {reloaded} after a reload with 10,000, {started} after a start", flush=True)
    check(many < few * 3, f"{few} ms with 10 rows, {many} ms with 10,000")
    check(started - before < 1400 and reloaded < 4096, f"RssAnon: {before} KiB, {reloaded} KiB, {started} KiB")
