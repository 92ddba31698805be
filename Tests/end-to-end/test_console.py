"""The console, with the real binary and in a real browser: what it is served with, what it shows, what it does.

Where GATEHOUSE_SCREENSHOTS names a folder, pictures of it are left there.
"""

import gzip
import hashlib
import json
import os
import time

from browser import Browser
from harness import SHOP_BUNDLE, TOP, check, equal, track, wait_until

FILES = {"/": ("console.html", "text/html"), "/console.css": ("console.css", "text/css"),
         "/console.js": ("console.js", "text/javascript")}
BOSS, WATCHER = "token-of-the-boss", "token-of-the-watcher"


def tokens():
    return "tokens:\n" + "".join(
        f"  - {{ sha256: {hashlib.sha256(token.encode()).hexdigest()}, roles: [{roles}] }}\n"
        for token, roles in ((BOSS, "collect, decide, privacy, operate"), (WATCHER, "operate")))


def source(name):
    """As it is in the repository, but for indentation, empty lines and lines that are comments (Tools/lib/ship.sh)."""
    with open(os.path.join(TOP, "Sources", "CConsole", name), "rb") as file:
        lines = [line.lstrip(b" ") for line in file.read().split(b"\n")]
    return b"".join(line + b"\n" for line in lines
                    if line and not line.startswith(b"//") and not (line.startswith(b"/*") and line.endswith(b"*/")))


def with_browser(test):
    """Gives a test a browser, and holds it against what is promised of every visit: nothing is asked of anybody but the
    agent, and the browser has nothing to complain of."""
    def run(bench):
        browser = Browser(bench.folder)
        try:
            agent = test(bench, browser)
            origin = f"http://127.0.0.1:{agent.port}/"
            own = (origin, "data:", "about:", f"blob:{origin}")
            strangers = {url for _, url in browser.requests if not url.startswith(own)}
            equal(strangers, set(), "requests to others than the agent")
            check(len(browser.requests) > 3, f"the page asks: {browser.requests}")
            equal(browser.complaints, [], "complaints of the browser")
        finally:
            browser.close()
    run.__name__ = test.__name__
    return run


def open_console(browser, agent):
    browser.size(1280, 900)
    browser.open(f"http://127.0.0.1:{agent.port}/")


def test_console_is_served_strictly(bench):
    agent = bench.agent(settings=tokens())
    for path, (name, kind) in FILES.items():
        packed = agent.call("GET", path, headers={"Accept-Encoding": "br, gzip"})
        plain = agent.call("GET", path, headers={"Accept-Encoding": "gzip;q=0, identity"})
        equal((packed.status, plain.status), (200, 200), path)
        equal(packed.headers.get("Content-Encoding"), "gzip", "what ships is packed")
        equal(packed.headers.get("Vary"), "Accept-Encoding", "Vary")
        equal(plain.headers.get("Content-Encoding"), None, "what is asked for plain")
        equal(gzip.decompress(packed.body), source(name), path)
        equal(plain.body, source(name), f"{path} unpacked")
        equal(agent.call("GET", path).body, source(name), "without Accept-Encoding")
        check(packed.headers["ETag"] != plain.headers["ETag"], "the two forms have tags of their own")
        check(packed.headers["Content-Type"].startswith(kind), packed.headers["Content-Type"])
        policy = packed.headers["Content-Security-Policy"]
        for word in ("default-src 'none'", "script-src 'self';", "style-src 'self';", "connect-src 'self';",
                     "base-uri 'none'", "frame-ancestors 'none'", "form-action 'none'",
                     "require-trusted-types-for 'script'"):
            check(word in policy, f"{word} in {policy}")
        equal(packed.headers["X-Content-Type-Options"], "nosniff", "X-Content-Type-Options")
        equal(packed.headers["Referrer-Policy"], "no-referrer", "Referrer-Policy")
        for answer, coding in ((packed, "gzip"), (plain, "identity")):
            for tag in (answer.headers["ETag"], f'W/{answer.headers["ETag"]}, "other"'):
                again = agent.call("GET", path, headers={"If-None-Match": tag, "Accept-Encoding": coding})
                equal((again.status, again.body), (304, b""), f"{path} with its tag")
                equal(again.headers["ETag"], answer.headers["ETag"], "the tag of a 304")
            other = {"identity": "gzip", "gzip": "identity"}[coding]
            again = agent.call("GET", path, headers={"If-None-Match": answer.headers["ETag"], "Accept-Encoding": other})
            equal(again.status, 200, "the other form with this tag")
        head = agent.call("HEAD", path, headers={"Accept-Encoding": "gzip"})
        equal((head.status, head.body, head.headers["Content-Length"]), (200, b"", str(len(packed.body))), "HEAD")
        equal(agent.call("POST", path, "{}").status, 405, "POST")
        equal(agent.call("GET", path, headers={"Host": "evil.example"}).status, 421, "a rebound name")
        equal(agent.call("GET", path, headers={"Origin": "https://evil.example"}).status, 403, "a page of another origin")
    equal(agent.call("GET", "/console.map").status, 404, "a file that is not there")
    equal(agent.call("GET", "/metrics").status, 401, "the numbers take a token")


