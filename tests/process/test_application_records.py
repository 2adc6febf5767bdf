"""The application's own logging in the journal: what reaches a stand-in for journald, and what does not go there."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_log import parse_entry

pytestmark = pytest.mark.engine_independent

PROGRAM = """
import os, sys
from clusterd.log import output
from clusterd.log.application_records import describe_process
from clusterd.log.current_request import REQUEST_ID
from clusterd.log.journal import JournalWriter
output.JournalWriter = lambda: JournalWriter(sys.argv[1])
output.protect_output(os.environ)
describe_process(slot=2, generation=1)
import logging
{program}
sys.stdout.flush(); sys.stderr.flush()
"""


class Journald:
    """Takes entries, and the lines of one stream."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "socket"
        self._entries = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._entries.bind(str(self._path))
        self._entries.setblocking(False)
        self._stream, self._theirs = socket.socketpair()

    def run(self, program: str, *, is_connected: bool = True) -> None:
        """Run a program whose output is the journal."""
        status = os.fstat(self._theirs.fileno())
        name = f"{status.st_dev}:{status.st_ino}" if is_connected else "1:1"
        subprocess.run(
            [sys.executable, "-c", PROGRAM.format(program=program), str(self._path)],
            stdout=self._theirs.fileno(),
            stderr=self._theirs.fileno(),
            env={**os.environ, "JOURNAL_STREAM": name},
            check=True,
        )

    def entries(self) -> list[dict[str, str]]:
        found = []
        while True:
            try:
                found.append(parse_entry(self._entries.recv(1 << 20)))
            except BlockingIOError:
                return found

    def lines(self) -> list[str]:
        """The lines of the stream."""
        self._theirs.close()
        with self._stream.makefile() as file:
            return file.read().splitlines()

    def stop(self) -> None:
        """Take no more entries."""
        self._entries.close()
        self._path.unlink()

    def close(self) -> None:
        for each in (self._entries, self._stream, self._theirs):
            each.close()


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    made = Journald(tmp_path)
    yield made
    made.close()


def test_levels_become_priorities_with_no_setting(journald: Journald) -> None:
    journald.run(
        "logging.basicConfig(level=1)\nfor level in (50, 40, 30, 25, 20, 10, 5): logging.log(level, 'level %d', level)"
    )
    assert [(each["PRIORITY"], each["MESSAGE"]) for each in journald.entries()] == [
        ("2", "CRITICAL:root:level 50"),
        ("3", "ERROR:root:level 40"),
        ("4", "WARNING:root:level 30"),
        ("5", "Level 25:root:level 25"),
        ("6", "INFO:root:level 20"),
        ("7", "DEBUG:root:level 10"),
        ("7", "Level 5:root:level 5"),
    ]
    assert journald.lines() == []


def test_without_any_handler_warnings_have_their_level_too(journald: Journald) -> None:
    journald.run("logging.getLogger('shop').warning('low stock')")
    [entry] = journald.entries()
    assert (entry["PRIORITY"], entry["MESSAGE"], entry["LOGGER"]) == ("4", "low stock", "shop")


def test_a_traceback_is_one_entry_with_the_place_and_the_request(journald: Journald) -> None:
    journald.run(
        "logging.basicConfig()\n"
        "REQUEST_ID.set('abc')\n"
        "def buy():\n"
        "    try: 1 / 0\n"
        "    except ZeroDivisionError: logging.getLogger('shop').exception('not bought\\x1b[31m')\n"
        "buy()"
    )
    [entry] = journald.entries()
    assert entry["MESSAGE"].startswith("ERROR:shop:not bought\\x1b[31m\nTraceback (most recent call last):\n")
    assert entry["MESSAGE"].endswith("ZeroDivisionError: division by zero")
    assert (entry["CODE_FUNC"], entry["CODE_FILE"], entry["LOGGER"]) == ("buy", "<string>", "shop")
    assert (entry["CLUSTERD_SLOT"], entry["CLUSTERD_GENERATION"]) == ("2", "1")
    assert (entry["CLUSTERD_REQUEST_ID"], entry["SYSLOG_IDENTIFIER"]) == ("abc", "clusterd")
    assert int(entry["CODE_LINE"]) > 0


def test_dict_config_as_frameworks_have_it(journald: Journald) -> None:
    journald.run(
        "import logging.config\n"
        "logging.config.dictConfig({'version': 1, 'disable_existing_loggers': True,\n"
        "    'handlers': {'console': {'class': 'logging.StreamHandler', 'stream': 'ext://sys.stdout'}},\n"
        "    'root': {'handlers': ['console'], 'level': 'INFO'}})\n"
        "logging.error('to stdout')"
    )
    assert [(each["PRIORITY"], each["MESSAGE"]) for each in journald.entries()] == [("3", "to stdout")]


def test_what_a_program_prints_stays_what_it_was(journald: Journald) -> None:
    journald.run("print('plain')\nprint('<3>with a priority', file=sys.stderr)")
    assert (journald.entries(), journald.lines()) == ([], ["plain", "<3>with a priority"])


def test_handlers_of_other_streams_are_left_alone(journald: Journald, tmp_path: Path) -> None:
    journald.run(
        f"logging.getLogger().addHandler(logging.FileHandler({str(tmp_path / 'own.log')!r}))\n"
        "import io; text = io.StringIO(); logging.getLogger().addHandler(logging.StreamHandler(text))\n"
        "logging.error('to a file'); assert text.getvalue() == 'to a file\\n'"
    )
    assert (tmp_path / "own.log").read_text() == "to a file\n"
    assert journald.entries() == []


def test_a_handler_with_an_emit_of_its_own_is_left_alone(journald: Journald) -> None:
    journald.run(
        "class Own(logging.StreamHandler):\n"
        "    def emit(self, record): self.stream.write('own ' + self.format(record) + '\\n')\n"
        "logging.getLogger().addHandler(Own()); logging.error('words')"
    )
    assert (journald.entries(), journald.lines()) == ([], ["own words"])


def test_output_that_was_redirected_gets_its_text(journald: Journald, tmp_path: Path) -> None:
    journald.run(
        f"os.dup2(os.open({str(tmp_path / 'out')!r}, os.O_CREAT | os.O_WRONLY), 2)\nlogging.error('to the file')"
    )
    assert journald.entries() == []
    assert (tmp_path / "out").read_text() == "ERROR:root:to the file\n"


def test_what_journald_does_not_take_goes_to_the_stream(journald: Journald) -> None:
    journald.stop()
    journald.run("logging.error('kept')")
    assert journald.lines() == ["ERROR:root:kept"]


def test_a_message_that_fails_is_told_as_ever(journald: Journald) -> None:
    journald.run("logging.error('%d', 'no number')")
    assert journald.lines()[0] == "--- Logging error ---"


def test_without_a_journal_nothing_changes(journald: Journald) -> None:
    journald.run("logging.error('text')\nassert logging.StreamHandler.emit.__module__ == 'logging'", is_connected=False)
    assert (journald.entries(), journald.lines()) == ([], ["ERROR:root:text"])
