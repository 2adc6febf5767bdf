"""Where this process logs to: the journal when stderr is connected to it, stderr otherwise."""

import os
from collections.abc import Mapping

from clusterd.log import journal
from clusterd.log.sink import Sink
from clusterd.log.stderr import DescriptorWriter, LineEncoder

STDERR = 2


def open_sink(environ: Mapping[str, str], descriptor: int = STDERR) -> Sink:
    """The sink for this process. Open it again after an exec; a fork inherits it and may go on using it.

    $JOURNAL_STREAM names the device and inode of the stream that systemd connected (systemd.exec(5)); when
    stderr is no longer that stream it was redirected, and the reader of it is to have the log.
    """
    if is_journal_stream(environ.get("JOURNAL_STREAM", ""), descriptor):
        return Sink(journal.encode, journal.JournalWriter().send)
    return Sink(LineEncoder(), DescriptorWriter(descriptor).send)


def is_journal_stream(value: str, descriptor: int) -> bool:
    """Whether the descriptor is the stream `device:inode` says."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return value == f"{status.st_dev}:{status.st_ino}"
