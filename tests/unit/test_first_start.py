"""When a first start is attempted again, when it is given up, and how long the next process waits."""

from dataclasses import replace

import pytest

from clusterd.cli.failed_start import FailedStart, Stage, clients_wait
from clusterd.config.model import Preload
from clusterd.supervisor import actions, events
from clusterd.supervisor.decisions.first_start import GRACE_SECONDS, pause_after
from clusterd.supervisor.decisions.stopping import ExitStatus
from clusterd.supervisor.model.backoff import LONGEST_DELAY
from clusterd.supervisor.model.cluster import Phase
from clusterd.supervisor.model.table import NOT_TRIED, FirstStart
from clusterd.supervisor.status import status_line
from clusterd.supervisor.supervisor import Supervisor
from tests.support.settings import supervisor_settings

pytestmark = pytest.mark.engine_independent

SETTINGS = supervisor_settings(workers=2, preload=Preload.AUTO, max_draining=2)


class Story:
    """A supervisor, and the templates that it starts."""

    def __init__(self, first_start: FirstStart = NOT_TRIED) -> None:
        self.supervisor = Supervisor()
        self.now = 0.0
        self.on_disk: events.Event | None = events.ConfigurationRead(SETTINGS)
        """What comes of reading the configuration; None: it takes its time."""
        self.templates: list[actions.StartTemplate] = []
        self.finish: actions.Finish | None = None
        self.step(events.Start(SETTINGS, first_start))

    def step(self, event: events.Event) -> list[actions.Action]:
        done = self.supervisor.step(event, self.now)
        self.templates += [each for each in done if isinstance(each, actions.StartTemplate)]
        for each in done:
            if isinstance(each, actions.Finish):
                self.finish = each
            elif isinstance(each, actions.ReadConfiguration) and self.on_disk is not None:
                done += self.step(self.on_disk)
            elif isinstance(each, actions.EndTemplate | actions.KillTemplate):
                done += self.step(events.TemplateGone(each.serial, "SIGKILL"))
        return done

    def fail(self, *, permanent: bool = False) -> None:
        """The import that is under way fails."""
        self.step(events.TemplateFailed(self.templates[-1].serial, "no database", permanent=permanent))

    def how_it_ended(self) -> int | None:
        """The exit status, where clusterd has ended."""
        return None if self.finish is None else self.finish.exit_status

    def wake(self) -> float:
        """Let time pass until the supervisor wants to decide again; how much that was."""
        wake_at = self.supervisor.wake_at
        assert wake_at is not None
        passed, self.now = wake_at - self.now, wake_at
        self.step(events.Tick())
        return passed


def test_an_import_is_repeated_with_growing_pauses_each_time_as_a_generation() -> None:
    story, pauses = Story(), []
    for _ in range(8):
        story.fail()
        pauses.append(story.wake())
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert [template.generation for template in story.templates] == list(range(1, 10))
    assert story.finish is None
    assert pause_after(10**6) == LONGEST_DELAY


def test_what_can_never_start_ends_at_once() -> None:
    story = Story()
    story.fail(permanent=True)
    assert story.finish == actions.Finish(ExitStatus.APPLICATION, "the application could not be loaded: no database")


def test_a_start_that_fails_is_given_up_when_the_next_attempt_would_be_too_late() -> None:
    story = Story(FirstStart(give_up_at=10.0))
    for _ in range(3):
        story.fail()
        story.wake()
    assert story.how_it_ended() is None
    story.fail()  # at 7 s: the next attempt would be at 15
    assert story.how_it_ended() == ExitStatus.TEMPORARY


def test_an_attempt_that_takes_too_long_is_given_up_only_where_this_process_has_failed_before() -> None:
    patient, failed = Story(FirstStart(failures=3, give_up_at=10.0)), Story(FirstStart(give_up_at=10.0))
    failed.fail()
    failed.wake()
    for story in (patient, failed):
        story.now = 10.0 + GRACE_SECONDS
        story.step(events.Tick())
    assert patient.finish is None
    assert failed.finish is not None
    assert "attempt 2 takes too long; the one before failed" in failed.finish.reason


def test_an_attempt_that_is_under_way_when_it_is_time_to_give_up_may_still_succeed() -> None:
    story = Story(FirstStart(give_up_at=10.0))
    story.fail()
    story.wake()
    story.now = 10.5
    story.step(events.Tick())
    story.step(events.TemplateLoaded(story.templates[-1].serial))
    assert story.finish is None
    assert not story.supervisor.cluster.first_start.was_cut


def test_an_attempt_that_was_cut_is_made_again_without_a_pause() -> None:
    story = Story(FirstStart(give_up_at=10.0))
    story.fail()
    story.wake()
    story.now = 10.0 + GRACE_SECONDS
    story.step(events.Tick())
    assert story.supervisor.cluster.first_start.was_cut


