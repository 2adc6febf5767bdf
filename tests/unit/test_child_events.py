"""What the deaths of children are told as, whatever is known of them."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from clusterd.master.child_events import ChildEvents
from clusterd.master.children.child import Child, Death, Kind
from clusterd.master.configurations import Configurations
from clusterd.master.context import MasterContext

pytestmark = pytest.mark.engine_independent


def test_hooks_whose_generation_is_over_are_told_as_gone() -> None:
    """A stop waits for them: a death that is not told is waited for for ever."""
    gone: list[tuple[Death, str]] = []
    nothing = cast(Any, SimpleNamespace())
    configurations = Configurations(nothing, lambda: nothing, frozenset(), nothing)
    configurations.forget_all_but(set())
    context = SimpleNamespace(
        configurations=configurations,
        scoreboard=None,
        log=None,
        post_event=None,
        stacks=SimpleNamespace(report_crash=lambda child: None),
    )
    hooks = cast(Any, SimpleNamespace(gone=lambda death, how: gone.append((death, how))))
    deaths = ChildEvents(cast(MasterContext, context), nothing, nothing, hooks, nothing, nothing)
    death = Death(Child(-1, Kind.HOOKS, generation=1, pid=7), "SIGKILL", by_signal=True, cpu_seconds=0.0, code=-9)
    deaths.death(death)
    assert gone == [(death, "SIGKILL")]
