"""The identifier of the request that the current thread, task or greenlet works on."""

from contextvars import ContextVar

REQUEST_ID: ContextVar[str | None] = ContextVar("clusterd_request_id", default=None)
"""None outside a request, and where `request_ids` is off."""