def test_a_reload_that_was_asked_for_before_the_attempt_is_done_with_the_start() -> None:
    story = Story()
    story.fail()
    story.step(events.ReloadAsked())
    (template,) = story.templates[1:]
    done = story.step(events.TemplateLoaded(template.serial))
    for fork in [each for each in done if isinstance(each, actions.Fork)]:
        story.step(events.WorkerHello(fork.serial, 1000 + fork.serial))
        done += story.step(events.WorkerReady(fork.serial))
    assert [each.failure for each in done if isinstance(each, actions.RolloutEnded)] == [None]
    assert len(story.templates) == 2


def test_the_attempts_of_earlier_processes_count() -> None:
    story = Story(FirstStart(failures=4, reason="no database", retry_at=8.0))
    assert story.templates == []
    assert status_line(story.supervisor.cluster, lambda at: f"<{at}>") == (
        "Starting: waiting until <8.0>, attempt 5; the last one failed: no database"
    )
    story.wake()
    assert len(story.templates) == 1
    story.fail()
    assert story.wake() == 16


def test_a_reload_makes_the_next_attempt_at_once() -> None:
    story = Story(FirstStart(failures=4, reason="no database", retry_at=8.0))
    story.step(events.ReloadAsked())
    assert len(story.templates) == 1


def test_the_first_attempt_is_made_with_what_was_read_at_the_start() -> None:
    story = Story()
    assert [template.generation for template in story.templates] == [1]


def test_each_attempt_that_follows_is_made_with_the_configuration_that_is_on_disk() -> None:
    story = Story()
    story.fail()
    story.on_disk = events.ConfigurationRead(replace(SETTINGS, workers=5))
    story.wake()
    cluster = story.supervisor.cluster
    assert (cluster.serving, cluster.wanted) == (2, 5)
    assert cluster.table.generations[2].settings.workers == 5


def test_workers_that_were_asked_for_meanwhile_are_still_wanted_by_the_next_attempt() -> None:
    story = Story()
    story.step(events.CountAsked(3, may_be_early=True))
    story.fail()
    story.wake()
    assert story.supervisor.cluster.wanted == 3


def test_a_configuration_that_is_wrong_by_now_is_a_failed_attempt_and_read_again() -> None:
    story = Story()
    story.fail()
    story.on_disk = events.ConfigurationRefused("clusterd.yaml:3: no such setting")
    story.wake()
    assert len(story.templates) == 1
    assert story.supervisor.cluster.first_start.reason == "clusterd.yaml:3: no such setting"
    story.on_disk = events.ConfigurationRead(SETTINGS)
    assert story.wake() == 2
    assert len(story.templates) == 2


@pytest.mark.parametrize(
    "answer", [events.ConfigurationRead(SETTINGS), events.ConfigurationRefused("clusterd.yaml:3: no such setting")]
)
def test_a_stop_that_comes_while_the_configuration_is_read_is_a_stop(answer: events.Event) -> None:
    story = Story()
    story.fail()
    story.on_disk = None
    story.wake()
    story.step(events.StopAsked())
    story.step(answer)
    assert len(story.templates) == 1
    assert story.finish == actions.Finish(ExitStatus.ASKED, "asked to stop")


def test_a_start_that_waits_can_be_stopped() -> None:
    story = Story(FirstStart(failures=4, reason="no database", retry_at=8.0))
    story.step(events.StopAsked())
    assert story.finish == actions.Finish(ExitStatus.ASKED, "asked to stop")


def test_template_and_spare_that_die_before_the_workers_are_ready_are_a_failed_attempt() -> None:
    story = Story()
    story.step(events.TemplateLoaded(story.templates[-1].serial))
    spare = next(each for each in story.supervisor.cluster.table.templates.values() if each.serial != 1)
    story.step(events.TemplateGone(spare.serial, "SIGKILL"))
    story.step(events.TemplateGone(story.templates[-1].serial, "SIGKILL"))
    assert story.supervisor.cluster.phase is Phase.STARTING
    assert story.supervisor.cluster.first_start.failures == 1


@pytest.mark.parametrize("status", [ExitStatus.APPLICATION, ExitStatus.CONFIGURATION])
def test_an_operator_does_not_wait_after_what_was_left_failed(status: ExitStatus) -> None:
    failed = FailedStart(Stage.APPLICATION, status, 3, 100.0, 4.0, "why")
    assert failed.retry_at(clients_wait=False) == 100.0
    assert failed.retry_at(clients_wait=True) == 104.0


def test_what_systemd_restarts_by_itself_always_waits() -> None:
    failed = FailedStart(Stage.PREPARING, ExitStatus.TEMPORARY, 3, 100.0, 4.0, "why")
    assert failed.retry_at(clients_wait=False) == 104.0


@pytest.mark.parametrize("environment", [{}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}, {"LISTEN_FDS": "many"}])
def test_no_client_waits_where_no_socket_was_passed(environment: dict[str, str]) -> None:
    assert not clients_wait(environment)
