"""What a dead master has left: what the next one goes on with, and what it refuses."""

import json
import os
from dataclasses import replace
from typing import Any

import pytest

from clusterd.config.reading.loader import load_given
from clusterd.log import Level, Logger
from clusterd.master.admin import counts
from clusterd.master.children.child import Kind
from clusterd.master.hooks import manager as hooks
from clusterd.master.hooks.delivery import Counts as HookCounts
from clusterd.master.observing import observations
from clusterd.master.takeover import inheritance
from clusterd.master.takeover.state import (
    FORMAT,
    OWN_LAYOUTS,
    ChildState,
    ConfigState,
    Counted,
    ListenersState,
    MasterState,
    Remembered,
    SharedMemory,
)
from clusterd.master.takeover.state_file import StateFile
from clusterd.metrics.regions import arena
from clusterd.supervisor.events import Start
from clusterd.supervisor.model.plain import to_plain
from clusterd.supervisor.snapshot import snapshot
from clusterd.supervisor.supervisor import Supervisor
from tests.support.settings import supervisor_settings
from tests.unit.test_handling import Lines

pytestmark = pytest.mark.engine_independent

STORED = {20: "m-1", 21: "m-2", 22: "w-3", 30: "c-4", 31: "c-5", 32: "s-6"}
RECEIVED = {name: number - 10 for number, name in STORED.items()}


def worker(serial: int, channel: int, *, is_kept: bool) -> ChildState:
    """A worker that uses the row of its serial."""
    return ChildState(
        serial=serial,
        kind=Kind.WORKER,
        generation=1,
        slot=serial,
        row=serial,
        pid=4000 + serial,
        copy=None,
        channel=channel,
        stacks=32,
        stacks_read=0,
        log_level=None,
        access_log=None,
        is_heard=True,
        signal_asked_for="",
        debugger=None,
        started=1,
        is_reaped_by_template=False,
        is_kept=is_kept,
        cpu_seconds=0.0,
    )


def state() -> MasterState:
    """That of a master with one worker that had its first order, and one that had not."""
    supervisor = Supervisor()
    supervisor.step(Start(supervisor_settings(2)), 0.0)
    config = ConfigState.of(load_given({"app": "a:b", "listen": ["127.0.0.1:0"]}, "test"))
    leases = tuple(arena.Lease(row, row, 1, row, 1000) for row in (1, 2, 3))
    return MasterState(
        format=FORMAT,
        program="1",
        layouts=OWN_LAYOUTS,
        cluster=snapshot(supervisor.cluster),
        shared=SharedMemory(20, 21, arena.Kept(leases, 3, 4, 0), (22,)),
        listeners=ListenersState((), (), frozenset()),
        children=(worker(1, 30, is_kept=True), worker(2, 31, is_kept=False)),
        started_with=config,
        configurations={1: config},
        environments={},
        log_level=Level.INFO,
        access_log=None,
        counted=Counted({}, {}, counts.Counts().kept(), 0, 0, 0, 0, hooks.Kept(0, HookCounts())),
        remembered=Remembered(0, (), (), {}, observations.Kept()),
        first_master=1,
        stored=STORED,
    )


def test_a_process_without_its_first_order_leaves_no_row_and_no_region() -> None:
    passed_on = state().passed_on(RECEIVED)
    assert [each.serial for each in passed_on.children] == [1]
    assert [each.row for each in passed_on.shared.kept_of_arena.leases] == [1]


def test_descriptors_have_the_numbers_of_the_next_process() -> None:
    passed_on = state().passed_on(RECEIVED)
    assert (passed_on.shared.scoreboard, passed_on.shared.wakeups) == (10, (12,))
    assert [(each.channel, each.stacks) for each in passed_on.children] == [(20, 22)]


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What a manager has kept, which no message asks for."""
    monkeypatch.setenv("CLUSTERD_DESCRIPTOR_STORE", "yes")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    return {name: os.memfd_create(name) for name in STORED.values()}


@pytest.mark.parametrize(
    ("pending", "complaint"),
    [([["Unheard", {}]], "the actions that were pending cannot be read"), ([], "the service had not started")],
)
def test_what_cannot_be_gone_on_with_is_closed_and_said_in_one_line(
    stored: dict[str, int], pending: list[Any], complaint: str
) -> None:
    file = StateFile.create()
    left = state()
    file.write(json.dumps(to_plain(replace(left, cluster={**left.cluster, "pending": pending}))).encode())
    lines = Lines()
    passed = [(number, name) for name, number in {**stored, "state": file.descriptor}.items()]
    assert inheritance.left_by_dead_master(passed, Logger(lines)) is None
    assert complaint in lines.text
    for descriptor, _ in passed:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
