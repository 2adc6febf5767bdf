"""Chooses the destination of this process's log: the journal if stderr is connected to it, else stderr."""

import os
from collections.abc import Mapping

from clusterd.log import journal
from clusterd.log.json_lines import JsonEncoder
from clusterd.log.sink import Sink
from clusterd.log.stderr import DescriptorWriter, LineEncoder

STDERR = 2


def open_sink(environ: Mapping[str, str], descriptor: int = STDERR) -> Sink:
    """Return the sink for this process. Call it again after an exec; a fork can go on using the inherited sink.

    $JOURNAL_STREAM names the device and inode of the stream that systemd connected (systemd.exec(5)). If stderr is
    another file, it was redirected, and the log goes to that file.
    """
    if is_journal_stream(environ.get("JOURNAL_STREAM", ""), descriptor):
        return Sink(journal.encode, journal.JournalWriter().send)
    return Sink(LineEncoder(), DescriptorWriter(descriptor).send, encode_json=JsonEncoder())


def is_journal_stream(value: str, descriptor: int) -> bool:
    """Return whether the descriptor is the stream that `value`, `device:inode`, names."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return value == f"{status.st_dev}:{status.st_ino}"
