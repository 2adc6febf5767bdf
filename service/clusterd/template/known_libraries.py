"""Libraries that a fork alone does not judge, by the names of their threads (docs/workers.md has them too)."""

import re

from clusterd.records import dataclass


@dataclass(frozen=True, slots=True)
class Library:
    """A library, and whether it works in a process that was forked after it had begun its threads."""

    name: str
    thread: str
    """A regular expression for the beginning of the names of its threads."""
    survives: bool


KNOWN = (
    # These begin their threads anew when they have something to send, so there are none just after the fork.
    Library("Elastic APM", "eapm ", survives=True),
    Library("Sentry", "(raven-)?sentry", survives=True),
    # These do not, or some of their threads exist again and do not work.
    Library("APScheduler", "APScheduler", survives=False),
    Library("gRPC", "event_engine|grpc_|lifeguard", survives=False),
    Library("New Relic", "NR-", survives=False),
    Library("PyMongo", "pymongo_", survives=False),
)


def library_of(thread: str) -> Library | None:
    """The known library that gives its threads such names."""
    return next((library for library in KNOWN if re.match(library.thread, thread)), None)