@with_browser
def test_console_shows_what_the_metrics_say(bench, browser):
    agent = bench.agent()
    open_console(browser, agent)
    # Before anything has happened it says what to do, and what it says works.
    browser.wait("!document.getElementById('no-events').hidden", "it says how to send an event")
    browser.wait("!document.getElementById('no-decisions').hidden", "it says how to ask for a decision")
    for place in ("try-event", "try-decision"):
        command = browser.text(place)
        path, _, body = command.removeprefix(f"curl http://127.0.0.1:{agent.port}").partition(" -d '")
        answer = agent.call("POST", path, body.removesuffix("'"))
        equal(answer.status, 200, f"{command}: {answer.body}")
    for number in range(7):
        agent.batch([track(f"user-{number}", "Order Completed", {"order_id": f"{number}", "revenue": 400.0 * number})])
        agent.decide("checkout_offer", f"user-{number}")
    agent.batch([track("nobody", "Order Completed", {"order_id": "8", "revenue": "much"}),
                 track("nobody", "Order Completed", {"order_id": "9", "revenue": -1})])
    agent.batch([track("shy", "Order Completed", {"order_id": "8", "revenue": 1},
                       context={"consent": {"categoryPreferences": {"analytics": False}}})])
    agent.decide("checkout_offer", "shy")
    metrics = agent.metrics()
    browser.wait("document.getElementById('d-collect').innerText.includes('11')", "the events are counted")
    events, destinations = agent.accounts()
    shown = {}
    for layer in ("collect", "govern", "unify", "activate", "deliver"):
        words = browser.text(f"d-{layer}").split("\n")
        shown.update(zip([f"{layer}: {word}" for word in words[::2]], words[1::2]))
    for words, number in {
            "collect: received": events["received"], "collect: sent twice": events["duplicate"],
            "govern: let in": events["admitted"], "govern: no consent": events["denied"],
            "govern: set aside": events["quarantined"],
            "govern: wait for a choice": events["waiting"],
            "activate: by a rule": int(metrics["gatehouse_decisions_matched_total"]),
            "activate: by default": int(metrics["gatehouse_decisions_default_total"]),
            "deliver: delivered": destinations["hub"]["delivered"],
            "deliver: waiting": destinations["hub"]["queued"]}.items():
        equal(shown[words], str(number), words)
    equal(browser.text("r-unify").split()[0], str(int(metrics["gatehouse_profiles"])), "profiles")
    rows = browser.run(
        "[...document.querySelectorAll('#t-decisions tbody tr')].map(row => [...row.cells].map(cell => cell.innerText))")
    counted = {name: int(value) for name, value in metrics.items() if name.startswith("gatehouse_decisions_total{")}
    equal(sorted(int(row[3]) for row in rows), sorted(counted.values()), "answers by variant and reason")
    all_of_them = metrics["gatehouse_decisions_matched_total"] + metrics["gatehouse_decisions_default_total"]
    equal(sum(counted.values()), int(all_of_them), "each answer counts once")
    ten = 'gatehouse_decisions_total{decision="checkout_offer",variant="ten",reason="TARGETING_MATCH"}'
    equal(counted[ten], 4, "those over 1,000")
    check(["checkout_offer", "ten", "a rule matched", "4"] in [row[:4] for row in rows], rows)
    check(any(row[2] == "no consent for its purpose" for row in rows), rows)
    outbox = browser.run("[...document.querySelector('#t-outbox tbody tr').cells].map(cell => cell.innerText)")
    states = destinations["hub"]
    equal((outbox[0], outbox[2], outbox[8]), ("hub", str(states["queued"]), str(states["admitted"])), "outbox")
    check("Order Completed" in browser.text("t-fresh") and "just now" in browser.text("t-fresh"), browser.text("t-fresh"))
    check("2 events are in quarantine" in browser.text("attention"), browser.text("attention"))
    check("A destination takes no events" in browser.text("attention"), browser.text("attention"))
    # A rate appears while events come, and goes.
    end = time.monotonic() + 20
    while browser.text("r-collect").startswith("0\n") and time.monotonic() < end:
        agent.batch([track("user-1", "Product Viewed", {"product_id": "p"})])
        browser.receive(0.2)
    check(not browser.text("r-collect").startswith("0\n"), "a rate while events come")
    browser.wait("document.getElementById('r-collect').innerText.startsWith('0')", "no rate when none come", 40)

    # Quarantine: why, and away with it.
    browser.run("document.getElementById('q-show').click()")
    browser.wait("document.querySelectorAll('#t-quarantine tbody tr').length == 2", "two are listed")
    check("/properties/revenue does not fit the schema" in browser.text("t-quarantine"), browser.text("t-quarantine"))
    browser.run("document.querySelector('#t-quarantine button[aria-label^=Release]').click()")
    browser.wait("document.getElementById('q-word').innerText.includes('1 kept: the event still')", "why it is kept")
    browser.run("document.querySelector('#t-quarantine button[aria-label^=Delete]').click()")
    browser.wait("document.querySelectorAll('#t-quarantine tbody tr').length == 1", "one is left")
    equal(int(agent.metrics()["gatehouse_quarantine_events"]), 1, "events in quarantine")

    # Nobody answers, and then somebody does again.
    agent.kill()
    browser.wait("document.getElementById('attention').innerText.includes('The agent does not answer')", "it says so")
    agent.start()
    browser.wait("document.getElementById('ready').innerText == 'ready'", "it is there again")
    browser.wait("!document.getElementById('attention').innerText.includes('does not answer')", "and all is well")
    browser.run("document.getElementById('pause').click()")
    browser.receive(2)
    before = len(browser.requests)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        browser.receive(0.5)
    equal(len(browser.requests), before, "requests while paused")
    return agent


