"""A file by which a service that an operator has drained stays drained when it is restarted, until the host is."""

from contextlib import suppress
from pathlib import Path

_NAME = "drained"
"""In the unit's RuntimeDirectory=, which systemd keeps until the host is restarted (RuntimeDirectoryPreserve=)."""


class KeptDrain:
    """The file in `directory`. Without a directory, which only systemd gives, nothing is kept."""

    def __init__(self, directory: str | None) -> None:
        self._path = None if directory is None else Path(directory, _NAME)

    @property
    def is_drained(self) -> bool:
        """Whether the service was drained when it was here last."""
        return self._path is not None and self._path.exists()

    def keep(self, *, is_drained: bool) -> None:
        """Keep it for the next start. Where the directory is full or gone, only this service knows."""
        if self._path is not None:
            with suppress(OSError):
                if is_drained:
                    self._path.touch()
                else:
                    self._path.unlink(missing_ok=True)
