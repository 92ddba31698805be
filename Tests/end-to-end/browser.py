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

    def drawing(self, path, height):
        """The top of the page as an SVG: its boxes, lines, words and pictures where the browser has laid them out."""
        with open(path, "w") as file:
            file.write(self.run(DRAWING.replace("HEIGHT", str(height))) + "\n")


# What is written is text: a word is where the browser has put its first letter, and as wide as it has made it.
DRAWING = r"""(() => {
  scrollTo(0, 0);
  const escape = text => text.replace(/[&<>"]/g, one => `&#${one.charCodeAt(0)};`);
  const at = value => +value.toFixed(1);
  const paints = colour => !/, 0\)$/.test(colour) && colour !== 'transparent';
  const lines = [];
  const out = (box) => box.bottom <= 0 || box.top >= HEIGHT || box.width === 0 || box.right <= 0;
  const box = (element, style) => {
    const where = element.getBoundingClientRect();
    if (out(where)) return;
    const sides = ['Top', 'Right', 'Bottom', 'Left'].map(side => [parseFloat(style[`border${side}Width`]),
      style[`border${side}Color`]]).map(([width, colour]) => paints(colour) ? [width, colour] : [0, colour]);
    const isFramed = sides.every(([width]) => width > 0);
    if (paints(style.backgroundColor) || isFramed) {
      const inset = isFramed ? sides[0][0] / 2 : 0, half = Math.min(where.width, where.height) / 2 - inset;
      const [nw, ne, se, sw] = ['TopLeft', 'TopRight', 'BottomRight', 'BottomLeft']
        .map(corner => at(Math.min(parseFloat(style[`border${corner}Radius`]) || 0, half)));
      const [left, top] = [at(where.x + inset), at(where.y + inset)];
      const [width, height] = [at(where.width - 2 * inset), at(where.height - 2 * inset)];
      const arc = (radius, x, y) => radius ? `a${radius} ${radius} 0 0 1 ${x * radius} ${y * radius}` : '';
      lines.push(`<path d="M${left} ${at(top + nw)}${arc(nw, 1, -1)}H${at(left + width - ne)}${arc(ne, 1, 1)}` +
        `V${at(top + height - se)}${arc(se, -1, 1)}H${at(left + sw)}${arc(sw, -1, -1)}Z" ` +
        `fill="${paints(style.backgroundColor) ? style.backgroundColor : 'none'}"` +
        (isFramed ? ` stroke="${sides[0][1]}" stroke-width="${sides[0][0]}"` : '') + '/>');
    }
    if (isFramed) return;
    const ends = [[where.x, where.y, where.right, where.y], [where.right, where.y, where.right, where.bottom],
      [where.x, where.bottom, where.right, where.bottom], [where.x, where.y, where.x, where.bottom]];
    sides.forEach(([width, colour], side) => width > 0 && lines.push(`<path d="M${at(ends[side][0])} ${at(ends[side][1])}` +
      `L${at(ends[side][2])} ${at(ends[side][3])}" stroke="${colour}" stroke-width="${width}"/>`));
  };
  const words = node => {
    const style = getComputedStyle(node.parentElement), range = document.createRange();
    let line = null;
    const end = () => {
      if (line && line.text.trim() && !out(line)) lines.push(`<text x="${at(line.x)}" y="${at(line.base)}" ` +
        `textLength="${at(line.right - line.x)}" font-size="${at(parseFloat(style.fontSize))}"` +
        (style.fontWeight > 400 ? ` font-weight="${style.fontWeight}"` : '') +
        ` font-family="${escape(style.fontFamily.split(', ').slice(-1)[0])}" fill="${style.color}">` +
        `${escape(line.text.trim())}</text>`);
      line = null;
    };
    for (let index = 0; index < node.data.length; index++) {
      range.setStart(node, index);
      range.setEnd(node, index + 1);
      const where = range.getClientRects()[0];
      if (!where || where.width === 0) continue;
      const letter = style.textTransform === 'uppercase' ? node.data[index].toUpperCase() : node.data[index];
      if (line && Math.abs(where.top - line.top) > 2) end();
      const isSpace = /\s/.test(letter);
      if (!line && isSpace) continue;
      line ??= {text: '', x: where.x, top: where.top, bottom: where.bottom, width: 1, right: 0,
        base: where.bottom - where.height * .22};
      line.text += letter;
      if (!isSpace) line.right = where.right;
    }
    end();
  };
  const picture = (element, style) => {
    const where = element.getBoundingClientRect(), view = element.viewBox.baseVal;
    if (out(where)) return;
    const isStretched = element.getAttribute('preserveAspectRatio') === 'none';
    const [x, y] = [where.width / view.width, where.height / view.height];
    const scale = isStretched ? [x, y] : [Math.min(x, y), Math.min(x, y)];
    for (const shape of element.querySelectorAll('path, polyline, line, rect, circle')) {
      const its = getComputedStyle(shape);
      const form = [...shape.attributes].filter(one => /^(d|points|[xy][12]?|r|c[xy]|width|height)$/.test(one.name))
        .map(one => `${one.name}="${escape(one.value)}"`).join(' ');
      lines.push(`<${shape.tagName} ${form} transform="translate(${at(where.x)} ${at(where.y)}) scale(${scale.map(at).join(' ')})" ` +
        `fill="${its.fill}"` + (its.stroke === 'none' ? '' : ` stroke="${its.stroke}" stroke-width="${its.strokeWidth}" ` +
        `vector-effect="non-scaling-stroke"`) + '/>');
    }
  };
  const draw = element => {
    if (!element.checkVisibility({visibilityProperty: true, opacityProperty: true})) return;
    const style = getComputedStyle(element);
    if (element.tagName === 'svg') return picture(element, style);
    box(element, style);
    for (const child of element.childNodes) {
      if (child.nodeType === 1) draw(child);
      if (child.nodeType === 3 && child.data.trim()) words(child);
    }
    if (element.tagName === 'INPUT' && /text|search|password/.test(element.type)) {
      const where = element.getBoundingClientRect();
      if (!out(where)) lines.push(`<text x="${at(where.x + 10)}" y="${at(where.y + where.height / 2 + 5)}" font-size="15" ` +
        `font-family="sans-serif" fill="${style.color}">${escape(element.value || element.placeholder)}</text>`);
    }
  };
  draw(document.body);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${innerWidth} HEIGHT" role="img">\n` +
    `<rect width="${innerWidth}" height="HEIGHT" fill="${getComputedStyle(document.body).backgroundColor}"/>\n` +
    `${lines.join('\n')}\n</svg>`;
})()"""
