"""Settings as they are by default, and with the changes that a test asks for."""

from dataclasses import replace
from typing import Any

from clusterd.config.model import Preload
from clusterd.config.reading.loader import load_given
from clusterd.http.settings import HttpSettings, Interface, Limits, Timeouts
from clusterd.supervisor.model.settings import Settings, settings_of
from clusterd.worker.engine_settings import engine_settings

DEFAULT = load_given({"app": "shop:app"}, "the tests")


def limits(**changes: int) -> Limits:
    """The section `limits` with these values."""
    return replace(DEFAULT.limits, **changes)


def timeouts(**changes: float | None) -> Timeouts:
    """The section `timeouts` with these values."""
    return replace(DEFAULT.timeouts, **changes)  # type: ignore[arg-type]


def supervisor_settings(workers: int, **changes: Any) -> Settings:
    """The settings of a generation with these values. Unlike by default it is always preloaded, and settles at once."""
    return replace(settings_of(DEFAULT, workers), **{"preload": Preload.ALWAYS, "settle": 0.0, **changes})


def http_settings(interface: Interface = Interface.WSGI, **changes: Any) -> HttpSettings:
    """The settings of an engine with these values."""
    return replace(engine_settings(DEFAULT, interface), **changes)
