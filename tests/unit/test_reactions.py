"""What every state does with every event."""

import pytest

from clusterd.supervisor import events
from clusterd.supervisor.decisions.imports import TEMPLATE_REACTIONS
from clusterd.supervisor.decisions.workers import WORKER_REACTIONS
from clusterd.supervisor.model.states import TemplateState, WorkerState

OF_PROCESSES = [each for each in vars(events).values() if "serial" in getattr(each, "__match_args__", ())]


@pytest.mark.parametrize("event", OF_PROCESSES)
def test_every_state_says_what_it_does_with_every_event_of_a_process(event: type[events.Event]) -> None:
    workers, templates = set(WorkerState) - {WorkerState.GONE}, set(TemplateState)
    tables = [set(table[event]) for table in (WORKER_REACTIONS, TEMPLATE_REACTIONS) if event in table]
    assert tables in ([workers], [templates])
