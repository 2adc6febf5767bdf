"""Random faults under mixed load for a while: every request is accounted for, and nothing is left behind.

`make soak` goes on for longer, with what each seed chooses.
"""

import asyncio
from pathlib import Path
from random import SystemRandom

import pytest

from tests.support.certificates import make_certificate
from tests.support.rollouts import SCHEDULINGS
from tests.support.soak.run import report
from tests.support.soak.trial import Trial, attempt

SECONDS = 15.0
KINDS = ("threads", "asgi")


@pytest.mark.parametrize(("kind", "scheduling"), list(zip(KINDS, SCHEDULINGS, strict=True)))
def test_what_is_lost_is_explained_and_nothing_is_left(kind: str, scheduling: str, tmp_path: Path) -> None:
    trial = Trial(SystemRandom().randrange(1 << 32), SECONDS, kind, scheduling, workers=2, max_requests=300)
    print(trial)
    directory = tmp_path / "service"
    directory.mkdir()
    outcome = asyncio.run(attempt(trial, directory, make_certificate(tmp_path / "certificates")))
    report(outcome)
    print((directory / "log").read_text())
    assert outcome.wrong == [], trial
    assert outcome.answered.total() > 100
    assert outcome.inflicted.total() > 5
