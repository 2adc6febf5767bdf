"""Looks up users and groups by name on this machine."""

import grp
import pwd
from collections.abc import Callable, Mapping


class UnknownAccount(Exception):
    """The machine has no user or group of that name; the text says so."""


def _user_id(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise UnknownAccount(f"there is no user {name!r} on this machine") from None


def _group_id(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise UnknownAccount(f"there is no group {name!r} on this machine") from None


ID_OF: Mapping[str, Callable[[str], int]] = {"owner": _user_id, "group": _group_id}
"""The look-up for each setting of `unix_sockets`, by the last part of its name. Each raises UnknownAccount."""
