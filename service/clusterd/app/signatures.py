"""What a function can be called with, asked before anybody calls it."""

import inspect
from collections.abc import Callable
from typing import Any


def unfit_signature(function: Callable[..., Any], arguments: tuple[object, ...]) -> str | None:
    """What `function` takes, if it cannot be called with these arguments."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None  # written in C: it does not say
    try:
        signature.bind(*arguments)
    except TypeError:
        return str(signature)
    return None


def check_handler(handler: object, event: str, given: tuple[str, ...]) -> None:
    """Raises TypeError for what cannot be called with what is `given` to handlers of `event`."""
    if not callable(handler):
        raise TypeError(f"a handler of {event!r} has to be a function: found {handler!r}")
    if signature := unfit_signature(handler, given):
        raise TypeError(f"{name_of(handler)} takes {signature}; a handler of {event!r} is given ({', '.join(given)})")


def name_of(function: Callable[..., Any]) -> str:
    """As people know it."""
    return str(getattr(function, "__qualname__", repr(function)))
