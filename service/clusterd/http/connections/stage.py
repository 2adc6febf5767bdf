"""The stages of a connection's life."""

from enum import Enum, auto


class Stage(Enum):
    """Where a connection stands."""

    PREFACE = auto()
    """Before the first request: the PROXY protocol header has not come as a whole."""
    IDLE = auto()
    """Between requests, nothing read of the next."""
    HEAD = auto()
    """A part of a head was read."""
    BODY = auto()
    ANSWERING = auto()
    """The request is complete, its response is not."""
    FLUSHING = auto()
    """The response is complete, but the client has yet to read it; the next request waits."""
    SKIPPING = auto()
    """The response is complete, but not the request's body: what is left of it is read and dropped."""
    TUNNEL = auto()
    """Another protocol has taken over, until the connection closes."""
    DETACHED = auto()
    """Offered to another process: nothing is read or written."""
    LINGERING = auto()
    """The last response is out and our side closed: what the client still sends is dropped."""
    CLOSED = auto()


AT_REST = (Stage.IDLE, Stage.HEAD, Stage.PREFACE)
RECEIVING = (Stage.IDLE, Stage.HEAD, Stage.BODY)
IN_FLIGHT = (Stage.BODY, Stage.ANSWERING, Stage.TUNNEL)
