"""The store of descriptors, against a socket that receives as systemd does."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

from clusterd.log import Logger, Sink
from clusterd.log.record import Record
from clusterd.systemd import descriptor_store
from clusterd.systemd.descriptor_store import DescriptorStore, Kind, is_stored_name, is_wanted
from clusterd.systemd.notify import Notifier
from clusterd.systemd.sockets import Role, stored_descriptors, take_sockets
from tests.support.service import wait_until
from tests.support.service_manager import Message, NotifySocket

pytestmark = pytest.mark.engine_independent


class Collected(Sink):
    """A log that keeps its records."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        super().__init__(lambda record: (), lambda payload: True)

    def write(self, record: Record) -> None:
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.message for record in self.records]


@dataclass
class World:
    """A store, and the manager that it speaks to, which reads when it is asked to."""

    loop: asyncio.AbstractEventLoop
    manager: NotifySocket
    notifier: Notifier
    store: DescriptorStore
    log: Collected
    opened: list[int] = field(default_factory=list)

    def file(self) -> int:
        """A descriptor of a file of its own."""
        self.opened.append(os.memfd_create("stored"))
        return self.opened[-1]

    def received(self) -> list[Message]:
        messages = []
        while (message := self.manager.receive()) is not None:
            messages.append(message)
            self.opened += message.descriptors
        return messages

    def texts(self) -> list[str]:
        return ["\n".join(each.assignments) for each in self.received()]

    def answer(self, message: Message) -> None:
        """Close the descriptor of a barrier."""
        for descriptor in message.descriptors:
            self.opened.remove(descriptor)
            os.close(descriptor)

    def run_until(self, condition: Callable[[], object]) -> None:
        def turned() -> object:
            self.loop.run_until_complete(asyncio.sleep(0))
            return condition()

        wait_until(turned, "the loop has turned")


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    manager = NotifySocket(str(tmp_path / "notify"))
    notifier = Notifier(manager.path)
    log = Collected()
    loop: asyncio.AbstractEventLoop = request.param()
    made = World(loop, manager, notifier, DescriptorStore(notifier, loop, Logger(log)), log)
    yield made
    made.store.close()
    notifier.close()
    manager.close()
    loop.close()
    for descriptor in made.opened:
        os.close(descriptor)


def same_file(one: int, other: int) -> bool:
    return os.fstat(one).st_ino == os.fstat(other).st_ino


def test_each_descriptor_is_stored_under_a_name_of_its_own(world: World) -> None:
    one, other = world.file(), world.file()
    world.store.add([one, other], Kind.CHANNEL)
    first, second = world.received()
    assert first.assignments == ("FDSTORE=1", "FDPOLL=0", "FDNAME=c-1")
    assert second.assignments == ("FDSTORE=1", "FDPOLL=0", "FDNAME=c-2")
    assert first.pid == os.getpid()
    assert same_file(first.descriptors[0], one)
    assert same_file(second.descriptors[0], other)
    assert world.store.names == {one: "c-1", other: "c-2"}


def test_what_is_stored_already_is_not_sent_again(world: World) -> None:
    one = world.file()
    world.store.add([one], Kind.CHANNEL)
    world.store.add([one], Kind.CHANNEL)
    assert len(world.received()) == 1


def test_a_removed_name_is_not_given_again(world: World) -> None:
    one = world.file()
    world.store.add([one], Kind.CHANNEL)
    world.store.remove([one, 12345])
    assert world.store.names == {}
    world.store.add([one], Kind.STACKS)
    assert [text.partition("FDNAME=")[::2] for text in world.texts()] == [
        ("FDSTORE=1\nFDPOLL=0\n", "c-1"),
        ("FDSTOREREMOVE=1\n", "c-1"),
        ("FDSTORE=1\nFDPOLL=0\n", "s-2"),
    ]


