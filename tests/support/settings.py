"""Settings as they are by default, and with the changes that a test asks for."""

from dataclasses import replace
from typing import Any

from clusterd.config.reading.loader import load_given
from clusterd.http.settings import HttpSettings, Interface, Limits, Timeouts
from clusterd.worker.engine_settings import engine_settings

DEFAULT = load_given({"app": "shop:app"}, "the tests")


def limits(**changes: int) -> Limits:
    """The section `limits` with these values."""
    return replace(DEFAULT.limits, **changes)


def timeouts(**changes: float | None) -> Timeouts:
    """The section `timeouts` with these values."""
    return replace(DEFAULT.timeouts, **changes)  # type: ignore[arg-type]


def http_settings(interface: Interface = Interface.WSGI, **changes: Any) -> HttpSettings:
    """The settings of an engine with these values."""
    return replace(engine_settings(DEFAULT, interface), **changes)
