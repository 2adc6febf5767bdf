"""How soon a worker that had been ready is replaced: at once, within a budget that all slots share."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RestartLimit:
    """`burst` restarts at once, and one more every `spacing` seconds."""

    burst: int
    spacing: float

    @classmethod
    def of(cls, burst: int, per: float, wanted: int) -> "RestartLimit":
        """At most `burst` restarts in `per` seconds, yet enough for half of the `wanted` workers in a second."""
        return cls(burst, min(per / burst, 1.0 / ((wanted + 1) // 2)))


@dataclass(frozen=True, slots=True)
class RestartBudget:
    """A token bucket: how many restarts of the burst were used up at a time; each spacing gives one back."""

    used: float = 0.0
    at: float = 0.0

    def free_at(self, limit: RestartLimit, now: float, ahead: int) -> float:
        """When a restart may happen that has `ahead` others before it. Past or `now`: it may happen at once."""
        full_at = self.at + self.used * limit.spacing
        return max(full_at, now) + (ahead + 1 - limit.burst) * limit.spacing

    def after_restart(self, limit: RestartLimit, now: float) -> "RestartBudget":
        """One restart more, at `now`."""
        left = max(0.0, self.used - (now - self.at) / limit.spacing)
        return RestartBudget(min(left + 1, limit.burst), now)
