"""What becomes of an event on the page."""

import pytest

from clusterd.dashboard.model import EventLine
from clusterd.master.admin.dashboards import event_line
from clusterd.supervisor.model.states import EndReason

pytestmark = pytest.mark.engine_independent


def line(name: str, **fields: object) -> EventLine:
    return event_line({"number": 1, "time": 2.0, "event": name, **fields})


def test_an_event_is_its_fields_in_a_line() -> None:
    assert line("exit", slot=1, reason=EndReason.ROLLOUT.value, how="exit status 0", signal=None) == EventLine(
        2.0, "exit", 'slot=1 reason=rollout how="exit status 0"', is_failure=False
    )


@pytest.mark.parametrize(
    ("name", "fields", "is_failure"),
    [
        ("exit", {"reason": "signal"}, True),
        ("exit", {"reason": "boot_failed"}, True),
        ("exit", {"reason": "stop"}, False),
        ("rollout_end", {"failure": "app: KeyError"}, True),
        ("rollout_end", {"failure": None}, False),
        ("restart_end", {"failure": "no"}, True),
        ("suspect", {"request": "GET /x"}, True),
        ("fork", {}, False),
    ],
)
def test_failures_stand_out(name: str, fields: dict[str, object], is_failure: bool) -> None:
    assert line(name, **fields).is_failure is is_failure


def test_what_an_application_has_sent_is_not_for_everyone_on_this_host() -> None:
    assert line("message", slot=1, data={"password": "secret"}, bytes=800).text == "slot=1 bytes=800"
