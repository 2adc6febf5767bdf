"""When the master's state is written, and what waits for that."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from clusterd.log import Logger
from clusterd.master.children.child import Child, Kind
from clusterd.master.children.table import Children
from clusterd.master.takeover import keeper as keeper_module
from clusterd.master.takeover.keeper import Keeper
from clusterd.master.takeover.state_file import MOST_ATTEMPTS, StateFile, TakeoverError
from clusterd.systemd.descriptor_store import DescriptorStore
from clusterd.systemd.notify import Notifier
from tests.unit.test_handling import Lines

pytestmark = pytest.mark.engine_independent


def test_a_master_that_serves_for_a_while_has_taken_over_well(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[StateFile] = []

    def attempts() -> int:
        """How many more masters may try, if none of them gets anywhere."""
        left = 0
        with suppress(TakeoverError):
            while True:
                taken.append(StateFile.take(os.dup(taken[0].descriptor), died_by_itself=True))
                left += 1
        return left

    for seconds, left in ((3600.0, MOST_ATTEMPTS - 1), (0.0, MOST_ATTEMPTS)):
        monkeypatch.setattr(keeper_module, "SETTLED_SECONDS", seconds)
        with keeping([]) as (keeper, _, loop):
            file = StateFile.create()
            file.write(b"{}")
            taken[:] = [StateFile.take(file.descriptor)]
            keeper.begin(lambda _: b"{}", taken[0])
            keeper.has_taken_over()
            loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(asyncio.sleep(0))
            assert attempts() == left
        for each in taken:
            os.close(each.descriptor)


@contextmanager
def keeping(done: list[str]) -> Iterator[tuple[Keeper, Children, asyncio.AbstractEventLoop]]:
    """A keeper below a manager that answers at once. Each write is noted in `done`, with those that outlive a death."""
    loop, log = asyncio.new_event_loop(), Logger(Lines())
    store = DescriptorStore(Notifier(None), loop, log)
    children = Children(loop, lambda *_: None, lambda _: None, lambda _: None, store)
    keeper = Keeper(store, loop, log)

    def collect(_: object) -> bytes:
        done.append(f"write {[each.serial for each in children.all() if each.is_kept]}")
        return b"{}"

    file = StateFile.create()
    keeper.begin(collect, file)
    try:
        yield keeper, children, loop
    finally:
        for child in children.all():
            children.never_born(child, "the test is over")
        os.close(file.descriptor)
        loop.close()


def test_workers_that_come_together_have_one_write_before_their_first_orders() -> None:
    done: list[str] = []
    with keeping(done) as (keeper, children, loop), ExitStack() as opened:
        for serial in (1, 2, 3):
            child = Child(serial, Kind.WORKER, generation=1)
            opened.enter_context(children.enter(child))
            keeper.when_kept(child, lambda serial=serial: done.append(f"order {serial}"))  # type: ignore[misc]
        loop.run_until_complete(asyncio.sleep(0.05))
        # The manager was asked for the first one at once, and for those that came meanwhile together.
        assert done == ["write [1]", "order 1", "write [1, 2, 3]", "order 2", "order 3"]


def test_a_worker_that_has_died_meanwhile_gets_no_order() -> None:
    done: list[str] = []
    with keeping(done) as (keeper, children, loop):
        child = Child(1, Kind.WORKER, generation=1)
        with children.enter(child):
            keeper.when_kept(child, lambda: done.append("order"))
            children.never_born(child, "it has died")
        loop.run_until_complete(asyncio.sleep(0.05))
        assert done == []
