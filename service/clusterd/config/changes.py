"""The differences between two configurations, and when each takes effect."""

from collections.abc import Iterator

from clusterd.config.model import JSON
from clusterd.config.settings.schema import BY_KEY
from clusterd.config.settings.setting import Setting, Shape
from clusterd.config.written import HIDDEN
from clusterd.records import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """A setting whose value has changed. Both values are written as in a file; None means that it is not set."""

    setting: Setting
    before: JSON
    after: JSON

    def shown(self) -> Iterator[dict[str, JSON]]:
        """Yield the rows to show to an operator: one for each variable of the environment, else one for the setting."""
        if self.setting.shape is Shape.NAMED:
            for name, before, after in _differing(self.before, self.after):
                hidden = [None if value is None else HIDDEN for value in (before, after)]
                yield self._row(f"{self.setting.key}.{name}", *hidden)
        else:
            yield self._row(self.setting.key, self.before, self.after)

    def _row(self, key: str, before: JSON, after: JSON) -> dict[str, JSON]:
        return {"key": key, "before": before, "after": after, "applies": self.setting.applies.value}


def changes(before: dict[str, JSON], after: dict[str, JSON]) -> tuple[Change, ...]:
    """Return the settings that differ, in the order of the schema. Both arguments come from `written`."""
    return tuple(Change(BY_KEY[key], was, is_now) for key, was, is_now in _differing(before, after))


def _differing(before: JSON, after: JSON) -> Iterator[tuple[str, JSON, JSON]]:
    assert isinstance(before, dict) and isinstance(after, dict)
    for key in before | after:
        if before.get(key) != after.get(key):
            yield key, before.get(key), after.get(key)
