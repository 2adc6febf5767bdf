"""`clusterctl profile`: profiles workers, writes the file, and prints what took most processor time."""

import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from clusterd.cli.examining.formats import CannotWrite, Format
from clusterd.cli.examining.workers import ALL, Examined, NotExamined, examine, slots_of
from clusterd.cli.terminal import Spinner
from clusterd.log.record import escaped
from clusterd.profiles.collapsed import collapsed
from clusterd.profiles.flamegraph import flamegraph
from clusterd.profiles.profile import BadProfile, Hot, Profile, View, hottest, of_dumps, parsed
from clusterd.profiles.speedscope import speedscope
from clusterd.wire.control import Command

_STDOUT = Path("-")
MOST_HOT = 10


_SUFFIX = {Format.FLAMEGRAPH: ".svg", Format.SPEEDSCOPE: ".speedscope.json", Format.COLLAPSED: ".txt"}
_HINT = {
    Format.FLAMEGRAPH: "open it in a browser",
    Format.SPEEDSCOPE: "open it at https://www.speedscope.app, which does not upload it",
    Format.COLLAPSED: "for flamegraph.pl and other programs",
}


class Target:
    """Where the profile goes: a file, or standard output. Raises CannotWrite if the file cannot be there."""

    def __init__(self, given: Path | None, slot: int | str, form: Format) -> None:
        moment = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        self._path = given or Path(f"profile-{slot}-{moment}{_SUFFIX[form]}")
        self._is_new = given is None
        self.is_stdout = given == _STDOUT
        if not self.is_stdout and (self._path.is_dir() or not os.access(self._path.parent, os.W_OK)):
            raise CannotWrite(f"{self._path}: no file can be written there")

    def __str__(self) -> str:
        return str(self._path)

    def write(self, text: str) -> None:
        """Write it. A file whose name was not given must be new, and no link. Raises CannotWrite."""
        if self.is_stdout:
            sys.stdout.write(text)
            return
        try:
            with self._path.open("x" if self._is_new else "w", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise CannotWrite(f"{self._path}: {error.strerror}") from error


def profile(path: Path, slot: int | str, seconds: int, form: Format, target: Target, *, as_json: bool) -> int:
    """Run the command. Returns the exit status. Raises Unreachable, ControlError and CannotWrite."""
    name, slots = ("all workers", slots_of(path)) if slot == ALL else (f"worker {slot}", [int(slot)])
    whole, failures = _examined(path, slots, seconds, f"{name}: sampled for {seconds} s")
    for failure in failures:
        print(escaped(failure), file=sys.stderr)
    is_there = len(failures) < len(slots)
    if is_there:
        moment = datetime.now().astimezone().isoformat(" ", "seconds")
        target.write(_made(form, whole, f"clusterd, {name}, {moment}"))
    if as_json and not target.is_stdout:
        print(json.dumps(_document(whole, str(target) if is_there else None, failures)))
    elif is_there:
        print("\n".join(_lines(whole, target, form)), file=sys.stderr if target.is_stdout else sys.stdout)
    return 0 if is_there and not failures else 1


def _examined(path: Path, slots: list[int], seconds: int, progress: str) -> tuple[Profile, list[str]]:
    """Return the profile of all workers together, and why it lacks some."""
    whole, failures = Profile(), []
    spinner = Spinner(sys.stderr)
    spinner.show(progress)
    try:
        for answer in examine(path, Command.PROFILE, slots, seconds):
            if isinstance(answer, NotExamined):
                failures.append(answer.reason)
                continue
            try:
                whole.add(_of_worker(answer))
            except BadProfile as error:
                failures.append(f"worker {answer.slot} has sent no profile: {error}")
    finally:
        spinner.clear()
    return whole, failures


def _of_worker(answer: Examined) -> Profile:
    """Raises BadProfile."""
    found = parsed(answer.result) if answer.result else Profile()
    if answer.dumps:
        found.add(of_dumps(answer.dumps.decode(errors="replace")))
    return found


def _made(form: Format, whole: Profile, title: str) -> str:
    match form:
        case Format.FLAMEGRAPH:
            return flamegraph(whole, title)
        case Format.SPEEDSCOPE:
            return speedscope(whole, title)
        case Format.COLLAPSED:
            return collapsed(whole)


def _document(whole: Profile, written: str | None, failures: list[str]) -> dict[str, Any]:
    return {
        "succeeded": written is not None and not failures,
        "file": written,
        "failures": failures,
        "seconds": whole.seconds,
        "looks": whole.looks,
        "dumps": whole.dumps,
        "processor_seconds": whole.total(View.PROCESSOR) / 1e6,
        "hottest": [{"function": each.frame.label, "seconds": each.microseconds / 1e6} for each in _hottest(whole)],
    }


def _hottest(whole: Profile) -> list[Hot]:
    return hottest(whole, View.PROCESSOR, MOST_HOT)


def _lines(whole: Profile, target: Target, form: Format) -> list[str]:
    lines = [] if target.is_stdout else [f"written to {escaped(str(target))}: {_HINT[form]}"]
    if whole.dumps:
        lines.append(
            f"the event loop did not turn: threads were asked by {whole.dumps} signals, which shows neither tasks nor "
            "processor time"
        )
    if whole.cut:
        lines.append(f"{whole.cut} stacks were cut, as there were too many different ones")
    if found := _hottest(whole):
        used = whole.total(View.PROCESSOR) / 1e6
        lines.append(f"processor time: {used:.2f} s in {whole.seconds:.1f} s; most of it in")
        lines += [f"{each.share:>6.1%}  {escaped(each.frame.label)}" for each in found]
    return lines
