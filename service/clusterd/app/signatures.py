"""Checks which arguments a function takes, before it is called."""

import inspect
from collections.abc import Callable
from typing import Any


def unfit_signature(function: Callable[..., Any], arguments: tuple[object, ...]) -> str | None:
    """The signature of `function` if it cannot be called with these arguments; None if it can."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None  # Written in C, without a signature to inspect.
    try:
        signature.bind(*arguments)
    except TypeError:
        return str(signature)
    return None


def check_handler(handler: object, event: str, given: tuple[str, ...]) -> None:
    """Raise TypeError if `handler` cannot be called with the arguments that handlers of `event` are `given`."""
    if not callable(handler):
        raise TypeError(f"a handler of {event!r} has to be a function: found {handler!r}")
    if signature := unfit_signature(handler, given):
        raise TypeError(f"{name_of(handler)} takes {signature}; a handler of {event!r} is given ({', '.join(given)})")


def name_of(function: Callable[..., Any]) -> str:
    """The qualified name of `function`, for messages."""
    return str(getattr(function, "__qualname__", repr(function)))
