"""What a dead master has left: what the next one goes on with, and what it refuses."""

import json
import os
from dataclasses import replace
from pathlib import Path
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
from clusterd.master.takeover.state_file import MOST_ATTEMPTS, StateFile
from clusterd.metrics.regions import arena
from clusterd.supervisor.events import SpareReady, Start, TemplateLoaded, WorkerHello, WorkerReady
from clusterd.supervisor.model.plain import to_plain
from clusterd.supervisor.snapshot import snapshot
from clusterd.supervisor.supervisor import Supervisor
from clusterd.systemd.stopping import note_death
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


def running() -> Supervisor:
    """A service of one worker that serves."""
    supervisor = Supervisor()
    for event in (Start(supervisor_settings(1)), TemplateLoaded(1), SpareReady(2), WorkerHello(3, 103), WorkerReady(3)):
        supervisor.step(event, 0.0)
    return supervisor


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


@pytest.mark.parametrize("by_itself", [False, True])
def test_a_state_of_which_masters_die_when_they_have_gone_on_is_given_up(
    stored: dict[str, int], by_itself: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is followed by a note of systemd's that it has died of a signal that no operator sends."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    supervisor = running()
    file, lines = StateFile.create(), Lines()
    file.write(json.dumps(to_plain(replace(state(), cluster=snapshot(supervisor.cluster)))).encode())
    deaths = 0
    while deaths <= MOST_ATTEMPTS:
        passed = [(os.dup(number), name) for name, number in {**stored, "state": file.descriptor}.items()]
        left = inheritance.left_by_dead_master(passed, Logger(lines))
        if left is None:
            break
        assert left.file is not None
        left.file.has_gone_on()
        deaths += 1
        note_death(str(tmp_path), {"SERVICE_RESULT": "signal", "EXIT_STATUS": "SEGV" if by_itself else "KILL"})
        for descriptor, _ in passed:
            os.close(descriptor)
    assert deaths == (MOST_ATTEMPTS if by_itself else MOST_ATTEMPTS + 1), lines.text
    assert ("masters in a row have died" in lines.text) == by_itself
    for descriptor in (*stored.values(), file.descriptor):
        os.close(descriptor)
