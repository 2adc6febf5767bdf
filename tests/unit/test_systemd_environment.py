"""The watchdog's interval and the environment that children get."""

import pytest

from clusterd.systemd.environment import clean_environment, state_directory, watchdog_seconds


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "42"}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": ""}, 1.5),
        ({"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_seconds(environ: dict[str, str], seconds: float | None) -> None:
    assert watchdog_seconds(environ, 42) == seconds


def test_children_get_everything_but_what_systemd_said_to_the_master() -> None:
    private = ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"]
    private += ["FDSTORE", "CLUSTERD_DESCRIPTOR_STORE"]
    kept = {"PATH": "/bin", "JOURNAL_STREAM": "8:1", "LISTEN_ADDRESS": "::", "WATCHDOG_URL": "http://x"}
    assert clean_environment({**kept, **dict.fromkeys(private, "1")}) == kept


@pytest.mark.parametrize(
    ("environ", "directory"),
    [
        ({}, None),
        ({"STATE_DIRECTORY": ""}, None),
        ({"STATE_DIRECTORY": "/var/lib/clusterd"}, "/var/lib/clusterd"),
        ({"STATE_DIRECTORY": "/var/lib/clusterd:/var/lib/more"}, "/var/lib/clusterd"),
    ],
)
def test_the_state_directory_is_the_first_of_the_unit(environ: dict[str, str], directory: str | None) -> None:
    assert state_directory(environ) == directory
