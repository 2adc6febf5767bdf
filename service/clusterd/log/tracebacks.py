"""An exception of the application as text: in one line, and as a traceback without the frames of clusterd."""

import os
import re
import traceback
from collections.abc import Sequence
from itertools import dropwhile

_OWN_CODE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep, "service/clusterd/"
"""Prefixes of the names of clusterd's files: as Python imports them, and as mypyc records them in compiled code."""
_STANDARD_LIBRARY = os.path.dirname(os.__file__) + os.sep
_INSTALLED = {"site-packages", "dist-packages"}

_TRACEBACK = "Traceback (most recent call last):"
_GROUP = re.compile(r"^ *[|+] ?(?:-[-+ \d]*$)?", re.MULTILINE)
"""What an exception group puts before each line, and the lines between its exceptions."""
_FRAME = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+).*\n(?:    .*\n)*', re.MULTILINE)
_INDENTED = re.compile(r"(?: .*\n)*")


def is_ours(file: str) -> bool:
    """Whether this is a file of clusterd."""
    return file.startswith(_OWN_CODE)


def is_standard(file: str) -> bool:
    """Whether this is a file of Python's standard library."""
    return file.startswith("<frozen ") or (file.startswith(_STANDARD_LIBRARY) and not _is_installed(file))


def in_one_line(error: BaseException) -> str:
    """The class of the exception, its message and its place in the application."""
    message = _message_of(error)
    return f"{type(error).__name__}{': ' if message else ''}{message}{_place_of(error)}"


def _message_of(error: BaseException) -> str:
    """The message of an exception in one line."""
    try:
        text = str(error.msg if isinstance(error, SyntaxError) else error)
    except Exception:
        return "<an exception that fails to say what it is>"
    return " ".join(text.split())


def _place_of(error: BaseException) -> str:
    """The last line of the application's own code that led to `error`, in parentheses. Empty if there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    frames = _without_ours(traceback.extract_tb(error.__traceback__))
    return _last_own([(frame.filename, frame.lineno) for frame in frames])


def application_traceback(error: BaseException, *, or_ours: bool = False) -> str:
    """The traceback of `error` and of its causes. With `or_ours`, one that has only frames of clusterd keeps them."""
    described = traceback.TracebackException(type(error), error, error.__traceback__)
    waiting: list[traceback.TracebackException | None] = [described]
    while waiting:
        if (each := waiting.pop()) is not None:
            frames = _without_ours(each.stack)
            if frames or not or_ours:
                each.stack[:] = frames
            waiting += [each.__cause__, each.__context__, *(each.exceptions or ())]
    return "".join(described.format()).rstrip()


def of_text(text: str) -> tuple[str, str]:
    """A text in which an application describes an exception: in one line, and whole if it has several.

    It is often a traceback. The line is then the exception and its place in the application.
    """
    whole = text.strip()
    shown = _FRAME.sub(lambda frame: "" if is_ours(frame["file"]) else frame[0], whole)
    return _text_in_one_line(whole), shown if "\n" in whole else ""


def _text_in_one_line(text: str) -> str:
    text = _GROUP.sub("", text) + "\n"
    *_, last = text.rpartition(_TRACEBACK + "\n")
    if last == text:
        return " ".join(text.split())
    found = [(frame["file"], int(frame["line"])) for frame in _FRAME.finditer(last)]
    exception = _INDENTED.sub("", last, count=1)
    return " ".join(exception.split()) + _last_own(found)


def _without_ours(stack: Sequence[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    rest = dropwhile(lambda frame: is_ours(frame.filename) or _imports(frame.filename), stack)
    return [frame for frame in rest if not is_ours(frame.filename)]


def _imports(file: str) -> bool:
    return file.startswith("<frozen importlib") or "importlib" in file.split(os.sep)


def _last_own(places: Sequence[tuple[str, int | None]]) -> str:
    """The last place that is in no installed package; else the last outside the standard library, else the last."""
    for is_anothers in (_is_library, is_standard, lambda _: False):
        for file, line in reversed(places):
            if not is_anothers(file):
                return f" ({file}:{line})"
    return ""


def _is_library(file: str) -> bool:
    return is_standard(file) or _is_installed(file)


def _is_installed(file: str) -> bool:
    return not _INSTALLED.isdisjoint(file.split(os.sep))
