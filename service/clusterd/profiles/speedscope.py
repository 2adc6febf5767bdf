"""A file for speedscope (https://www.speedscope.app/file-format-schema.json), with one profile for each view."""

import json
from typing import Any

from clusterd.profiles.profile import Frame, Profile, View


def speedscope(profile: Profile, name: str) -> str:
    """Return the document."""
    numbers: dict[Frame, int] = {}
    profiles = [_profile(profile, view, numbers) for view in profile.shown()]
    document = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "name": name,
        "exporter": "clusterd",
        "activeProfileIndex": 0,
        "shared": {"frames": [_frame(frame) for frame in numbers]},
        "profiles": profiles,
    }
    return json.dumps(document)


def _profile(profile: Profile, view: View, numbers: dict[Frame, int]) -> dict[str, Any]:
    stacks = profile.stacks(view)
    return {
        "type": "sampled",
        "name": view.value,
        "unit": "microseconds",
        "startValue": 0,
        "endValue": profile.total(view),
        "samples": [[numbers.setdefault(frame, len(numbers)) for frame in stack] for stack, _ in stacks],
        "weights": [microseconds for _, microseconds in stacks],
    }


def _frame(frame: Frame) -> dict[str, Any]:
    place: dict[str, Any] = {"file": frame.path} if frame.path else {}
    if frame.line:
        place["line"] = frame.line
    return {"name": frame.name, **place}
