"""What a worker answers when the master asks for its metrics, also if it lacks what an answer takes."""

import asyncio
import os
from typing import Any, cast

import pytest

from clusterd.log import Logger, Sink
from clusterd.metrics.application.instrumentation import Instrumentation
from clusterd.wire.messages import MetricsTold
from clusterd.worker import metrics_teller
from clusterd.worker.metrics_teller import MetricsTeller

pytestmark = pytest.mark.engine_independent

ANSWER = b"[]"


class Instrumented:
    """Has metrics."""

    template_values = 0

    def answer(self) -> bytes:
        return ANSWER


def refuse(*_: object, **__: object) -> Any:
    raise OSError(24, "Too many open files")


def refuse_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")


async def answer() -> tuple[MetricsTold, bytes | None]:
    """The answer to one question."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[tuple[MetricsTold, bytes | None]] = loop.create_future()

    def tell(message: MetricsTold, descriptors: tuple[int, ...]) -> None:
        told.set_result((message, os.pread(descriptors[0], 100, 0) if descriptors else None))

    log = Logger(Sink(lambda _: [], lambda _: True))
    MetricsTeller(cast(Instrumentation, Instrumented()), loop, tell, log).asked(7)
    return await asyncio.wait_for(told, 5)


def test_a_question_is_answered() -> None:
    assert asyncio.run(answer()) == (MetricsTold(7), ANSWER)


def test_a_question_is_answered_without_a_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "memfd_create", refuse)
    assert asyncio.run(answer()) == (MetricsTold(7), None)


def test_a_question_is_answered_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_teller, "begin", refuse_thread)
    assert asyncio.run(answer()) == (MetricsTold(7), None)