@with_browser
def test_console_works_by_keyboard_alone(bench, browser):
    agent = bench.agent(settings=tokens())
    boss = {"Authorization": f"Bearer {BOSS}"}
    for user in ("ada", "ben"):
        event = track(user, "Order Completed", {"order_id": user, "revenue": 1200.5})
        answer = agent.call("POST", "/v1/track", event, headers=boss)
        equal(answer.status, 200, answer.body)
    open_console(browser, agent)
    browser.wait("document.getElementById('attention').innerText.includes('asks for a token')", "it asks for a token")
    before = len([url for _, url in browser.requests if url.endswith("/metrics")])
    equal(before, 1, "a refused token is not tried again")
    check("role operate" in browser.text("attention"), browser.text("attention"))

    def use(token):
        if not browser.run("document.getElementById('access').open"):
            browser.tab_to("#access > summary")
            browser.press("Enter")
        browser.tab_to("token")
        browser.write(token)
        browser.press("Enter")

    def ask_for(reference):
        browser.tab_to("p-ref")
        browser.run("document.activeElement.select()")
        browser.write(reference)
        browser.press("Enter")

    use("no-such-token")
    browser.wait("document.getElementById('attention').innerText.includes('does not know this token')", "a wrong token")
    use(WATCHER)
    browser.wait("document.getElementById('d-collect').innerText.includes('received\\n2')", "the watcher sees numbers")
    ask_for("user_id:ada")
    browser.wait("document.getElementById('p-word').innerText == 'The token has not the role privacy.'", "nobody is seen")
    use(BOSS)
    ask_for("user_id:nobody")
    browser.wait("document.getElementById('p-word').innerText.includes('Nobody here is known')", "nobody")
    ask_for("ada")
    browser.wait("document.getElementById('p-word').innerText.includes('KIND:VALUE')", "what a reference is")
    ask_for("user_id:ada")
    browser.wait("document.getElementById('t-attributes').innerText.includes('1,200.5')", "the record")
    equal(browser.run("document.activeElement.id"), "p-name", "where the focus is")
    record = json.loads(agent.call("GET", "/v1/profiles/user_id:ada", headers=boss).body)
    equal(browser.text("p-name"), f"Profile {record['id']}", "whose record")

    # A change of mind.
    browser.tab_to("#p-purposes input[name=personalization]")
    browser.press(" ")
    browser.press("Tab")
    browser.press("Tab")
    browser.press("Enter")
    browser.wait("document.getElementById('p-word').innerText == 'The choice is saved.'", "the choice is saved")
    equal(browser.run("document.activeElement.id"), "p-name", "where the focus is afterwards")
    record = json.loads(agent.call("GET", "/v1/profiles/user_id:ada", headers=boss).body)
    equal(record["consent"], {"analytics": True, "personalization": False, "advertising": False}, "consent afterwards")
    box = "document.querySelector('#p-purposes input[name=personalization]').checked"
    equal(browser.run(box), False, "what is shown afterwards")

    # Erased: not at the first key, and not by Escape.
    browser.tab_to("p-erase")
    browser.press("Enter")
    browser.wait("document.getElementById('sure').open", "it asks first")
    equal(browser.text("sure-title"), "Erase user_id:ada?", "whom it asks about")
    equal(browser.run("document.activeElement.value"), "no", "where the focus is")
    browser.press("Escape")
    browser.wait("!document.getElementById('sure').open", "the question is gone")
    equal(agent.call("GET", "/v1/profiles/user_id:ada", headers=boss).status, 200, "Escape keeps")
    browser.tab_to("p-erase")
    browser.press("Enter")
    browser.wait("document.getElementById('sure').open", "it asks again")
    browser.press("Tab")
    browser.press("Enter")
    browser.wait("document.getElementById('p-word').innerText.includes('Receipt')", "a receipt")
    equal(agent.call("GET", "/v1/profiles/user_id:ada", headers=boss).status, 404, "ada afterwards")
    equal(agent.call("GET", "/v1/profiles/user_id:ben", headers=boss).status, 200, "ben afterwards")
    receipt = browser.text("p-word").split()[-1]
    equal(agent.call("GET", f"/v1/erasures/{receipt}", headers=boss).status, 200, "the receipt")
    check("1200" not in browser.run("document.body.innerText"), "what was shown of her")

    # The token and the person are nowhere that lasts.
    equal(browser.run("[location.href, document.cookie, localStorage.length + sessionStorage.length]"),
          [f"http://127.0.0.1:{agent.port}/", "", 0], "address, cookie, storage")
    equal(browser.run("document.getElementById('token').value + document.getElementById('p-ref').value"), "", "fields")
    use("")
    browser.wait("document.getElementById('attention').innerText.includes('asks for a token')", "without a token again")
    return agent


