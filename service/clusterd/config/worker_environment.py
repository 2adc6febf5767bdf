"""Checks the environment variables that a program gives to one of its workers."""

import os
import re
from collections.abc import Mapping
from typing import Any

from clusterd.config.settings.application_settings import ENVIRONMENT_NAME, RESERVED_ENVIRONMENT


def checked_environment(environment: Mapping[Any, Any]) -> dict[str, str]:
    """Return a checked copy. Raises TypeError and ValueError.

    With such a variable the master could never fork the worker, so the error is reported here, to the program.
    """
    for name, value in environment.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"environment: {name!r} is {value!r}; both have to be text")
        if not re.fullmatch(ENVIRONMENT_NAME, name) or re.fullmatch(RESERVED_ENVIRONMENT, name):
            raise ValueError(f"environment: {name!r} cannot be set")
        if "\0" in value:
            raise ValueError(f"environment: the value of {name} has a NUL in it")
        try:
            os.fsencode(value)
        except UnicodeEncodeError:
            raise ValueError(f"environment: the value of {name} has half a surrogate pair in it") from None
    return dict(environment)
