"""Refusals: requests that the engine answers without the application."""

from http import HTTPStatus

from clusterd.http.ports import RefusedFor


class Refusal(Exception):
    """The engine refuses a request with `status`. The response shows `reason`, a few words, to the client.

    `headers` are additional fields that tell the client what to do instead. `refused_for` is why the request is counted
    as refused. None: it counts as answered, because the application or a timeout has caused the response.
    """

    def __init__(
        self,
        status: HTTPStatus,
        reason: str,
        headers: tuple[tuple[str, str], ...] = (),
        refused_for: RefusedFor | None = None,
    ) -> None:
        super().__init__(f"{status.value} {status.phrase}: {reason}")
        self.status = status
        self.reason = reason
        self.headers = headers
        self.refused_for = refused_for


def bad_request(reason: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> Refusal:
    """Return the refusal for malformed or ambiguous HTTP (RFC 9112, sections 2.2 and 11.2)."""
    return Refusal(status, reason, refused_for="bad_request")


def above_limit(status: HTTPStatus, reason: str) -> Refusal:
    """Return the refusal for a request above one of the settings of `limits`."""
    return Refusal(status, reason, refused_for="limits")


def application_failed() -> Refusal:
    """Return the refusal for a failed application. The cause goes to the log and is not shown to the client."""
    return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "the application failed; its log says why")
