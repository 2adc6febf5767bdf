"""The call tree of a profile, as a worker fills it: which stacks were seen, and for how long.

A node is a function called from its parent's. Its times are those in which it was the innermost function. So a profile
of any length is as large as the number of different stacks in it.
"""

import json
from collections.abc import Iterable
from types import CodeType
from typing import Any, Final

VERSION: Final = 1
MOST_NODES: Final = 20_000
MOST_CHARACTERS: Final = 300
"""Of a name or a path."""
ROOT: Final = -1
"""The parent of the outermost nodes."""

THREADS: Final = "threads"
TASKS: Final = "tasks"
GREENLETS: Final = "greenlets"

_PARENT, _FRAME, _ELAPSED, _PROCESSOR = range(4)


class CallTree:
    """One thread adds to it. Another may call `document` meanwhile: what it sees is whole."""

    def __init__(self) -> None:
        self._frames: list[tuple[str, str, int]] = []
        self._of_code: dict[int, int] = {}
        self._codes: list[CodeType] = []
        """Kept, as their identity is a key."""
        self._of_name: dict[str, int] = {}
        self._nodes: list[list[int]] = []
        self._children: dict[tuple[int, int], int] = {}
        self.cut = 0
        """How often a stack was cut because the tree is full."""

    def named(self, parent: int, name: str) -> int:
        """Return the node below `parent` that has a name instead of a function."""
        frame = self._of_name.get(name)
        if frame is None:
            frame = self._of_name[name] = self._new_frame(name, "", 0)
        return self._child(parent, frame)

    def path(self, parent: int, codes: Iterable[CodeType]) -> int:
        """Return the node of the last of `codes`, each of which has called the next one. It may be an outer one."""
        of_code, children = self._of_code, self._children
        node = parent
        for code in codes:
            frame = of_code.get(id(code))
            if frame is None:
                frame = self._enter(code)
            below = children.get((node, frame))
            if below is None:
                below = self._child(node, frame)
                if below == node:
                    return node
            node = below
        return node

    def add(self, node: int, elapsed: int, processor: int = 0) -> None:
        """Add times to a node, in nanoseconds."""
        if node != ROOT:
            entry = self._nodes[node]
            entry[_ELAPSED] += elapsed
            entry[_PROCESSOR] += processor

    def document(self) -> dict[str, Any]:
        """Return the tree for JSON, with times in microseconds."""
        nodes = [
            [entry[_PARENT], entry[_FRAME], entry[_ELAPSED] // 1000, entry[_PROCESSOR] // 1000]
            for entry in self._nodes[:]
        ]
        return {"frames": self._frames[:], "nodes": nodes, "cut": self.cut}  # Frames last: nodes refer to them.

    def _child(self, parent: int, frame: int) -> int:
        node = self._children.get((parent, frame))
        if node is not None:
            return node
        if len(self._nodes) >= MOST_NODES:
            self.cut += 1
            return parent
        node = len(self._nodes)
        self._nodes.append([parent, frame, 0, 0])
        self._children[parent, frame] = node
        return node

    def _enter(self, code: CodeType) -> int:
        frame = self._of_code[id(code)] = self._new_frame(code.co_qualname, code.co_filename, code.co_firstlineno)
        self._codes.append(code)
        return frame

    def _new_frame(self, name: str, path: str, line: int) -> int:
        self._frames.append((name[:MOST_CHARACTERS], path[-MOST_CHARACTERS:], line))
        return len(self._frames) - 1


def encoded(seconds: float, looks: int, trees: Iterable[CallTree]) -> bytes:
    """Return a profile of these trees as JSON."""
    document = {"version": VERSION, "seconds": seconds, "looks": looks, "trees": [tree.document() for tree in trees]}
    return json.dumps(document, separators=(",", ":")).encode()
