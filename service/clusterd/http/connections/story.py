"""What becomes of each connection, told at level debug: how a request could be lost is read from these lines."""

from typing import TYPE_CHECKING

from clusterd.http.ports import Log

if TYPE_CHECKING:
    from clusterd.http.connections.link import Link


def tell(connection: "Link", log: Log, what: str, unanswered: int) -> None:
    """Log `what` has happened to `connection`, and the state that it happened in.

    `unanswered` counts bytes that were read and belong to no request yet, `unread` those that wait in the kernel: a
    socket that is closed with some of them resets its connection.
    """
    log.debug(
        f"connection {what}",
        peer=f"{connection.peer[0]}:{connection.peer[1]}" if connection.peer else "unix",
        scheme=connection.scheme,
        stage=connection.stage.name.lower(),
        requests=connection.requests,
        unanswered=unanswered,
        unread=connection.unread,
    )
