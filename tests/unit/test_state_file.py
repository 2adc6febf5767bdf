"""The file with the master's state: what is in it at any moment, and whose it is."""

import fcntl
import itertools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from clusterd.master.takeover import state_file
from clusterd.master.takeover.state_file import MOST_ATTEMPTS, LeaseLost, StateFile, TakeoverError

pytestmark = pytest.mark.engine_independent


@pytest.fixture
def file() -> Iterator[StateFile]:
    made = StateFile.create()
    yield made
    os.close(made.descriptor)


class Killed(BaseException):
    """What ends a master in the middle of a write."""


def test_what_was_written_last_is_read(file: StateFile) -> None:
    for document in (b"one", b"a longer two", b"3"):
        file.write(document)
        assert StateFile.go_on(file.descriptor).read() == document


@pytest.mark.parametrize("cut_after", range(5))
def test_a_write_that_is_cut_leaves_the_last_document(
    file: StateFile, cut_after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three writes for the document, of which the kernel takes a part each time, and then one for the header."""
    file.write(b"before")
    pwrite, writes = os.pwrite, itertools.count()

    def write_some(descriptor: int, data: bytes, offset: int) -> int:
        if next(writes) == cut_after:
            raise Killed
        return pwrite(descriptor, data[:3] if offset else data, offset)

    monkeypatch.setattr(os, "pwrite", write_some)
    with suppress(Killed):
        file.write(b"afterward")
    assert StateFile.go_on(file.descriptor).read() == (b"afterward" if cut_after == 4 else b"before")


@pytest.mark.parametrize("at", [0, 8, 16, 24, 4096, 4096 + state_file.MOST_BYTES])
def test_damage_is_refused_in_one_line(file: StateFile, at: int) -> None:
    file.write(b"one")
    file.write(b"two")
    os.pwrite(file.descriptor, b"\xff" * 3, at)
    if at == 4096 + state_file.MOST_BYTES:  # This is where the document before the last one is.
        assert StateFile.go_on(file.descriptor).read() == b"two"
        return
    with pytest.raises(TakeoverError, match=r"^the state of the last master is damaged$"):
        StateFile.go_on(file.descriptor).read()


def test_an_empty_file_is_refused() -> None:
    descriptor = os.memfd_create("empty")
    with pytest.raises(TakeoverError, match="damaged"):
        StateFile.take(descriptor, seconds=0)
    os.close(descriptor)


@pytest.mark.parametrize("by_itself", [False, True])
def test_masters_that_die_while_they_take_over_are_counted(file: StateFile, by_itself: bool) -> None:
    """Whatever they die of."""
    file.write(b"what kills them")
    for _ in range(MOST_ATTEMPTS):
        taken = StateFile.take(file.descriptor, died_by_itself=by_itself)
    with pytest.raises(TakeoverError, match=f"^{MOST_ATTEMPTS} masters in a row have died when they had taken over"):
        StateFile.take(file.descriptor, died_by_itself=by_itself)
    taken.is_settled()
    assert StateFile.take(file.descriptor).read() == b"what kills them"


def test_masters_that_die_by_themselves_soon_after_they_have_taken_over_are_counted(file: StateFile) -> None:
    file.write(b"what kills them a turn later")
    for _ in range(MOST_ATTEMPTS):
        taken = StateFile.take(file.descriptor, died_by_itself=True)
        taken.has_gone_on()
        taken.write(b"what kills them a turn later")
    with pytest.raises(TakeoverError, match="masters in a row have died"):
        StateFile.take(file.descriptor, died_by_itself=True)


def test_masters_that_are_killed_when_they_serve_are_not_counted(file: StateFile) -> None:
    file.write(b"good")
    for _ in range(10 * MOST_ATTEMPTS):
        taken = StateFile.take(file.descriptor)
        taken.has_gone_on()
        taken.write(b"good")
    assert taken.read() == b"good"


def test_a_master_that_has_served_for_a_while_begins_the_count_anew(file: StateFile) -> None:
    file.write(b"good")
    for _ in range(3 * MOST_ATTEMPTS):
        taken = StateFile.take(file.descriptor, died_by_itself=True)
        taken.has_gone_on()
        taken.is_settled()
    assert taken.read() == b"good"


def test_one_that_goes_on_in_the_same_process_goes_on_with_the_count(file: StateFile) -> None:
    file.write(b"what kills them")
    for _ in range(MOST_ATTEMPTS):
        StateFile.take(file.descriptor, died_by_itself=True).has_gone_on()
        StateFile.go_on(file.descriptor).write(b"what kills them")
    with pytest.raises(TakeoverError, match="masters in a row have died"):
        StateFile.take(file.descriptor, died_by_itself=True)


@contextmanager
def lease_of_another_process(file: StateFile) -> Iterator[int]:
    """Have another process hold the lease. Yields its pid."""
    fcntl.lockf(file.descriptor, fcntl.LOCK_UN)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            StateFile.take(file.descriptor)
            os.close(writer)
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)
    yield child
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_two_masters_never_have_the_lease(file: StateFile) -> None:
    file.write(b"of the first")
    with lease_of_another_process(file):
        with pytest.raises(TakeoverError, match=r"^another master commands the workers: "):
            StateFile.take(file.descriptor, seconds=0.05)
        with pytest.raises(LeaseLost):
            file.write(b"of the one that is not dead")
    assert StateFile.take(file.descriptor, seconds=0).read() == b"of the first"


def test_a_master_that_does_not_end_is_killed(file: StateFile) -> None:
    file.write(b"of the first")
    assert StateFile.kill_holder(file.descriptor) is None  # It is this process.
    with lease_of_another_process(file) as pid:
        assert StateFile.kill_holder(file.descriptor) == pid
        assert StateFile.take(file.descriptor).read() == b"of the first"


def test_a_write_takes_the_lease_again_that_a_closed_duplicate_has_lost(file: StateFile) -> None:
    os.close(os.dup(file.descriptor))
    file.write(b"one")
    with pytest.raises(TakeoverError, match=r"^another master"):
        _in_child(lambda: StateFile.take(file.descriptor, seconds=0))


def _in_child(call: Callable[[], object]) -> None:
    """Call in another process. Raises TakeoverError if that does."""
    child = os.fork()
    if child == 0:
        try:
            call()
        except TakeoverError:
            os._exit(7)
        finally:
            os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7:
        raise TakeoverError("another master")
