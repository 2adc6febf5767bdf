"""Refusals: requests that the engine answers without the application."""

from http import HTTPStatus


class Refusal(Exception):
    """The engine refuses a request with `status`. The response shows `reason`, a few words, to the client.

    `headers` are additional fields that tell the client what to do instead.
    """

    def __init__(self, status: HTTPStatus, reason: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(f"{status.value} {status.phrase}: {reason}")
        self.status = status
        self.reason = reason
        self.headers = headers


def bad_request(reason: str) -> Refusal:
    """Return the refusal for malformed or ambiguous HTTP (RFC 9112, sections 2.2 and 11.2)."""
    return Refusal(HTTPStatus.BAD_REQUEST, reason)


def application_failed() -> Refusal:
    """Return the refusal for a failed application. The cause goes to the log and is not shown to the client."""
    return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the application failed; its log says why")