def test_the_state_has_a_name_without_a_number_and_is_alone(world: World) -> None:
    one, other = world.file(), world.file()
    world.store.add([one], Kind.STATE)
    assert world.store.names == {one: "state"}
    with pytest.raises(ValueError, match="one state"):
        world.store.add([other], Kind.STATE)
    world.store.remove([one])
    world.store.add([other], Kind.STATE)
    assert world.store.names == {other: "state"}


def test_an_unknown_kind_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="http"):
        world.store.add([world.file()], "http")


def test_the_next_master_goes_on_behind_the_largest_number(world: World) -> None:
    world.store.resume({11: "c-41", 12: "state", 13: "s-7"})
    one = world.file()
    world.store.add([one], Kind.CHANNEL)
    assert world.store.names == {11: "c-41", 12: "state", 13: "s-7", one: "c-42"}
    world.store.remove_all()
    assert [text.rpartition("=")[2] for text in world.texts()] == ["c-42", "c-41", "state", "s-7", "c-42"]


def test_no_more_is_stored_than_has_room_in_one_variable(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptor_store, "MOST_BYTES_OF_NAMES", 10)
    first = world.file()
    world.store.add([first, world.file()], Kind.CHANNEL)
    world.store.add([world.file(), world.file()], Kind.CHANNEL)
    world.store.add([world.file()], Kind.CHANNEL)
    assert len(world.received()) == 2
    assert len(world.store.names) == 2
    assert [text.partition(";")[0] for text in world.log.texts] == ["systemd's store has no room for more names"]
    world.store.remove([first])
    world.store.add([world.file()], Kind.CHANNEL)
    assert len(world.store.names) == 2


# ---- the barrier


def test_a_barrier_ends_when_the_manager_has_closed_it(world: World) -> None:
    calls: list[str] = []
    world.store.add([world.file()], Kind.CHANNEL)
    world.store.when_stored(lambda: calls.append("stored"))
    store, barrier = world.received()
    assert store.value("FDSTORE") == "1"
    assert barrier.assignments == ("BARRIER=1",)
    world.loop.run_until_complete(asyncio.sleep(0))
    assert calls == []
    world.answer(barrier)
    world.run_until(lambda: calls)
    assert calls == ["stored"]
    assert world.log.texts == []


def test_what_is_asked_while_a_barrier_is_under_way_shares_the_next(world: World) -> None:
    calls: list[int] = []
    for number in range(4):
        world.store.when_stored(lambda number=number: calls.append(number))  # type: ignore[misc]
    (first,) = world.received()
    world.answer(first)
    world.run_until(lambda: calls)
    assert calls == [0]
    (second,) = world.received()
    world.answer(second)
    world.run_until(lambda: len(calls) == 4)
    assert calls == [0, 1, 2, 3]
    assert world.received() == []


def test_a_call_may_ask_again(world: World) -> None:
    calls: list[str] = []

    def again() -> None:
        calls.append("first")
        world.store.when_stored(lambda: calls.append("second"))

    world.store.when_stored(again)
    for number in (1, 2):
        (barrier,) = world.received()
        world.answer(barrier)
        world.run_until(lambda number=number: len(calls) == number)  # type: ignore[misc]
    assert calls == ["first", "second"]


def test_a_silent_manager_is_reported_once_and_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptor_store, "ANSWER_SECONDS", 0.01)
    calls: list[str] = []
    for each in ("first", "second"):
        world.store.when_stored(lambda each=each: calls.append(each))  # type: ignore[misc]
    world.run_until(lambda: len(calls) == 2)
    assert [text.partition(" within")[0] for text in world.log.texts] == ["systemd has not said"]


def test_a_manager_that_is_gone_is_not_waited_for(world: World) -> None:
    os.rename(world.manager.path, f"{world.manager.path}.away")
    calls: list[str] = []
    world.store.add([world.file()], Kind.CHANNEL)
    world.store.when_stored(lambda: calls.append("called"))
    world.run_until(lambda: calls)
    os.rename(f"{world.manager.path}.away", world.manager.path)
    assert world.log.texts == []


