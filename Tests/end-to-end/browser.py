"""Drives Debian's headless Chromium over the DevTools protocol, by a pipe and not by a port. Standard library only. The
browser reaches this machine and nothing else: no other name resolves.

Whatever the page asks for is in `requests`, and what the browser complains of in `complaints`.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time

from harness import TOP, Failure, Skip


def need_chromium():
    """The path of Chromium, which is installed where it is missing."""
    path = shutil.which("chromium")
    if not path:
        command = "source Tools/lib/common.sh && install_debian chromium"
        subprocess.run(["bash", "-c", command], cwd=TOP, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        path = shutil.which("chromium")
    if not path:
        raise Skip("chromium is not installed and cannot be")
    return path


class Browser:
    """One browser with one page. Its profile is in `folder`, and goes with it."""

    def __init__(self, folder):
        path = need_chromium()
        theirs_in, self.out = os.pipe()
        self.into, theirs_out = os.pipe()
        # The shell puts the pipe where Chromium looks for it: 3 to read from, 4 to write to.
        command = ('exec 3<&$1 4>&$2; shift 2; exec "$@"')
        log = open(os.path.join(folder, "chromium.log"), "wb")
        self.process = subprocess.Popen(
            ["bash", "-c", command, "chromium", str(theirs_in), str(theirs_out), path, "--headless=new", "--no-sandbox",
             "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
             "--disable-background-networking",
             "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--disable-component-update", "--disable-sync",
             "--hide-scrollbars",
             "--force-device-scale-factor=1", f"--user-data-dir={os.path.join(folder, 'chromium')}", "about:blank"],
            pass_fds=(theirs_in, theirs_out), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        os.close(theirs_in)
        os.close(theirs_out)
        self.buffer, self.number, self.requests, self.complaints = b"", 0, [], []
        self.session = None
        target = [one for one in self.send("Target.getTargets")["targetInfos"] if one["type"] == "page"][0]["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Audits"):
            self.send(f"{domain}.enable")

    def close(self):
        os.close(self.out)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.into)

    def receive(self, seconds):
        """The next message, or None when none comes."""
        end = time.monotonic() + seconds
        while b"\0" not in self.buffer:
            if not select.select([self.into], [], [], max(0, end - time.monotonic()))[0]:
                return None
            chunk = os.read(self.into, 1 << 20)
            if not chunk:
                raise Failure("chromium has ended")
            self.buffer += chunk
        text, _, self.buffer = self.buffer.partition(b"\0")
        message = json.loads(text)
        self.note(message)
        return message

    def note(self, message):
        what, values = message.get("method"), message.get("params")
        if what == "Network.requestWillBeSent":
            self.requests.append((values["request"]["method"], values["request"]["url"]))
        elif what == "Log.entryAdded":
            # An answer that is no success is written there too: what became of it the page itself says.
            if values["entry"]["source"] != "network":
                self.complaints.append(values["entry"]["text"])
        elif what == "Runtime.exceptionThrown":
            details = values["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description") or details["text"])
        elif what == "Audits.issueAdded":
            if values["issue"]["code"] in ("ContentSecurityPolicyIssue", "MixedContentIssue"):
                self.complaints.append(json.dumps(values["issue"]))

    def send(self, method, **values):
        self.number += 1
        message = {"id": self.number, "method": method, "params": values}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            answer = self.receive(end - time.monotonic())
            if answer and answer.get("id") == self.number:
                if "error" in answer:
                    raise Failure(f"{method}: {answer['error']}")
                return answer["result"]
        raise Failure(f"chromium does not answer {method}")

    def size(self, width, height, dark=False, motion=True):
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        self.send("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "no-preference" if motion else "reduce"}])

    def open(self, address):
        self.send("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'", "the page is loaded")

    def run(self, expression):
        """The value of an expression in the page."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise Failure(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, expression, what, seconds=30):
        end = time.monotonic() + seconds
        while not self.run(expression):
            if time.monotonic() > end:
                raise Failure(f"waited {seconds} s in vain: {what}; the page says:\n{self.run('document.body.innerText')}")
            self.receive(0.1)

    def text(self, place):
        """What is written in an element, by its id."""
        return self.run(f"document.getElementById({json.dumps(place)}).innerText")

    def press(self, key, shift=False):
        """One key: Tab, Enter, Escape, a space."""
        codes = {"Tab": (9, ""), "Enter": (13, "\r"), "Escape": (27, ""), " ": (32, " ")}
        code, text = codes[key]
        common = {"key": key, "code": {" ": "Space"}.get(key, key), "windowsVirtualKeyCode": code,
                  "modifiers": 8 if shift else 0}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def write(self, text):
        self.send("Input.insertText", text=text)

    def tab_to(self, place, most=80):
        """Goes on with the Tab key until the element of that id, or one that matches the selector, has the focus."""
        selector = place if place[0] in "#[.:" else f"#{place}"
        for _ in range(most):
            if self.run(f"document.activeElement.matches({json.dumps(selector)})"):
                return
            self.press("Tab")
        raise Failure(f"the Tab key does not lead to {place}")

    def screenshot(self, path):
        """The whole page as a PNG."""
        height = self.run("scrollTo(0, 0), document.documentElement.scrollHeight")
        width = self.run("innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        image = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        with open(path, "wb") as file:
            file.write(base64.b64decode(image["data"]))
