"""The largest answers of the control socket: the service sends them, and clusterctl reads them."""

import asyncio
import socket

import pytest

from clusterd.cli.asking import ANSWER_BYTES
from clusterd.dashboard.history import SAMPLES, SLOT_SAMPLES, Activity
from clusterd.dashboard.model import Process, Slot, plain
from clusterd.master.admin.control import Peer
from clusterd.master.admin.event_log import REMEMBERED, EventLog
from clusterd.master.children.in_hand import MOST_NAMED
from clusterd.wire.control import MOST_SLOTS, event_line
from clusterd.wire.in_hand import LINE_BYTES, PEER_BYTES

pytestmark = pytest.mark.engine_independent


def test_all_events_reach_a_client_after_many_workers_have_died_with_their_requests() -> None:
    log = EventLog()
    request = {"method": "GET", "target": '"' * LINE_BYTES, "age": 12.345, "peer": "p" * PEER_BYTES, "state": "lost"}
    for slot in range(REMEMBERED):
        log.note("exit", slot=slot, reason="signal", lost=MOST_NAMED, requests=[request] * MOST_NAMED)

    async def answer() -> bytes:
        ours, theirs = socket.socketpair()
        _, writer = await asyncio.open_unix_connection(sock=ours)
        peer = Peer(writer)
        peer.recall([event_line(event) for event in log.events])
        peer.succeed("all")
        reader, closing = await asyncio.open_unix_connection(sock=theirs)
        received = await asyncio.wait_for(reader.read(), 30)
        closing.close()
        return received

    lines = asyncio.run(answer()).splitlines()
    assert len(lines) == REMEMBERED + 1
    assert b'"text": "all"' in lines[-1]


def test_the_numbers_of_as_many_slots_as_there_may_be_fit_a_line() -> None:
    activity = Activity(rate=12345.6, cpu=0.123, requests=1234567, errors=12345, p50=0.00123, p99=0.0234)
    process = Process(1234, "draining", 1234567, 1234567.8, 1234, 12345, 123456789012)
    rates = (12345.67,) * (SAMPLES // SLOT_SAMPLES)
    slot = Slot(1024, "ready", 1234, 1234, 1234, activity, rates, process, (process,) * 4)
    assert MOST_SLOTS * len(str(plain(slot))) < ANSWER_BYTES