# The contrast of every text with what is behind it (WCAG 2.2, 1.4.3): 4.5, and 3 where it is large.
CONTRAST = """(() => {
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const colour = parts(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const weak = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    const style = getComputedStyle(element), size = parseFloat(style.fontSize);
    const [a, b] = [light(parts(style.color)), light(behind(element))].sort((x, y) => y - x);
    const needed = size >= 24 || size >= 18.66 && style.fontWeight >= 700 ? 3 : 4.5;
    if ((a + .05) / (b + .05) < needed) weak.push([walker.currentNode.data.trim(), ((a + .05) / (b + .05)).toFixed(2)]);
  }
  return weak;
})()"""


@with_browser
def test_console_fits_its_screen_and_whoever_reads_it(bench, browser):
    with open(SHOP_BUNDLE) as file:
        text = file.read()
    bundle = os.path.join(bench.folder, "fresh.yaml")
    with open(bundle, "w") as file:
        file.write(text.replace("    tier: realtime\n", "    tier: realtime\n    fresh: 1s\n", 1))
    agent = bench.agent(bundle=bundle)
    seen = {"product_id": "p", "category": "a category with a long name"}
    for number in range(30):
        agent.batch([track(f"user-{number}", "Order Completed", {"order_id": f"{number}", "revenue": 100.0 * number}),
                     track(f"user-{number}", "Product Viewed", seen)])
        agent.decide("checkout_offer", f"user-{number}")
        agent.decide("layout", f"user-{number}", width=1000 + 20 * number)
    agent.batch([track("nobody", "Order Completed", {"order_id": "8", "revenue": "much"})])
    time.sleep(1.1)
    folder = os.environ.get("GATEHOUSE_SCREENSHOTS")
    for name, width, height, dark in (
            ("desktop-light", 1280, 900, False), ("desktop-dark", 1280, 900, True), ("tablet-light", 820, 1180, False),
            ("phone-light", 390, 844, False), ("phone-dark", 360, 740, True)):
        browser.size(width, height, dark, motion=not dark)
        browser.open(f"http://127.0.0.1:{agent.port}/")
        browser.wait("document.getElementById('attention').innerText.includes('than it should')", "what is stale is named")
        browser.run("document.getElementById('q-show').click()")
        browser.run("document.getElementById('p-ref').value = 'user_id:user-20'")
        browser.run("document.getElementById('p-form').requestSubmit()")
        browser.wait("!document.getElementById('p-record').hidden", "the record is shown")
        browser.wait("!document.getElementById('t-quarantine').hidden", "quarantine is shown")
        if folder:
            end = time.monotonic() + 12
            while time.monotonic() < end:
                agent.batch([track("user-1", "Product Viewed", seen)])
                browser.receive(0.2)
            browser.screenshot(os.path.join(folder, f"console-{name}.png"))
            browser.drawing(os.path.join(folder, f"console-{name}.svg"), 900)
        check(browser.run("document.documentElement.scrollWidth <= innerWidth"), f"{name}: wider than the screen")
        outside = browser.run("""[...document.querySelectorAll('main *')].filter(one => one.checkVisibility()
            && !one.closest('thead, pre') && one.getBoundingClientRect().right > innerWidth + 1).map(one => one.id)""")
        equal(outside, [], f"{name}: cut off")
        equal(browser.run(CONTRAST), [], f"{name}: too little contrast")
        equal(browser.run("getComputedStyle(document.getElementById('house'), '::before').animationName"),
              "none" if dark else "fall" if width < 960 else "flow", f"{name}: motion")
        tree = browser.send("Accessibility.getFullAXTree")["nodes"]
        roles = {}
        for node in tree:
            if not node.get("ignored"):
                roles.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
        for role in ("button", "link", "textbox", "checkbox", "table", "heading", "region", "navigation"):
            check(roles.get(role) and all(roles[role]), f"{name}: each {role} has a name: {roles.get(role)}")
        for role in ("banner", "main", "contentinfo", "status", "list", "rowheader", "cell", "group"):
            check(role in roles, f"{name}: there is no {role}: {sorted(roles)}")
    # Nothing is asked while nobody looks.
    other = browser.send("Target.createTarget", url="about:blank")["targetId"]
    browser.send("Target.activateTarget", targetId=other)
    browser.wait("document.hidden", "the page is hidden")
    browser.receive(3)
    before, end = len(browser.requests), time.monotonic() + 5
    while time.monotonic() < end:
        browser.receive(0.5)
    equal(len(browser.requests), before, "requests of a hidden page")
    return agent
