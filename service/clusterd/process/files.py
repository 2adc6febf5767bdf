"""The open files of this process that may hold data in a buffer."""

import gc
import io
import weakref

_BUFFERED = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)

_inherited: list["weakref.ref[io.IOBase]"] = []
"""Those from before the fork, which the collector no longer lists in the forked process."""


def flush_files() -> list[io.IOBase]:
    """Flush the open files, texts before what they are written to, and return them."""
    # By type(), because a proxy of the application may run code of it when it is asked for its class.
    files = [each for each in gc.get_objects() if issubclass(type(each), _BUFFERED)]
    files += [file for each in _inherited if (file := each()) is not None]
    files.sort(key=lambda file: not isinstance(file, io.TextIOBase))
    for file in files:
        try:
            file.flush()
        except Exception:
            continue  # It is closed, broken by the application, or its reader is gone. Nothing can be saved.
    return files


def remember_files() -> None:
    """Flush the open files, and remember them. To be called before a fork.

    Otherwise each process would write what is in the buffers now. And after gc.freeze() the forked process could not
    find the files: to list every object and look at it would write to the pages that all share.
    """
    _inherited[:] = [weakref.ref(file) for file in flush_files()]
