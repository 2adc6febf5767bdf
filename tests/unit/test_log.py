"""Records, levels, the text they become, and the buffer that never blocks."""

import json
import os
import struct
import subprocess
import sys
from enum import StrEnum

import pytest

from clusterd.log import Level, Logger, Record, Sink, journal
from clusterd.log.json_lines import LONGEST_LINE, JsonEncoder
from clusterd.log.record import value_text
from clusterd.log.stderr import ATOMIC_BYTES, LineEncoder

pytestmark = pytest.mark.engine_independent


class Destination:
    """Stands in for the journal or stderr: takes payloads while `room` lasts."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.room = room
        self.taken: list[str] = []

    def send(self, payload: bytes) -> bool:
        if self.room == 0:
            return False
        self.room -= 1
        self.taken.append(payload.decode())
        return True


def encode_lines(record: Record) -> list[bytes]:
    return [line.encode() for line in record.lines()]


def make_logger(destination: Destination, capacity: int = 1000) -> Logger:
    return Logger(Sink(encode_lines, destination.send, capacity), Level.INFO, {"slot": 1})


class Reason(StrEnum):
    CRASHED = "crashed"


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (True, "true"),
        (False, "false"),
        (1.25, "1.25"),
        (2.0, "2"),
        (0.00049, "0"),
        (100.0, "100"),
        (Reason.CRASHED, "crashed"),
        (Unprintable(), "<unprintable Unprintable>"),
    ],
)
def test_values_as_text(value: object, text: str) -> None:
    assert value_text(value) == text


@pytest.mark.parametrize(
    ("value", "pair"),
    [
        ("plain", "key=plain"),
        ("/path?a", "key=/path?a"),
        ("", 'key=""'),
        ("two words", 'key="two words"'),
        ("a=b", 'key="a=b"'),
        ('say "no"', r'key="say \"no\""'),
        ("back\\slash", r'key="back\\slash"'),
        ("a\nb", r'key="a\nb"'),
        ("\x1b[31m", r'key="\x1b[31m"'),
        ("\u2028", r'key="\u2028"'),
    ],
)
def test_values_are_quoted_when_they_must_be(value: str, pair: str) -> None:
    assert Record(Level.INFO, "message", {"key": value}).lines() == [f"message {pair}"]


def test_a_traceback_is_several_lines_and_the_first_has_the_fields() -> None:
    record = Record(Level.ERROR, "failed\nTraceback\r\n  File\n", {"slot": 1, "reason": None})
    assert record.lines() == ["failed slot=1", "Traceback", "  File"]


def test_a_message_can_not_drive_a_terminal() -> None:
    assert Record(Level.INFO, "a\x1b]0;b\x07\tc\x9b", {}).lines() == [r"a\x1b]0;b\x07" + "\t" + r"c\x9b"]


def test_bound_fields_are_added_and_can_be_overridden() -> None:
    destination = Destination()
    logger = make_logger(destination)
    logger.bind(generation=2, pid=5).notice("ready", pid=6)
    logger.warning("unbound")
    assert destination.taken == ["ready slot=1 generation=2 pid=6", "unbound slot=1"]


def test_the_level_holds_for_all_bound_loggers_and_can_change() -> None:
    destination = Destination()
    logger = make_logger(destination)
    bound = logger.bind(generation=2)
    bound.debug("not shown")
    before = bound.is_debugging
    logger.set_level(Level.DEBUG)
    bound.debug("shown")
    assert (before, bound.is_debugging) == (False, True)
    logger.set_level(Level.ERROR)
    bound.warning("not shown")
    bound.error("shown too")
    assert destination.taken == ["shown slot=1 generation=2", "shown too slot=1 generation=2"]


def test_an_exception_is_logged_with_its_traceback() -> None:
    destination = Destination()
    try:
        int("wrong")
    except ValueError as error:
        make_logger(destination).exception("failed", error, path="/")
    assert destination.taken[:2] == ["failed slot=1 path=/", "Traceback (most recent call last):"]
    assert destination.taken[-1] == "ValueError: invalid literal for int() with base 10: 'wrong'"


def test_what_the_destination_does_not_take_is_written_later_in_order() -> None:
    destination = Destination(room=0)
    logger = make_logger(destination)
    logger.info("first")
    logger.info("second")
    destination.room = 1
    logger.flush()
    destination.room = 10
    logger.info("third")
    assert destination.taken == ["first slot=1", "second slot=1", "third slot=1"]


def test_lost_records_are_counted_and_reported_once_writing_works() -> None:
    destination = Destination(room=0)
    logger = make_logger(destination, capacity=30)
    for number in range(5):
        logger.info(f"message {number}")
    destination.room = 10
    logger.info("afterwards")
    logger.flush()
    assert destination.taken == ["message 0 slot=1", "log records lost count=4", "afterwards slot=1"]


def test_nothing_is_written_between_lost_records_and_their_report() -> None:
    destination = Destination(room=0)
    logger = make_logger(destination, capacity=30)
    logger.info("kept")
    logger.info("this one is too long for what is left")
    logger.info("x")
    destination.room = 10
    logger.flush()
    assert destination.taken == ["kept slot=1", "log records lost count=2"]


def test_a_record_of_several_lines_is_kept_or_lost_whole() -> None:
    destination = Destination(room=1)
    logger = make_logger(destination, capacity=40)
    logger.info("one\ntwo\nthree")
    logger.info("four\n" + "x" * 40)
    destination.room = 10
    logger.flush()
    assert destination.taken == ["one slot=1", "two", "three", "log records lost count=1"]


def test_logging_from_within_a_write_neither_deadlocks_nor_writes_twice() -> None:
    taken: list[bytes] = []
    logger: Logger

    def send(payload: bytes) -> bool:
        if not taken:
            taken.append(payload)
            logger.info("from a signal handler")
        else:
            taken.append(payload)
        return True

    logger = Logger(Sink(encode_lines, send))
    logger.info("interrupted")
    assert taken == [b"interrupted", b"from a signal handler"]


def parse_entry(payload: bytes) -> dict[str, str]:
    fields = {}
    while payload:
        name, _, payload = payload.partition(b"\n")
        if b"=" in name:
            name, _, value = name.partition(b"=")
        else:
            (size,) = struct.unpack_from("<Q", payload)
            value, payload = payload[8 : 8 + size], payload[8 + size + 1 :]
        fields[name.decode()] = value.decode()
    return fields


def test_a_journal_entry_has_the_fields_both_ways() -> None:
    (payload,) = journal.encode(Record(Level.WARNING, "worker gone", {"slot": 2, "reason": "signal KILL"}))
    assert parse_entry(payload) == {
        "MESSAGE": 'worker gone slot=2 reason="signal KILL"',
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "clusterd",
        "CLUSTERD_SLOT": "2",
        "CLUSTERD_REASON": "signal KILL",
    }


def test_an_instance_is_named_in_the_journal() -> None:
    program = (
        "import sys; from clusterd.log import Level, Record, journal\n"
        "[payload] = journal.encode(Record(Level.INFO, 'here', {})); sys.stdout.buffer.write(payload)"
    )
    environment = {**os.environ, "CLUSTERD_INSTANCE": "shop"}
    payload = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True).stdout
    assert parse_entry(payload) == {
        "MESSAGE": "here",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "clusterd@shop",
        "CLUSTERD_INSTANCE": "shop",
    }


def test_a_traceback_is_one_entry() -> None:
    [entry] = [parse_entry(payload) for payload in journal.encode(Record(Level.ERROR, "a\nb\x1b\nc\n", {"slot": 2}))]
    assert entry["MESSAGE"] == "a slot=2\nb\\x1b\nc"
    assert (entry["PRIORITY"], entry["CLUSTERD_SLOT"]) == ("3", "2")


def encode_as_json(record: Record) -> dict[str, object]:
    [line] = JsonEncoder(clock=lambda: 1_700_000_000.25, process=lambda: 42)(record)
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and len(line) <= LONGEST_LINE
    document: dict[str, object] = json.loads(line)
    return document


def test_json_has_one_object_a_line_with_values_of_their_own_types() -> None:
    fields = {"slot": 1, "seconds": 0.1234567, "reason": Reason.CRASHED, "none": None, "is_new": True, "time": "noon"}
    assert encode_as_json(Record(Level.NOTICE, "ready", fields)) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "notice",
        "service": "clusterd",
        "process": 42,
        "message": "ready",
        "slot": 1,
        "seconds": 0.123457,
        "reason": "crashed",
        "is_new": True,
        "time_": "noon",
    }


def test_json_has_a_traceback_as_one_text() -> None:
    fields = {"bad": "\udcff\n", "inf": float("inf")}
    document = encode_as_json(Record(Level.ERROR, "failed\nTraceback\n  File\n", fields))
    assert (document["message"], document["traceback"]) == ("failed", "Traceback\n  File")
    assert (document["bad"], document["inf"]) == ("\udcff\n", "inf")


@pytest.mark.parametrize("character", ["x", "\u00e4", "\U0001f600"])
def test_a_traceback_that_is_too_long_for_a_line_keeps_its_ends(character: str) -> None:
    document = encode_as_json(Record(Level.ERROR, f"failed\nfirst {character * 100_000} KeyError: 1", {}))
    traceback = document["traceback"]
    assert isinstance(traceback, str)
    assert traceback.startswith("first ") and traceback.endswith(" KeyError: 1") and "are left out]" in traceback


def test_the_format_changes_where_the_destination_knows_no_fields() -> None:
    taken: list[bytes] = []

    def send(payload: bytes) -> bool:
        taken.append(payload)
        return True

    sink = Sink(encode_lines, send, encode_json=lambda _: [b"{}"])
    for wanted in (False, True, False):
        sink.use_json(wanted)
        sink.write(Record(Level.INFO, "text", {}))
    assert taken == [b"text", b"{}", b"text"]


def test_a_bare_record_is_written_as_it_is() -> None:
    record = Record(Level.INFO, 'GET / "x"', {"slot": 1}, is_bare=True)
    assert list(LineEncoder()(record)) == [b'GET / "x"\n']
    [payload] = journal.encode(record)
    assert parse_entry(payload)["MESSAGE"] == 'GET / "x"'


def test_a_value_can_not_forge_a_journal_field() -> None:
    (payload,) = journal.encode(Record(Level.INFO, "request", {"path": "/\nPRIORITY=0\n", "bad": "\udcff"}))
    entry = parse_entry(payload)
    assert entry["PRIORITY"] == "6"
    assert entry["CLUSTERD_PATH"] == "/\nPRIORITY=0\n"
    assert entry["CLUSTERD_BAD"] == "\\udcff"


def encode_for_stderr(message: str) -> list[bytes]:
    encode = LineEncoder(clock=lambda: 1_700_000_000.25, process=lambda: 42)
    return list(encode(Record(Level.NOTICE, message, {"slot": 1})))


def test_lines_on_stderr_say_when_who_and_how_bad() -> None:
    prefix = b"2023-11-14T22:13:20.250Z clusterd[42] notice: "
    assert encode_for_stderr("ready\nmore") == [prefix + b"ready slot=1\n" + prefix + b"more\n"]


def test_payloads_for_stderr_are_whole_lines_that_can_be_written_in_one_piece() -> None:
    payloads = encode_for_stderr("\n".join(["short", "ä" * 5000, "y" * 100] * 3))
    assert len(payloads) > 1
    prefix = b"2023-11-14T22:13:20.250Z clusterd[42] notice: "
    text = b""
    for payload in payloads:
        assert len(payload) <= ATOMIC_BYTES
        assert payload.endswith(b"\n")
        for line in payload.splitlines():
            assert line.startswith(prefix)
            line.decode()
            text += line.removeprefix(prefix)
    assert text.decode() == "short slot=1" + "ä" * 5000 + "y" * 100 + ("short" + "ä" * 5000 + "y" * 100) * 2