def test_without_a_free_descriptor_the_call_is_made_all_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(flags: int) -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "pipe2", refuse)
    calls: list[str] = []
    world.store.when_stored(lambda: calls.append("called"))
    world.run_until(lambda: calls)
    assert world.log.texts == ["systemd cannot be asked whether it has stored descriptors: Too many open files"]


# ---- a manager that does not read


def test_nothing_of_the_store_is_lost_while_the_manager_does_not_read(world: World) -> None:
    """More than any queue of datagrams holds. The descriptors are closed here meanwhile, as those of a dead worker."""
    files = [os.memfd_create("stored") for _ in range(1500)]
    inodes = [os.fstat(each).st_ino for each in files]
    calls: list[str] = []
    world.store.add(files, Kind.CHANNEL)
    world.store.when_stored(lambda: calls.append("stored"))
    assert world.notifier.is_waiting
    for number, each in enumerate(files):
        world.notifier.status(f"number {number}")
        os.close(each)
    received: list[Message] = []

    def read() -> bool:
        for message in world.received():
            received.append(message)
            if "BARRIER=1" in message.assignments:
                world.answer(message)
        return bool(calls)

    world.run_until(read)
    stored = [each for each in received if each.value("FDSTORE")]
    assert [os.fstat(each.descriptors[0]).st_ino for each in stored] == inodes
    assert [each.value("FDNAME") for each in stored] == [f"c-{number}" for number in range(1, 1501)]
    assert received.index(stored[-1]) < [each.assignments for each in received].index(("BARRIER=1",))


def test_of_the_statuses_that_wait_only_the_last_is_sent(world: World) -> None:
    files = [world.file() for _ in range(600)]
    world.store.add(files, Kind.CHANNEL)
    for number in range(100):
        world.notifier.status(f"number {number}")
        world.notifier.extend_timeout(number)
    messages: list[Message] = []
    while not world.notifier.flush():
        messages += world.received()
    messages += world.received()
    assert [each.value("STATUS") for each in messages if each.value("STATUS")] == ["number 99"]
    assert [each.value("EXTEND_TIMEOUT_USEC") for each in messages if each.value("EXTEND_TIMEOUT_USEC")] == ["99000000"]


def test_duplicates_that_wait_are_closed_with_the_notifier(world: World) -> None:
    reader, writer = os.pipe()
    world.opened.append(reader)
    world.store.add([world.file() for _ in range(600)], Kind.CHANNEL)
    world.notifier.store(writer, "c-9999")
    os.close(writer)
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)
    world.notifier.close()
    assert os.read(reader, 1) == b""


# ---- names


@pytest.mark.parametrize("name", ["state", "c-1", "s-20", "m-1", "w-7", "l-99999"])
def test_names_of_the_store(name: str) -> None:
    assert is_stored_name(name)


@pytest.mark.parametrize("name", [*Role, "", "c", "c-", "c-0", "c-01", "x-1", "state-1", "c-1\n", "unknown", "stored"])
def test_names_that_are_not_of_the_store(name: str) -> None:
    assert not is_stored_name(name)


def test_passed_descriptors_are_told_apart_by_their_names(world: World) -> None:
    state, channel = world.file(), world.file()
    os.set_inheritable(channel, True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        passed = [(listener.fileno(), "http"), (channel, "c-4"), (state, "state")]
        assert stored_descriptors(passed) == {"c-4": channel, "state": state}
        assert not os.get_inheritable(channel)
        (taken,) = take_sockets(passed)
        assert taken.socket.detach() == listener.fileno()


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"CLUSTERD_DESCRIPTOR_STORE": "yes"}, False),
        ({"NOTIFY_SOCKET": "/run/systemd/notify"}, False),
        ({"CLUSTERD_DESCRIPTOR_STORE": "yes", "NOTIFY_SOCKET": "/run/systemd/notify"}, True),
        ({"CLUSTERD_DESCRIPTOR_STORE": "no", "NOTIFY_SOCKET": "/run/systemd/notify"}, False),
    ],
)
def test_the_unit_says_whether_descriptors_are_stored(environ: dict[str, str], wanted: bool) -> None:
    assert is_wanted(environ) is wanted
