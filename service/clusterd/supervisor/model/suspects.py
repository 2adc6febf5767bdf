"""Find suspects: requests that were in-flight in several workers when they died, and may have killed them."""

from clusterd.records import dataclass

WINDOW_SECONDS = 60.0
"""Deaths that are further apart count as unrelated."""

DEATHS = 3
"""A request is a suspect once it was in-flight in this many workers that died."""

REMEMBERED_DEATHS = 100
"""The most deaths that are kept: a service with many workers may lose thousands in a minute."""


@dataclass(frozen=True, slots=True)
class Suspicion:
    """`request`, a method and a path, was in-flight in `deaths` workers that died within WINDOW_SECONDS."""

    request: str
    deaths: int


@dataclass(frozen=True, slots=True)
class Suspects:
    """The last deaths, and the suspects that were named because of them. Times are on the clock of `step`."""

    deaths: tuple[tuple[float, frozenset[str]], ...] = ()
    named: tuple[tuple[float, str], ...] = ()

    def after_death(self, now: float, requests: tuple[str, ...]) -> tuple["Suspects", tuple[Suspicion, ...]]:
        """The state after a worker died with `requests` in-flight, and the new suspects.

        Each suspect is named once within WINDOW_SECONDS.
        """
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
