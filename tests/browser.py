"""A real Chromium without a window, told what to do over its DevTools protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from loopback import wait_until
from websockets.sync.client import ClientConnection, connect

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--remote-debugging-port=0",
)  # fmt: skip
_FIND = """
(kind, text) => {
  const said = one => (one.innerText || one.value || one.placeholder || '').trim()
  const found = [...document.querySelectorAll(kind)].filter(one => one.checkVisibility() && said(one).includes(text))
  return found.sort((a, b) => said(a).length - said(b).length)[0]
}
"""


@dataclass
class Page:
    """One page of the browser."""

    socket: ClientConnection
    asked: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    def tell(self, method: str, **params: Any) -> Any:
        """Send one command of the protocol; return its answer. Requests of the page are remembered in *asked*."""
        number = next(self._numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            if message.get("method") == "Network.requestWillBeSent":
                self.asked.append(message["params"]["request"]["url"])
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def do(self, script: str) -> Any:
        """Return what an expression of JavaScript says in the page."""
        answer = self.tell("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def open(self, url: str) -> None:
        """Go to *url*."""
        self.tell("Page.navigate", url=url)

    def shows(self, text: str) -> bool:
        """Tell whether *text* can be read in the page."""
        return bool(self.do(f"document.body && document.body.innerText.includes({json.dumps(text)})"))

    def wait_for(self, text: str, timeout_s: float = 60) -> None:
        """Return when *text* can be read in the page."""
        wait_until(lambda: self.shows(text), timeout_s, f"'{text}' in the page")

    def click(self, kind: str, text: str = "") -> None:
        """Click the smallest element of a CSS *kind* that says *text*, as a person with a mouse does."""
        script = f"""(() => {{ const it = ({_FIND})({json.dumps(kind)}, {json.dumps(text)})
          if (!it) return null
          it.scrollIntoView({{block: 'center'}})
          const place = it.getBoundingClientRect()
          const [x, y] = [place.x + place.width / 2, place.y + place.height / 2]
          return it.contains(document.elementFromPoint(x, y)) ? [x, y] : null }})()"""
        places: list[list[float] | None] = [None]

        def rests() -> bool:  # a dialog that still flies in is not where it was a moment ago
            places.append(self.do(script))
            return places[-1] is not None and places[-1] == places[-2]

        wait_until(rests, 60, f"{kind} with '{text}' that nothing covers")
        x, y = places[-1] or (0, 0)
        for event in ("mousePressed", "mouseReleased"):
            self.tell("Input.dispatchMouseEvent", type=event, x=x, y=y, button="left", clickCount=1)

    def fill(self, label: str, text: str) -> None:
        """Type *text* into the field below *label*, in place of what is there."""
        script = f"""(() => {{
          const has = one => one.innerText.trim().startsWith({json.dumps(label)})
          const place = [...document.querySelectorAll('label')].find(has)?.closest('.p-label')
          const it = place?.querySelector('input, textarea')
          it?.focus()
          it?.select()
          return !!it }})()"""
        wait_until(lambda: self.do(script), 30, f"a field '{label}'")
        self.tell("Input.insertText", text=text)

    def choose(self, label: str, text: str) -> None:
        """Choose *text* in the list below *label*."""
        script = f"""(() => {{
          const has = one => one.innerText.trim().startsWith({json.dumps(label)})
          const place = [...document.querySelectorAll('label')].find(has)?.closest('.p-label')
          const it = place?.querySelector('select')
          if (!it) return false
          it.value = {json.dumps(text)}
          it.dispatchEvent(new Event('change', {{bubbles: true}}))
          return it.value === {json.dumps(text)} }})()"""
        wait_until(lambda: self.do(script), 30, f"a list '{label}' with '{text}'")

    def screenshot(self, path: Path) -> None:
        """Write what the page shows."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.tell("Page.captureScreenshot", captureBeyondViewport=True)["data"]))


@contextmanager
def chromium(home: Path, width: int = 1400, height: int = 1900) -> Iterator[Page]:
    """Run a Chromium whose files lie in *home*; yield its page. It is high: messages cover the lower end."""
    program = shutil.which("chromium")
    if not program:
        pytest.skip("chromium is not installed")
    command = [program, *_FLAGS, f"--user-data-dir={home}", f"--window-size={width},{height}", "about:blank"]
    with (home / "output.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        port = home / "DevToolsActivePort"
        wait_until(lambda: port.is_file() and port.read_text().count("\n"), 60, "the start of Chromium")
        with urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json", timeout=30) as answer:
            target = next(one for one in json.load(answer) if one["type"] == "page")
        with connect(target["webSocketDebuggerUrl"], max_size=None) as socket:
            page = Page(socket)
            for domain in ("Page", "Runtime", "Network"):
                page.tell(f"{domain}.enable")
            yield page
    finally:
        process.terminate()
        process.wait(30)
