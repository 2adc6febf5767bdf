"""What `clusterctl profile` can write."""

from enum import StrEnum


class Format(StrEnum):
    """A format."""

    FLAMEGRAPH = "flamegraph"
    SPEEDSCOPE = "speedscope"
    COLLAPSED = "collapsed"


class CannotWrite(Exception):
    """The file cannot be written. The text says why."""
