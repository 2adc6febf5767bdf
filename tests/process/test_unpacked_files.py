"""Another version is unpacked below a running service: what runs goes on with what it has imported."""

from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from websockets.sync.client import connect

from tests.support.installed import Installed
from tests.support.service import Service, wait_until

MakeService = Callable[..., Service]

LATE = "imported after the unpacking"
APPLICATION = """
import os
from clusterd import worker

@worker.on("message")
def told(message):
    worker.send(message)

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": (await receive())["text"]})
        return await send({"type": "websocket.close"})
    if scope["type"] != "http":
        raise RuntimeError("no lifespan")
    if scope["path"] == "/die":
        os._exit(3)
    if scope["path"] == "/fail":
        raise LookupError("no such thing")
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"transfer-encoding", b"chunked")]})
    await send({"type": "http.response.body", "body": b"ok"})
"""


def test_running_processes_import_nothing_from_files_that_were_unpacked(
    make_service: MakeService, tmp_path: Path
) -> None:
    installed = Installed(tmp_path)
    service = make_service(log={"access": "all"}, limits={"max_requests": 50})
    service.environment = installed.environment
    service.deploy("1", APPLICATION)
    service.start()
    for path in installed.package.rglob("*.py"):
        path.write_text(f"raise RuntimeError({LATE!r})\n")
    assert service.get(data=b"x" * 100_000).text == "ok"
    assert service.get(headers={"Transfer-Encoding": "chunked"}, data=iter([b"x"] * 10)).text == "ok"
    assert service.get("/fail").status_code == 500
    with connect(f"ws://127.0.0.1:{service.port}/") as socket:
        socket.send("hello")
        assert socket.recv() == "hello"
    for page in ("/metrics", "/healthz", "/readyz?verbose", "/"):
        assert service.metrics(page).status_code == 200, page
    for command in ("status", "top", "config", "events"):
        assert service.ask_to(command)["succeeded"], command
    for command in ("stacks", "restart"):
        assert service.ask_to(command, slot=1)["succeeded"], command
    for command in ("profile", "memory"):
        assert service.ask_to(command, slot=1, seconds=1)["succeeded"], command
    assert service.ask_to("send", slot=1, message={"a": 1})["succeeded"]
    assert service.ask_to("log-level", level="debug")["succeeded"]
    assert service.ask_to("log-access", mode="off")["succeeded"]
    assert service.ask_to("scale", workers="+1")["succeeded"]
    with pytest.raises(requests.ConnectionError):
        service.get("/die")
    service.wait_for_line(r"worker failed: exit status 3")
    wait_until(lambda: len(service.workers()) == 3, "the third worker, and the one that has died, are ready")
    for _ in range(200):  # And those that have answered enough are replaced.
        assert service.get().text == "ok"
    refused = service.ask_to("upgrade")
    assert (refused["succeeded"], LATE in refused["text"]) == (False, True)
    failed = service.reload()
    assert (failed.returncode, "reload failed" in failed.stderr) == (1, True)
    assert service.get().text == "ok"
    assert service.stop() == 0
    unwanted = [line for line in service.lines if LATE in line and "the upgrade is refused" not in line]
    assert [line for line in unwanted if "template" not in line and "RuntimeError" not in line] == []
