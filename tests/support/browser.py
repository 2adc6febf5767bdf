"""A headless Chromium, driven over its own protocol (https://chromedevtools.github.io/devtools-protocol/)."""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from websockets.sync.client import ClientConnection, connect

from tests.support.service import PATIENCE_SECONDS, wait_until

NAMES = ("chromium-headless-shell", "chromium")


def find() -> str | None:
    """The path of the browser, if it is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A tab. `complaints` are what its console has said: errors, warnings and violations of policies."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            document = json.loads(self._connection.recv(PATIENCE_SECONDS))
            if document.get("id") == self._number:
                assert "error" not in document, document
                result: dict[str, Any] = document["result"]
                return result
            self._note(document)

    def _note(self, document: dict[str, Any]) -> None:
        match document["method"]:
            case "Log.entryAdded":
                self.complaints.append(document["params"]["entry"]["text"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(document["params"]))

    def size(self, width: int, height: int = 900) -> None:
        """Make the window so large, in CSS pixels."""
        self._call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def prefer(self, scheme: str, *, scripts: bool = True) -> None:
        """Prefer `light` or `dark`, and run scripts or not."""
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._call("Emulation.setScriptExecutionDisabled", value=not scripts)

    def open(self, url: str) -> None:
        """Load a page, and wait until it is there."""
        self._call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, whether its own scripts run or not."""
        result = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """Wait until an expression is true, and return its value."""
        return wait_until(lambda: self.value(expression), expression)

    def screenshot(self, path: Path) -> None:
        """Take a picture of the whole page."""
        taken = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def browser(program: str, directory: Path) -> Iterator[Browser]:
    """Start a browser with one tab. `directory` is for its profile."""
    options = ("--headless", "--disable-gpu", "--no-sandbox", "--remote-debugging-port=0", "--hide-scrollbars")
    # Nothing but the page: no look for updates, for instance.
    quiet = ("--disable-background-networking", "--disable-component-update", "--no-first-run")
    command = [program, *options, *quiet, f"--user-data-dir={directory}", "about:blank"]
    # Debian's command is a script that starts the browser, so a session of their own is what can be ended as a whole.
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    try:
        address = next(filter(None, (re.search(r"ws://(\S+)/devtools/browser/", line) for line in process.stderr)))[1]
        tabs = requests.get(f"http://{address}/json/list", timeout=PATIENCE_SECONDS).json()
        with connect(tabs[0]["webSocketDebuggerUrl"], max_size=None) as connection:
            yield Browser(connection)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)
        process.stderr.close()
