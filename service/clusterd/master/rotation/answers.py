"""The line that the agent answers, and how fast the weight in it may change: pure.

HAProxy's configuration manual, "agent-check".
"""

from clusterd.supervisor.model.rotation import Rotation

POINTS_A_SECOND = 20.0
"""The weight changes by at most so many percent a second, so that load does not swing between hosts."""
LEAST_WEIGHT = 1.0
"""With a weight of 0 HAProxy would drain the host."""
MOST_WEIGHT = 100.0
_REASON_CHARACTERS = 80


def approached(weight: float, target: float, seconds: float) -> float:
    """Return the weight that follows `weight` after so many seconds, on the way to `target`. All in percent."""
    step = POINTS_A_SECOND * max(0.0, seconds)
    return max(LEAST_WEIGHT, min(MOST_WEIGHT, max(weight - step, min(weight + step, target))))


def line(rotation: Rotation, *, stops: bool, is_empty: bool, not_ready: str | None, weight: float) -> str:
    """Return the answer. HAProxy ignores one that does not end with a newline.

    `is_empty`: no request and no connection is left. `not_ready`: why no worker answers requests.
    """
    if stops or rotation is not Rotation.IN:
        done = rotation is Rotation.OUT and is_empty and not stops
        return "maint\n" if done else "drain\n"
    if not_ready is not None:
        reason = "".join(character if character.isprintable() else " " for character in not_ready)
        return f"down #{reason.encode('ascii', 'replace').decode()[:_REASON_CHARACTERS]}\n"
    return f"ready up {round(weight)}%\n"
