"""Asking systemd which sockets it keeps: by a systemctl that answers, hangs, fails or is not there."""

import asyncio
import os
from collections.abc import Awaitable, Iterator
from pathlib import Path

import pytest

from clusterd.master.sockets.socket_keeper import SocketKeeper
from tests.support.service import wait_until

pytestmark = pytest.mark.engine_independent

ANSWERS = """#!/bin/sh
case " $* " in
*" list-jobs "*) echo "  7 web-metrics.socket stop waiting" ;;
*) printf 'Id=web.service\\nActiveState=deactivating\\n\\n'
   printf 'Id=web.socket\\nTriggers=web.service\\nActiveState=active\\nFileDescriptorName=http\\n\\n'
   printf 'Id=web-metrics.socket\\nTriggers=web.service\\nActiveState=active\\nFileDescriptorName=metrics\\n' ;;
esac
"""


@pytest.fixture(autouse=True)
def reaped() -> Iterator[None]:
    """As the master does, which reaps all its children."""
    yield

    def over() -> bool:
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    return False
            except ChildProcessError:
                return True

    wait_until(over, "what was started has ended")


def keeper(directory: Path, script: str, unit: str | None = "web.service") -> SocketKeeper:
    systemctl = directory / "systemctl"
    systemctl.write_text(script)
    systemctl.chmod(0o755)
    return SocketKeeper(unit, os.environ, str(systemctl))


async def beside(answer: Awaitable[object]) -> tuple[object, int]:
    """The answer, and how often the loop has turned meanwhile, at most once in 10 ms."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.01)
            turns += 1

    turning = asyncio.create_task(turn())
    try:
        return await answer, turns
    finally:
        turning.cancel()


def test_what_systemd_keeps_is_what_no_job_stops(tmp_path: Path) -> None:
    assert asyncio.run(keeper(tmp_path, ANSWERS).kept()) == frozenset({"http"})


def test_one_that_hangs_is_ended_and_the_loop_turns_meanwhile(tmp_path: Path) -> None:
    hangs = keeper(tmp_path, "#!/bin/sh\nexec sleep 600\n")
    kept, turns = asyncio.run(beside(hangs.kept()))
    assert kept is None
    assert turns > 10


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 1\n", "#!/nowhere/at/all\n"])
def test_without_an_answer_it_is_not_known(tmp_path: Path, script: str) -> None:
    assert asyncio.run(keeper(tmp_path, script).kept()) is None


def test_a_process_that_is_no_service_asks_nobody(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    assert asyncio.run(keeper(tmp_path, f"#!/bin/sh\ntouch {asked}\n", unit=None).kept()) is None
    assert not asked.exists()
