"""Which exit handlers run once, and not in every worker."""

import functools
import multiprocessing.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from clusterd.process.exit_handlers import runs_once

pytestmark = pytest.mark.engine_independent


class Buffer:
    def __init__(self) -> None:
        self.listeners: list[object] = []

    def flush(self) -> None:
        self.listeners.remove(self)

    def __call__(self) -> None:
        self.flush()

    def cleanup(self) -> None: ...

    def remove(self) -> None: ...


class Server(Buffer):
    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def stop(self) -> None:
        self.process.terminate()

    def __call__(self) -> None:
        os.killpg(0, 0)


def removes_a_file() -> None:
    os.remove("nowhere")


ONCE: list[Callable[..., object]] = [
    shutil.rmtree,
    os.remove,
    functools.partial(os.unlink, "nowhere"),
    removes_a_file,
    lambda: shutil.rmtree("nowhere"),
    Buffer().cleanup,
    tempfile.TemporaryDirectory.cleanup,
    Server.stop,
    subprocess.Popen.kill,
    ExitStack().close,
    Server.__call__,
]
EVERYWHERE: list[Callable[..., object]] = [
    Buffer().flush,
    Buffer(),
    functools.partial(Buffer().flush),
    lambda: Buffer().flush(),
    Buffer().remove,
    multiprocessing.util._exit_function,  # type: ignore[attr-defined]  # noqa: SLF001
    print,
]


@pytest.mark.parametrize("handler", ONCE, ids=range(len(ONCE)))
def test_what_removes_files_or_ends_processes_runs_once(handler: Callable[..., object]) -> None:
    assert runs_once(handler)


@pytest.mark.parametrize("handler", EVERYWHERE, ids=range(len(EVERYWHERE)))
def test_everything_else_runs_in_every_worker(handler: Callable[..., object]) -> None:
    assert not runs_once(handler)
