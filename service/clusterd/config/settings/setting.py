"""The definition of one setting."""

from dataclasses import field
from enum import Enum, StrEnum

from clusterd.config.settings.kinds import Kind
from clusterd.records import dataclass


class Applies(StrEnum):
    """When a changed setting takes effect."""

    LIVE = "live"
    """At the reload, also in the workers that already run."""
    NEXT_GENERATION = "next generation"
    """At the reload, in the workers that the reload starts."""
    RESTART = "restart"
    """When clusterd is started again."""


class Shape(Enum):
    """How many values a setting has."""

    ONE = "one"
    LIST = "list"
    NAMED = "named"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `default` is written as in a file. None means that the setting is required."""

    key: str
    kind: Kind
    default: str | None
    applies: Applies
    help: str
    shape: Shape = Shape.ONE
    metavar: str = "VALUE"
    may_be_empty: bool = False
    """Whether an empty list is allowed."""
    instead: str | None = None
    """The setting that may be given instead of this required one."""
    alias: str | None = None
    """Another flag of the same meaning, which other servers have."""
    flag: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "flag", "APP" if self.key == "app" else f"--{self.key}")
