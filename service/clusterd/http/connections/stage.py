"""The stages of a connection's life."""

from enum import Enum, auto


class Stage(Enum):
    """The stage of a connection."""

    PREFACE = auto()
    """Before the first request: the PROXY protocol header or the TLS handshake is not complete."""
    IDLE = auto()
    """Between requests. Nothing of the next request was read."""
    HEAD = auto()
    """A part of a head was read."""
    BODY = auto()
    ANSWERING = auto()
    """The request is being answered."""
    FLUSHING = auto()
    """The response is complete, but the client has not read it. The next request waits."""
    SKIPPING = auto()
    """The response is complete, but not the request's body. The rest of the body is read and dropped."""
    TUNNEL = auto()
    """Another protocol has taken over, until the connection closes."""
    DETACHED = auto()
    """Offered to another process. This process neither reads nor writes."""
    LINGERING = auto()
    """After the last response. Our side is closed, and what the client still sends is dropped."""
    CLOSED = auto()


MOVES = {
    Stage.PREFACE: {Stage.IDLE, Stage.DETACHED, Stage.LINGERING, Stage.CLOSED},
    Stage.IDLE: {Stage.PREFACE, Stage.HEAD, Stage.BODY, Stage.ANSWERING, Stage.DETACHED, Stage.LINGERING, Stage.CLOSED},
    Stage.HEAD: {Stage.BODY, Stage.ANSWERING, Stage.DETACHED, Stage.LINGERING, Stage.CLOSED},
    Stage.BODY: {Stage.ANSWERING, Stage.LINGERING, Stage.CLOSED},
    Stage.ANSWERING: {
        Stage.IDLE,
        Stage.FLUSHING,
        Stage.SKIPPING,
        Stage.TUNNEL,
        Stage.LINGERING,
        Stage.CLOSED,
    },
    Stage.FLUSHING: {Stage.IDLE, Stage.LINGERING, Stage.CLOSED},
    Stage.SKIPPING: {Stage.IDLE, Stage.FLUSHING, Stage.LINGERING, Stage.CLOSED},
    Stage.TUNNEL: {Stage.LINGERING, Stage.CLOSED},
    Stage.DETACHED: {Stage.PREFACE, Stage.IDLE, Stage.CLOSED},
    Stage.LINGERING: {Stage.CLOSED},
    Stage.CLOSED: set[Stage](),
}
"""The legal moves. The tests of the engine check every move of every connection (tests/support/stages.py). The engine
itself does not, because a check costs a small request some percent of its time."""

AT_REST = (Stage.IDLE, Stage.HEAD, Stage.PREFACE)
RECEIVING = (Stage.IDLE, Stage.HEAD, Stage.BODY)
IN_FLIGHT = (Stage.BODY, Stage.ANSWERING, Stage.TUNNEL)
