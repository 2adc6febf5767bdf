"""Which requests may be what kills workers: those that were in the hands of several that died."""

from dataclasses import dataclass

WINDOW_SECONDS = 60.0
"""Deaths that are further apart have nothing to do with each other."""

DEATHS = 3
"""In so many dying workers' hands a request is suspect."""

REMEMBERED_DEATHS = 100
"""A service of many workers may lose thousands of them in a minute."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """`request`, a method and a path, was in the hands of `deaths` workers that died within WINDOW_SECONDS."""

    request: str
    deaths: int


@dataclass(frozen=True, slots=True)
class Suspects:
    """The last deaths and what was named because of them. Times by the clock of `step`."""

    deaths: tuple[tuple[float, frozenset[str]], ...] = ()
    named: tuple[tuple[float, str], ...] = ()

    def after_death(self, now: float, requests: tuple[str, ...]) -> tuple["Suspects", tuple[Suspicion, ...]]:
        """A worker has died with `requests` in its hands. Each suspect is named once in a window."""
        since = now - WINDOW_SECONDS
        recent = (*(death for death in self.deaths if death[0] >= since), (now, frozenset(requests)))
        named = tuple(each for each in self.named if each[0] >= since)
        known = {request for _, request in named}
        suspicions = tuple(
            Suspicion(request, count)
            for request in dict.fromkeys(requests)
            if request not in known and (count := sum(request in held for _, held in recent)) >= DEATHS
        )
        named += tuple((now, suspicion.request) for suspicion in suspicions)
        return Suspects(recent[-REMEMBERED_DEATHS:], named), suspicions
