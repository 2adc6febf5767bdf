"""Rollouts, workers more and fewer, and deaths, at random moments, under clients at random stages (rollouts.py).

`python -m tests.support.rollouts SECONDS [SEED]` tries many more.
"""

import asyncio
from dataclasses import replace
from pathlib import Path
from random import SystemRandom

import pytest

from tests.support.certificates import make_certificate
from tests.support.rollouts import KINDS, SCHEDULINGS, Trial, attempt

TRIALS = [
    *(Trial(0, kind, scheduling) for kind in KINDS for scheduling in SCHEDULINGS),
    Trial(0, "threads", "least_connections", kills=True),
    Trial(0, "asgi", "round_robin", kills=True),
    Trial(0, "threads", "round_robin", short=True),
    Trial(0, "asgi", "least_connections", short=True),
    Trial(0, "threads", "least_connections", upgrades=True),
    Trial(0, "asgi", "round_robin", kills=True, upgrades=True),
    Trial(0, "threads", "least_connections", deaths=True),
    Trial(0, "loop", "round_robin", deaths=True, upgrades=True),
    Trial(0, "asgi", "least_connections", deaths=True, kills=True),
]


def name(trial: Trial) -> str:
    special = [name for name in ("kills", "short", "upgrades", "deaths") if getattr(trial, name)]
    return " ".join([trial.kind, trial.scheduling, *special])


@pytest.mark.parametrize("trial", TRIALS, ids=name)
def test_nothing_is_lost_whatever_a_rollout_meets(trial: Trial, tmp_path: Path) -> None:
    seed = SystemRandom().randrange(1 << 32)
    trial = replace(trial, seed=seed, seconds=2.0)
    print(trial)
    service = tmp_path / "service"
    service.mkdir()
    outcome = asyncio.run(attempt(trial, service, make_certificate(tmp_path / "certificates")))
    assert outcome.wrong == [], trial
    assert outcome.answered.total() > 100
    assert outcome.moved
