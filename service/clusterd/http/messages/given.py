"""What applications give: converts what the specifications' wording and other servers accept, and refuses the rest.

Everything that an application passes to the engine goes through this module. Its parameters are of type object,
because a compiled function checks any other type itself, and its TypeError tells an application nothing. Every
TypeError raised here names the message, the key, what was found and what is allowed.
"""

from collections.abc import Iterator, Mapping
from operator import index
from os import PathLike, fspath
from typing import Any, cast

FIELDS_ALLOWED = "an iterable of pairs (name, value)"
"""What the header fields of a response may be."""
_LONGEST_SHOWN = 60


def unfit(where: str, found: object, allowed: str) -> TypeError:
    """Return the error for a value that is not allowed at `where`."""
    shown = repr(found)
    if len(shown) > _LONGEST_SHOWN:
        shown = f"{shown[:_LONGEST_SHOWN]}..."
    return TypeError(f"{where}: found {shown} of type {type(found).__name__}, allowed is {allowed}")


def message(given: object) -> dict[str, Any]:
    """Return an ASGI message, which is any mapping with a text as its `type`."""
    if type(given) is not dict:
        if not isinstance(given, Mapping):
            raise unfit("a message", given, "a dict")
        given = dict(given)
    known = cast("dict[str, Any]", given)
    if not isinstance(known.get("type"), str):
        raise unfit("a message's 'type'", known.get("type"), "text")
    return known


def octets(given: object, where: str) -> bytes:
    """Return the bytes of bytes, a bytearray or a memoryview."""
    if isinstance(given, bytes):
        return given
    if isinstance(given, (bytearray, memoryview)):
        return bytes(given)
    raise unfit(where, given, "bytes")


def text(given: object, where: str) -> str:
    """Return text; that of a subclass as plain text, whatever its methods do."""
    if type(given) is str:
        return given
    if isinstance(given, str):
        return "".join((given,))
    raise unfit(where, given, "text (str)")


def number(given: object, where: str) -> int:
    """Return an integer, also one of an enumeration or of another library."""
    try:
        return index(cast(Any, given))
    except TypeError:
        raise unfit(where, given, "an integer") from None


def path(given: object, where: str) -> str:
    """Return the path of a file, given as text or as an object with `__fspath__`."""
    if isinstance(given, (str, PathLike)):
        found: object = fspath(given)
        if isinstance(found, str):
            return found
    raise unfit(where, given, "a path (str or os.PathLike)")


def items(given: object, where: str, allowed: str) -> Iterator[object]:
    """Iterate over any iterable but text and bytes."""
    if not isinstance(given, (str, bytes)):
        try:
            return iter(cast(Any, given))
        except TypeError:
            pass
    raise unfit(where, given, allowed)


def byte_fields(given: object, where: str) -> Iterator[tuple[bytes, bytes]]:
    """Iterate over the header fields of an ASGI message."""
    for field in items(given, where, FIELDS_ALLOWED):
        yield byte_field(field, where)


def byte_field(given: object, where: str) -> tuple[bytes, bytes]:
    """Return a header field of an ASGI message: two times bytes."""
    name, value = _pair(given, where)
    return octets(name, f"{where}: a name"), octets(value, f"{where}: the value of {name!r}")


def text_field(given: object, where: str) -> tuple[str, str]:
    """Return a header field of a WSGI response: two times text."""
    name, value = _pair(given, where)
    return text(name, f"{where}: a name"), text(value, f"{where}: the value of {name!r}")


def _pair(given: object, where: str) -> tuple[object, object]:
    found = list(items(given, where, "pairs (name, value)"))
    if len(found) != 2:
        raise unfit(where, given, "pairs (name, value)")
    return found[0], found[1]
