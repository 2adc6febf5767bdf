"""A profile as it is shown: stacks with times, in views. It is made of what workers have written, which is not trusted.

The views are what threads used of the processor, and how long threads, tasks and greenlets were where they were.
"""

import json
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import field
from enum import StrEnum
from typing import Any, Final

from clusterd.profiles.call_tree import GREENLETS, MOST_CHARACTERS, MOST_NODES, TASKS, THREADS, VERSION
from clusterd.records import dataclass

MOST_DOCUMENT_BYTES: Final = 64 << 20
MOST_TREES: Final = 8
MOST_MICROSECONDS: Final = 10**13
DUMP_SECONDS: Final = 0.1
"""The time between two signals at which a worker writes its stacks."""

_BOOT: Final = re.compile(r".*/clusterd/(template/\w+|worker/boot)\.py")
"""What every worker has called before it runs."""


class BadProfile(ValueError):
    """What a worker has sent is no profile. The text says why."""


class View(StrEnum):
    """What the times of stacks tell. The values are names for people."""

    PROCESSOR = "processor time of threads"
    THREADS = "elapsed time of threads"
    TASKS = "elapsed time of tasks"
    GREENLETS = "elapsed time of greenlets"


_VIEWS: Final = {THREADS: View.THREADS, TASKS: View.TASKS, GREENLETS: View.GREENLETS}


@dataclass(frozen=True, slots=True)
class Frame:
    """A function, or a name such as that of a thread, which has no path."""

    name: str
    path: str = ""
    line: int = 0
    """Where the function begins; 0 if that is not known."""

    @property
    def label(self) -> str:
        """The name with the place."""
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{self.name} ({place})" if place else self.name


Stack = tuple[Frame, ...]
"""The outermost frame first."""


@dataclass(slots=True)
class Profile:
    """Of one worker or of several. Times are in microseconds, and those of the innermost frame of each stack."""

    seconds: float = 0.0
    looks: int = 0
    cut: int = 0
    """How many stacks were cut, for want of room."""
    dumps: int = 0
    """How often threads have written their stacks at a signal."""
    views: dict[View, dict[Stack, int]] = field(default_factory=lambda: {view: defaultdict(int) for view in View})

    def add(self, other: "Profile") -> None:
        """Add the times of another worker, which was profiled at the same time."""
        self.seconds = max(self.seconds, other.seconds)
        self.looks += other.looks
        self.cut += other.cut
        self.dumps += other.dumps
        for view, stacks in other.views.items():
            for stack, microseconds in stacks.items():
                self.views[view][stack] += microseconds

    def stacks(self, view: View) -> list[tuple[Stack, int]]:
        """The stacks of a view in an order that is the same for the same stacks."""
        return sorted(self.views[view].items(), key=lambda item: [frame.label for frame in item[0]])

    def total(self, view: View) -> int:
        """All times of a view together."""
        return sum(self.views[view].values())

    def shown(self) -> Iterator[View]:
        """The views in which there is something."""
        return (view for view in View if self.total(view))


def decompressed(data: bytes) -> bytes:
    """Return what was compressed by zlib. Raises BadProfile."""
    try:
        decompressor = zlib.decompressobj()
        found = decompressor.decompress(data, MOST_DOCUMENT_BYTES)
    except zlib.error as error:
        raise BadProfile(f"it cannot be decompressed: {error}") from error
    if decompressor.unconsumed_tail:
        raise BadProfile(f"it is larger than {MOST_DOCUMENT_BYTES} bytes")
    return found


