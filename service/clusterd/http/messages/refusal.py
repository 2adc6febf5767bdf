"""Requests that are answered without the application."""

from http import HTTPStatus


class Refusal(Exception):
    """A request that is refused, with the status to answer and the reason in a few words, shown to the client.

    `headers` are fields that tell the client what to do instead.
    """

    def __init__(self, status: HTTPStatus, reason: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(f"{status.value} {status.phrase}: {reason}")
        self.status = status
        self.reason = reason
        self.headers = headers


def bad_request(reason: str) -> Refusal:
    """The refusal for what is not HTTP, or only ambiguously so (RFC 9112, sections 2.2 and 11.2)."""
    return Refusal(HTTPStatus.BAD_REQUEST, reason)


def application_failed() -> Refusal:
    """The refusal where the application has failed: how, is for the log and not for the client."""
    return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the application failed; its log says why")
