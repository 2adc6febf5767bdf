"""The settings that the supervisor needs from the configuration of a generation."""

from dataclasses import dataclass

from clusterd.config.model import Config, Preload


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one generation. Durations are in seconds."""

    workers: int
    preload: Preload
    surge: int
    boot_timeout: float
    settle: float
    max_draining: int
    drain: float
    drain_idle: float
    hang: float
    restart_burst: int
    restart_per: float


def settings_of(config: Config, workers: int) -> Settings:
    """The settings of `config` for the supervisor. `workers` is the resolved number, because `auto` is none."""
    return Settings(
        workers=workers,
        preload=config.preload,
        surge=config.rollout.surge,
        boot_timeout=config.rollout.boot_timeout,
        settle=config.rollout.settle,
        max_draining=config.rollout.max_draining,
        drain=config.timeouts.drain,
        drain_idle=config.timeouts.drain_idle,
        hang=config.timeouts.hang,
        restart_burst=config.restarts.burst,
        restart_per=config.restarts.per,
    )
