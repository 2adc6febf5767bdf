"""What an engine does with connections between requests."""

from enum import Enum, auto


class EngineMode(Enum):
    """What happens to a connection after its response."""

    SERVING = auto()
    """It is kept."""
    HANDING_OVER = auto()
    """It is kept, and offered to another process as soon as it is between requests."""
    CLOSING = auto()
    """It is closed."""
