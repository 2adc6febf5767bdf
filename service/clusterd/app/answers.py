"""What follows a call of a handler for messages: the reply, or the reason why there is none."""

from typing import Any, Protocol

from clusterd.app.errors import describe
from clusterd.log import Logger


class Asked(Protocol):
    """A message whose sender waits for a reply."""

    def reply(self, value: Any) -> None:
        """Send the reply. Raises TypeError and ValueError if the value cannot be sent."""

    def refuse(self, why: str) -> None:
        """Refuse to reply, with a reason."""


def reply(asked: Asked, value: Any, what: str, log: Logger) -> None:
    """Reply with `value`, which `what` has returned: a handler, in words."""
    try:
        asked.reply(value)
    except (TypeError, ValueError) as error:
        why = f"what {what} returned cannot be the reply: {error}"
        log.error(why)
        asked.refuse(why)


def failed(asked: Asked | None, error: BaseException, what: str, log: Logger) -> None:
    """Log that `what` has raised `error`. Refuse to reply with that reason, if a reply is wanted."""
    failure = describe(error, what)
    log.error(f"{failure.reason}\n{failure.traceback}")
    if asked is not None:
        asked.refuse(failure.reason)
