"""The call tree that a worker fills, and the profile that is read from it."""

import json
from collections import Counter
from collections.abc import Callable
from random import Random
from types import CodeType

import pytest

from clusterd.profiles import call_tree
from clusterd.profiles.call_tree import ROOT, THREADS, CallTree, encoded
from clusterd.profiles.profile import Stack, View, parsed

pytestmark = pytest.mark.engine_independent


def code(name: str) -> CodeType:
    made: dict[str, Callable[[], None]] = {}
    exec(compile(f"def {name}(): pass", "shop.py", "exec"), made)
    return made[name].__code__


CODES = [code(name) for name in ("main", "serve", "buy", "pay")]


def names(stack: Stack) -> tuple[str, ...]:
    return tuple(frame.name for frame in stack)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_added_in_any_order_is_read_as_the_sum_of_each_stack(seed: int) -> None:
    random = Random(seed)
    tree, expected, used = CallTree(), Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    root = tree.named(ROOT, THREADS)
    for _ in range(300):
        thread = random.choice(["MainThread", "clusterd-N"])
        stack = random.choices(CODES, k=random.randrange(6))
        elapsed, processor = random.randrange(1, 100), random.randrange(1, 100)
        tree.add(tree.path(tree.named(root, thread), stack), elapsed * 1000, processor * 1000)
        key = (thread, *(each.co_name for each in stack))
        expected[key] += elapsed
        used[key] += processor
    profile = parsed(encoded(3.0, 300, [tree]))
    assert {names(stack): time for stack, time in profile.views[View.THREADS].items()} == expected
    assert {names(stack): time for stack, time in profile.views[View.PROCESSOR].items()} == used
    assert (profile.seconds, profile.looks, profile.cut) == (3.0, 300, 0)


def test_a_frame_says_where_its_function_begins() -> None:
    tree = CallTree()
    tree.add(tree.path(tree.named(tree.named(ROOT, THREADS), "MainThread"), [CODES[0]]), 1000)
    ((stack, _),) = parsed(encoded(1.0, 1, [tree])).views[View.THREADS].items()
    assert stack[-1].label == "main (shop.py:1)"


def test_a_full_tree_keeps_the_times_in_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_tree, "MOST_NODES", 4)
    tree = CallTree()
    thread = tree.named(tree.named(ROOT, THREADS), "MainThread")
    tree.add(tree.path(thread, CODES), 5000)
    profile = parsed(encoded(1.0, 1, [tree]))
    assert {names(stack): time for stack, time in profile.views[View.THREADS].items()} == {
        ("MainThread", "main", "serve"): 5
    }
    assert profile.cut == 1


def test_different_functions_of_one_name_are_kept_apart_and_the_same_one_is_entered_once() -> None:
    tree = CallTree()
    first, second = code("same"), code("same")
    thread = tree.named(tree.named(ROOT, THREADS), "MainThread")
    for each in (first, second, first):
        tree.add(tree.path(thread, [each]), 1000)
    assert len(json.loads(encoded(1.0, 1, [tree]))["trees"][0]["frames"]) == 4
