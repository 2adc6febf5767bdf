"""Warn in the log of a certificate that is about to expire."""

from datetime import UTC, datetime

from clusterd.log import Level

_DAY = 86400.0
WARN_SECONDS = 14 * _DAY
"""How long before the end the warnings begin. There is one a day."""


class CertificateWatch:
    """Remembers the last warning. Times are seconds since 1970."""

    def __init__(self) -> None:
        self._warned: tuple[float, float] | None = None
        """The end of the certificate that was warned of, and when."""

    def look(self, name: str, ends_at: float, now: float) -> tuple[Level, str] | None:
        """Look at the served certificate, which the configuration calls `name`. Returns a line for the log, if due."""
        if ends_at - now > WARN_SECONDS:
            return None
        if self._warned is not None and self._warned[0] == ends_at and now - self._warned[1] < _DAY:
            return None
        self._warned = ends_at, now
        moment = datetime.fromtimestamp(ends_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        # A reload does not renew the files of LoadCredential=.
        renewal = "renew it, then " + ("restart the service" if name.startswith("credential:") else "reload")
        if now >= ends_at:
            return Level.ERROR, f"tls.certificate: {name} expired at {moment}, so clients refuse it: {renewal}"
        return Level.WARNING, f"tls.certificate: {name} expires in {_days(ends_at - now)}, at {moment}: {renewal}"


def _days(seconds: float) -> str:
    days = int(seconds // _DAY)
    return "less than a day" if days == 0 else f"{days} day{'s' if days > 1 else ''}"
