"""Which hooks process there is to be, and who is told: event by event."""

import pytest

from clusterd.master.hooks.decisions.processes import HooksSupervisor
from clusterd.master.hooks.decisions.steps import (
    Action,
    Bad,
    Died,
    Emptied,
    Event,
    Failed,
    Finished,
    GenerationBegins,
    GenerationServes,
    Gone,
    Good,
    Kill,
    Leave,
    Loaded,
    ShowStacks,
    Start,
    Stop,
    Tell,
    Tick,
)

pytestmark = pytest.mark.engine_independent


def begins(generation: int, *, has_hooks: bool = True) -> GenerationBegins:
    return GenerationBegins(generation, has_hooks, load_seconds=60.0, leave_seconds=30.0)


class Story:
    """What is decided, at a time that passes only when it is told to."""

    def __init__(self) -> None:
        self.supervisor = HooksSupervisor()
        self.now = 100.0

    def step(self, event: Event) -> list[Action]:
        return self.supervisor.step(event, self.now)

    def wake(self) -> list[Action]:
        assert self.supervisor.wake_at is not None
        self.now = self.supervisor.wake_at
        return self.step(Tick())

    def runs(self) -> "Story":
        self.step(begins(1))
        self.step(Loaded(-1))
        return self


def test_the_hooks_of_the_first_generation_are_told_before_its_load_is_good() -> None:
    story = Story()
    assert story.step(begins(1)) == [Start(-1, 1)]
    assert story.supervisor.is_held_up(1)
    assert story.step(Loaded(-1)) == [Good(1), Tell(-1)]
    assert not story.supervisor.is_held_up(1)


def test_without_hooks_nothing_is_held_up() -> None:
    story = Story()
    assert story.step(begins(1, has_hooks=False)) == []
    assert not story.supervisor.is_held_up(1)
    assert not story.supervisor.has_hooks


def test_hooks_that_do_not_load_are_a_bad_load_once_and_are_not_tried_again() -> None:
    story = Story()
    story.step(begins(1))
    assert story.step(Failed(-1, "SyntaxError")) == []
    assert story.step(Gone(-1, "exit status 1")) == [Bad(1, "SyntaxError")]
    assert story.step(Tick()) == []
    assert story.supervisor.wake_at is None


def test_an_import_that_does_not_end_is_ended() -> None:
    story = Story()
    story.step(begins(1))
    late = "not imported within rollout.boot_timeout"
    assert story.wake() == [ShowStacks(-1, "still importing after 30.0 s")]
    assert story.wake() == [Kill(-1, late)]
    assert story.step(Gone(-1, "SIGKILL")) == [Bad(1, late)]


def test_a_new_generation_takes_over_when_the_old_one_is_through() -> None:
    story = Story().runs()
    assert story.step(begins(2)) == [Start(-2, 2)]
    assert story.step(Loaded(-2)) == [Good(2)]
    assert story.step(GenerationServes(2)) == [Leave(-1)]
    assert story.step(Gone(-1, "exit status 0")) == [Tell(-2)]


def test_a_handler_has_the_time_of_a_drain_to_get_through() -> None:
    story = Story().runs()
    story.step(begins(2))
    story.step(Loaded(-2))
    story.step(GenerationServes(2))
    assert story.wake() == [ShowStacks(-1, "its generation is over: still busy after 15.0 s")]
    assert story.wake() == [Kill(-1, "it did not finish its last event in time")]
    assert story.now == 130.0
    assert story.step(Gone(-1, "SIGKILL")) == [Tell(-2)]


def test_a_rollout_that_fails_ends_the_new_hooks_and_leaves_the_old_ones_alone() -> None:
    story = Story().runs()
    story.step(begins(2))
    story.step(Loaded(-2))
    assert story.step(GenerationServes(1)) == [Kill(-2, "its generation is over")]
    assert story.step(Gone(-2, "SIGKILL")) == []
    assert story.supervisor.has_hooks


def test_hooks_that_are_not_wanted_any_more_are_told_what_waits_first() -> None:
    story = Story().runs()
    story.step(begins(2, has_hooks=False))
    assert story.step(GenerationServes(2)) == []
    assert story.supervisor.has_hooks
    assert story.step(Emptied()) == [Leave(-1)]
    story.step(Gone(-1, "exit status 0"))
    assert not story.supervisor.has_hooks


def test_who_dies_is_started_again_at_once_and_then_later_and_later() -> None:
    story = Story().runs()
    assert story.step(Gone(-1, "SIGKILL")) == [Died(-1, 1, "SIGKILL", 0.0), Start(-2, 1)]
    assert story.step(Loaded(-2)) == [Tell(-2)]
    assert story.step(Gone(-2, "SIGKILL")) == [Died(-2, 1, "SIGKILL", 0.5)]
    assert story.wake() == [Start(-3, 1)]
    story.step(Failed(-3, "ImportError"))
    assert story.step(Gone(-3, "exit status 1")) == [Died(-3, 1, "ImportError", 1.0)]
    assert story.wake() == [Start(-4, 1)]
    story.step(Loaded(-4))
    story.now += 20.0
    assert story.step(Gone(-4, "SIGKILL")) == [Died(-4, 1, "SIGKILL", 0.0), Start(-5, 1)]


def test_a_stop_tells_what_waits_and_then_ends() -> None:
    story = Story().runs()
    assert story.step(Stop(5.0)) == []
    assert story.step(Emptied()) == [Leave(-1)]
    assert story.step(Gone(-1, "exit status 0")) == [Finished()]


def test_a_stop_does_not_wait_for_ever_and_is_hurried_by_another() -> None:
    story = Story().runs()
    story.step(Stop(5.0))
    late = Kill(-1, "it did not handle the remaining events before the end")
    assert story.step(Stop(0.0)) == [late]
    assert story.step(Gone(-1, "SIGKILL")) == [Finished()]
    again = Story().runs()
    again.step(Stop(5.0))
    assert again.wake() == [ShowStacks(-1, "clusterd is to end: still busy after 2.5 s")]
    assert again.wake() == [late]
    assert again.now == 105.0


def test_a_stop_starts_nobody() -> None:
    story = Story().runs()
    story.step(Gone(-1, "SIGKILL"))
    story.step(Gone(-2, "SIGKILL"))
    assert story.step(Stop(5.0)) == [Finished()]
