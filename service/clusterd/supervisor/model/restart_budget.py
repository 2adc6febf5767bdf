"""The restart budget: how soon a worker that had been ready is replaced. All slots share one budget."""

from clusterd.records import dataclass


@dataclass(frozen=True, slots=True)
class RestartLimit:
    """`burst` restarts at once, and one more every `spacing` seconds."""

    burst: int
    spacing: float

    @classmethod
    def of(cls, burst: int, per: float, wanted: int) -> "RestartLimit":
        """A limit of `burst` restarts in `per` seconds, but at least half of the `wanted` workers in a second."""
        return cls(burst, min(per / burst, 1.0 / ((wanted + 1) // 2)))


@dataclass(frozen=True, slots=True)
class RestartBudget:
    """A token bucket: `used` restarts of the burst were used up at time `at`. Each spacing gives one back."""

    used: float = 0.0
    at: float = 0.0

    def free_at(self, limit: RestartLimit, now: float, ahead: int) -> float:
        """When a restart with `ahead` others before it may happen. It may happen at once if that is not after `now`."""
        full_at = self.at + self.used * limit.spacing
        return max(full_at, now) + (ahead + 1 - limit.burst) * limit.spacing

    def after_restart(self, limit: RestartLimit, now: float) -> "RestartBudget":
        """The budget after one more restart at `now`."""
        left = max(0.0, self.used - (now - self.at) / limit.spacing)
        return RestartBudget(min(left + 1, limit.burst), now)