def parsed(data: bytes) -> Profile:
    """Return the profile in what a worker has written. Raises BadProfile."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadProfile(f"it is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise BadProfile("it is no document of this version")
    seconds, looks, trees = document.get("seconds"), document.get("looks"), document.get("trees")
    if not isinstance(seconds, (int, float)) or not 0 <= seconds < MOST_MICROSECONDS:
        raise BadProfile("it does not say how long it took")
    if not isinstance(looks, int) or not _is_count(looks):
        raise BadProfile("it does not say how often it looked")
    if not isinstance(trees, list) or len(trees) > MOST_TREES:
        raise BadProfile("it has no trees")
    profile = Profile(float(seconds), looks)
    for tree in trees:
        _add_tree(profile, tree)
    return profile


def _add_tree(profile: Profile, tree: Any) -> None:
    if not isinstance(tree, dict) or not isinstance(tree.get("nodes"), list) or not _is_count(tree.get("cut")):
        raise BadProfile("one of its trees is none")
    frames = _frames(tree.get("frames"))
    if len(tree["nodes"]) > MOST_NODES:
        raise BadProfile(f"a tree has more than {MOST_NODES} nodes")
    profile.cut += tree["cut"]
    stacks: list[Stack] = []
    for node in tree["nodes"]:
        if not isinstance(node, list) or len(node) != 4 or not all(map(_is_count, node[1:])):
            raise BadProfile(f"{node!r} is no node"[:MOST_CHARACTERS])
        parent, frame, elapsed, processor = node
        if type(parent) is not int or not -1 <= parent < len(stacks) or frame >= len(frames):
            raise BadProfile("a node refers to nothing")
        above = stacks[parent] if parent >= 0 else ()
        if len(above) > MOST_CHARACTERS:
            raise BadProfile("a stack is too deep")
        stacks.append((*above, frames[frame]))
        _count(profile, stacks[-1], elapsed, processor)


def _frames(written: Any) -> list[Frame]:
    if not isinstance(written, list):
        raise BadProfile("a tree has no frames")
    frames = []
    for each in written:
        match each:
            case [str(name), str(path), int(line)] if _is_count(line):
                frames.append(Frame(name[:MOST_CHARACTERS], path[:MOST_CHARACTERS], line))
            case _:
                raise BadProfile(f"{each!r} is no frame"[:MOST_CHARACTERS])
    return frames


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < MOST_MICROSECONDS


def _count(profile: Profile, stack: Stack, elapsed: int, processor: int) -> None:
    view = _VIEWS.get(stack[0].name)
    if view is None:
        raise BadProfile("a stack is of no known kind")
    shown = _shown(stack[1:])
    if elapsed and shown:
        profile.views[view][shown] += elapsed
    if processor and shown:
        profile.views[View.PROCESSOR][shown] += processor


def _shown(stack: Stack) -> Stack:
    """Leave out what is the same in every worker: what the first thread has called before it serves."""
    start = 1
    while start < len(stack) and _BOOT.fullmatch(stack[start].path):
        start += 1
    return (*stack[:1], *stack[start:])


_THREAD = re.compile(r"(Current thread|Thread) 0x[0-9a-f]+(?: \[(.*)\])? \(most recent call first\):")
_LINE = re.compile(r'  File "(.*)", line (\d+|\?\?\?) in (.*)')


def of_dumps(text: str) -> Profile:
    """Return a profile of stacks that faulthandler has written at signals, one after the other.

    What is not such a stack is left out: the text may be cut, and the worker can write anything into its file.
    """
    profile = Profile()
    stack: list[Frame] = []
    thread: Frame | None = None

    def end() -> None:
        if thread is not None:
            shown = _shown((thread, *reversed(stack)))
            profile.views[View.THREADS][shown] += int(DUMP_SECONDS * 1e6)

    for line in text.splitlines():
        if found := _THREAD.fullmatch(line):
            end()
            profile.dumps += found[1] == "Current thread"
            thread, stack = Frame(found[2][:MOST_CHARACTERS] if found[2] else "a thread, by signals"), []
        elif (found := _LINE.fullmatch(line)) and len(stack) < MOST_CHARACTERS:
            stack.append(Frame(found[3][:MOST_CHARACTERS], found[1][:MOST_CHARACTERS]))
    end()
    profile.seconds = profile.dumps * DUMP_SECONDS
    return profile


@dataclass(frozen=True, slots=True)
class Hot:
    """A function, with its own time and its share of the whole view."""

    frame: Frame
    microseconds: int
    share: float


def hottest(profile: Profile, view: View, most: int) -> list[Hot]:
    """Return the functions that took most time themselves, without what they have called."""
    own: dict[Frame, int] = defaultdict(int)
    for stack, microseconds in profile.views[view].items():
        own[stack[-1]] += microseconds
    whole = sum(own.values())
    largest: Iterable[tuple[Frame, int]] = sorted(own.items(), key=lambda item: (-item[1], item[0].label))
    return [Hot(frame, time, time / whole) for frame, time in list(largest)[:most]]
