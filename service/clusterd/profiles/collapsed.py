"""Collapsed stacks: a line for each stack, with its time in microseconds, for flamegraph.pl and other programs."""

from collections.abc import Iterator

from clusterd.profiles.profile import Frame, Profile


def collapsed(profile: Profile) -> str:
    """Return the text. The first frame of each line is the view."""
    return "".join(f"{line}\n" for line in _lines(profile))


def _lines(profile: Profile) -> Iterator[str]:
    for view in profile.shown():
        for stack, microseconds in profile.stacks(view):
            yield f"{';'.join([view.value, *map(_name, stack)])} {microseconds}"


def _name(frame: Frame) -> str:
    """A label without what has a meaning in a line."""
    return "".join("_" if each == ";" or not each.isprintable() else each for each in frame.label)
