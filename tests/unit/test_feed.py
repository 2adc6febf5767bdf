"""What waits for hooks is bounded, and nothing of it is dropped without a word."""

from dataclasses import replace

import pytest

from clusterd.master.hooks.decisions.feed import MESSAGE_BYTES, Entry, Feed, Snapshot
from clusterd.wire.hooks import EXIT, FORK, MESSAGE, State, WorkerEvent

pytestmark = pytest.mark.engine_independent


def worker_event(event: str, serial: int = 1, **state: object) -> WorkerEvent:
    return WorkerEvent(event, serial, 1, 1, State(**state))  # type: ignore[arg-type]


def told(feed: Feed) -> list[tuple[str, int] | tuple[str, list[tuple[str, int]]]]:
    """All that it gives out: the event and the worker, or the last event of each worker of a snapshot."""
    entries: list[tuple[str, int] | tuple[str, list[tuple[str, int]]]] = []
    while entry := feed.take():
        feed.settle()
        if isinstance(entry, Snapshot):
            workers = [("ended" if each.state.is_dead else each.name, each.serial) for each in entry.workers]
            entries.append(("setup" if entry.is_beginning else "snapshot", workers))
        else:
            entries.append((entry.worker_event.name, entry.worker_event.serial))
    return entries


def test_one_thing_is_out_at_a_time() -> None:
    feed = Feed()
    feed.add_event(worker_event(FORK, 1))
    feed.add_event(worker_event(FORK, 2))
    assert feed.take() == Entry(worker_event(FORK, 1))
    assert feed.take() is None
    assert feed.waiting == 2
    assert feed.settle() == Entry(worker_event(FORK, 1))
    assert told(feed) == [(FORK, 2)]
    assert feed.is_idle


def test_whoever_begins_is_told_of_the_living_first_and_not_of_what_others_were_told() -> None:
    feed = Feed()
    for each in (worker_event(FORK, 1), worker_event(FORK, 2), worker_event("online", 2, pid=7)):
        feed.add_event(each)
    feed.add_event(worker_event(EXIT, 1, is_dead=True))
    told(feed)
    feed.add_event(worker_event("listening", 2))
    feed.begin()
    assert not feed.is_idle
    assert told(feed) == [("setup", [("online", 2)]), ("listening", 2)]


def test_what_was_out_when_somebody_died_is_told_to_nobody_else() -> None:
    feed = Feed()
    feed.begin()
    told(feed)
    feed.add_event(worker_event(FORK, 1))
    feed.add_event(worker_event("online", 1, pid=7))
    assert feed.take() is not None
    feed.settle()
    feed.begin()
    assert told(feed) == [("setup", [(FORK, 1)]), ("online", 1)]


def test_beyond_the_limit_no_handler_is_called_and_how_the_workers_are_is_known_all_the_same() -> None:
    feed = Feed(most_events=2)
    assert feed.add_event(worker_event(FORK, 1))
    assert feed.add_event(worker_event("online", 1, pid=7))
    assert not feed.add_event(worker_event(FORK, 2))
    assert not feed.add_event(worker_event("online", 2, pid=8))
    assert not feed.add_event(worker_event(FORK, 3))
    assert not feed.add_event(worker_event(EXIT, 3, is_dead=True))  # came and went unheard
    assert not feed.add_event(worker_event(EXIT, 1, is_dead=True))
    assert told(feed) == [(FORK, 1), ("online", 1), ("snapshot", [("online", 2), ("ended", 1)])]
    assert feed.is_idle
    assert feed.add_event(worker_event(EXIT, 2, is_dead=True))
    assert told(feed) == [(EXIT, 2)]


def test_a_message_after_dropped_events_finds_its_worker_known_and_one_before_does_not_learn_of_its_end() -> None:
    feed = Feed(most_events=1)
    assert feed.add_event(worker_event(FORK, 1))
    assert not feed.add_event(worker_event(FORK, 2))
    assert feed.add_message(replace(worker_event(FORK, 2), name=MESSAGE), None, 1)
    assert not feed.add_event(worker_event(EXIT, 2, is_dead=True))
    assert told(feed) == [
        (FORK, 1),
        ("snapshot", [(FORK, 1), (FORK, 2)]),
        (MESSAGE, 2),
        ("snapshot", [(FORK, 1), ("ended", 2)]),
    ]


def test_an_event_that_finds_room_again_comes_after_the_snapshot() -> None:
    feed = Feed(most_events=1)
    assert feed.add_event(worker_event(FORK, 1))
    assert not feed.add_event(worker_event(FORK, 2))
    assert feed.take() == Entry(worker_event(FORK, 1))
    feed.settle()
    assert feed.add_event(worker_event("online", 2, pid=8))
    assert told(feed) == [("snapshot", [(FORK, 1), (FORK, 2)]), ("online", 2)]


def test_messages_are_bounded_by_their_size_and_not_by_the_events() -> None:
    feed = Feed(most_events=1, most_message_bytes=10 + MESSAGE_BYTES)
    feed.add_event(worker_event(FORK, 1))
    message = replace(worker_event(FORK, 1), name=MESSAGE, arguments=("12345678",))
    assert feed.add_message(message, None, 10)
    assert not feed.add_message(message, None, 1)
    assert told(feed) == [(FORK, 1), (MESSAGE, 1)]
    assert feed.add_message(message, None, 10)


def test_what_nobody_will_be_told_of_is_given_back_and_its_workers_are_known() -> None:
    feed = Feed(most_events=1)
    assert feed.add_event(worker_event(FORK, 1))
    assert not feed.add_event(worker_event(FORK, 2))
    assert [entry.worker_event for entry in feed.clear()] == [worker_event(FORK, 1)]
    feed.pass_over(worker_event(EXIT, 1, is_dead=True))
    feed.begin()
    assert told(feed) == [("setup", [(FORK, 2)])]
