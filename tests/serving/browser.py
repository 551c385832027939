"""A headless Chromium of the system, driven by its debugging pipe: no port, and no package."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress

from tests.servers import missing

_PROGRAMS = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # it refuses one to root, as whom CI runs
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
)
_ABOVE = 10


def chromium():
    """Return the program; without one the test is skipped, or fails where CI has to bring it."""
    found = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if found:
        return found
    return missing("Chromium is not installed: apt-get install chromium-headless-shell")


@contextmanager
def running_browser(folder):
    browser = Browser(chromium(), folder)
    try:
        yield browser
    finally:
        browser.stop()


class Browser:
    """The process; it reads commands from descriptor 3 and answers on 4, each with a NUL at its end."""

    def __init__(self, program, folder):
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        given = [fcntl.fcntl(one, fcntl.F_DUPFD, _ABOVE) for one in (commands, answers)]
        shell = ["bash", "-c", f'exec "$0" "$@" 3<&{given[0]} 4>&{given[1]}', program, *_OPTIONS]
        self.process = subprocess.Popen(
            [*shell, f"--user-data-dir={folder}", "about:blank"],
            pass_fds=given,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for one in (commands, answers, *given):
            os.close(one)
        self._number, self._buffer, self.events = 0, b"", []

    def call(self, method, session=None, **arguments):
        self._number += 1
        message = {"id": self._number, "method": method, "params": arguments}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def _next(self):
        while b"\0" not in self._buffer:
            assert select.select([self._read], [], [], 30)[0], "Chromium does not answer"
            content = os.read(self._read, 1 << 16)
            assert content, "Chromium has ended"
            self._buffer += content
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def stop(self):
        with suppress(AssertionError, OSError):
            self.call("Browser.close")
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._write)
        os.close(self._read)

    @contextmanager
    def tab(self, url, width=1280, height=900, scheme="light"):
        """Yield a tab with the page at ``url``."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        tab = Tab(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        try:
            for domain in ("Page", "Runtime", "Log", "Network"):
                tab.call(f"{domain}.enable")
            tab.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
            )
            tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            tab.call("Page.navigate", url=url)
            tab.wait("document.readyState === 'complete'")
            yield tab
        finally:
            self.call("Target.closeTarget", targetId=target)


class Tab:
    """One page."""

    def __init__(self, browser, session):
        self.browser, self._session = browser, session

    def call(self, method, **arguments):
        return self.browser.call(method, self._session, **arguments)

    def value(self, script):
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script, seconds=10):
        end = time.monotonic() + seconds
        while not self.value(f"Boolean({script})"):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.02)

    def text(self, selector):
        return self.value(f"document.querySelector({json.dumps(selector)}).innerText")

    def fill(self, selector, text):
        self.value(
            f"{{ const one = document.querySelector({json.dumps(selector)}); one.value = {json.dumps(text)};"
            " one.dispatchEvent(new Event('input', {bubbles: true})); }"
        )

    def press(self, key, code=0, text=""):
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)

    def click(self, selector):
        self.value(f"document.querySelector({json.dumps(selector)}).click()")

    def seen(self, method):
        """Return what was told of events of a kind in this tab."""
        self.value("0")  # so that what came is read
        mine = [one for one in self.browser.events if one.get("sessionId") == self._session]
        return [one["params"] for one in mine if one["method"] == method]

    def picture(self, path):
        height = self.value("document.documentElement.scrollHeight")
        width = self.value("innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))
