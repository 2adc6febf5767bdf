"""Settings that a program gives to `Cluster`: read as those of a file are, and refused by their names."""

from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from clusterd.config.model import Preload, Scheduling, Switch
from clusterd.config.reading.loader import ConfigError, load_given

METRICS = {"metrics.address": "off"}


def refusals(**settings: Any) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load_given(settings, "Cluster", METRICS)
    return [str(problem) for problem in refused.value.problems]


def test_values_of_python_are_those_of_a_file(tmp_path: Path) -> None:
    class Policy(StrEnum):
        TURN = "round_robin"

    config = load_given(
        {
            "app": "myapp:app",
            "directory": tmp_path,
            "workers": 3,
            "preload": False,
            "scheduling": Policy.TURN,
            "listen": ("127.0.0.1:0", "[::1]:0"),
            "environment": {"A": "NO", "B": 1},
            "timeouts": {"drain": "90s"},
            "rollout": {"health_check": {"path": "/up"}},
            "worker_start": None,
            "unix_sockets": {"mode": "0600"},
            "server_header": "off",
        },
        "Cluster",
        METRICS,
    )
    assert (config.app, config.run, config.directory, config.workers) == ("myapp:app", None, str(tmp_path), 3)
    assert (config.preload, config.scheduling) == (Preload.NEVER, Scheduling.ROUND_ROBIN)
    assert [str(address) for address in config.listen] == ["127.0.0.1:0", "[::1]:0"]
    assert dict(config.environment) == {"A": "NO", "B": "1"}
    assert config.timeouts.drain == 90.0
    assert config.rollout.health_check is not None
    assert (config.metrics.address, config.worker_start, config.unix_sockets.mode) == (None, None, 0o600)
    assert config.server_header is Switch.OFF


def test_what_is_wrong_has_the_name_of_the_setting() -> None:
    assert refusals(app="myapp:app", workers=-3)[0].startswith("workers: found -3, must be ")
    assert refusals(app="myapp:app", workerz=3) == ["workerz: unknown setting (did you mean 'workers'?)"]
    assert refusals(app="myapp:app", timeouts={"drain": "soon"})[0].startswith("timeouts.drain: found 'soon', must be")
    assert refusals(app="myapp:app", listen=["127.0.0.1:1", 7])[0].startswith("listen[1]: found 7, must be")
    assert 'write ["127.0.0.1:1"]' in refusals(app="myapp:app", listen="127.0.0.1:1")[0]
    assert refusals()[0].startswith("Cluster: app is missing")
    assert len(refusals(app="myapp:", workers="many", log={"level": "loud"})) == 3


def test_what_no_file_could_say_is_refused_too() -> None:
    def app() -> None: ...

    assert refusals(app=app) == ['app: found a function, which no setting accepts (name it, as in "module:attribute")']
    assert refusals(app="myapp:app", limits={"body": {1}}) == [
        "limits.body: found a set, which no setting accepts (settings are text, numbers, lists and dicts)"
    ]
