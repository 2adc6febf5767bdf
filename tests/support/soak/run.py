"""Soak a service for a while: `run.py [SECONDS [SEED]]`. A finding is printed and ends with status 1."""

import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import SystemRandom

from tests.support.certificates import make_certificate
from tests.support.soak.trial import Outcome, Trial, attempt

SECONDS = 600.0
ROUND_SECONDS = 150.0
"""So long one configuration is tormented; the next round has another seed."""


def main(seconds: float, seed: int) -> int:
    """One round after the other, until something is found or the time is over."""
    while seconds > 0:
        trial = Trial.of(seed, min(seconds, ROUND_SECONDS))
        print(f"{trial}: `make soak SEED={seed}` takes the same chances again", flush=True)
        with tempfile.TemporaryDirectory() as made:
            try:
                outcome = asyncio.run(attempt(trial, Path(made), make_certificate(Path(made) / "certificates")))
            except Exception:
                _keep_log(Path(made), seed)
                raise
            report(outcome)
            if outcome.wrong:
                _keep_log(Path(made), seed)
                print(*outcome.wrong[:20], sep="\n  ", flush=True)
                return 1
        seconds -= trial.seconds
        seed += 1
    return 0


def _keep_log(made: Path, seed: int) -> None:
    kept = Path(tempfile.gettempdir()) / f"soak-{seed}.log"
    kept.write_text((made / "log").read_text())
    print(f"the log is in {kept}", flush=True)


def report(outcome: Outcome) -> None:
    """Print the figures."""
    print(f"answered: {outcome.answered.total()}, deaths of workers: {outcome.deaths}")
    tables = {
        "inflicted": outcome.inflicted,
        "lost and explained": outcome.explained,
        "refused": outcome.refused,
        "clusterd has told": outcome.told,
    }
    for name, counts in tables.items():
        print(f"{name}: {_written(counts)}")
    for name, what in (("before", outcome.before), ("after", outcome.after)):
        print(f"{name}: {what.private_bytes >> 10} KiB, {what.descriptors.total()} descriptors, {what.threads} threads")
    sys.stdout.flush()


def _written(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(
        main(
            float(arguments[0]) if arguments else SECONDS,
            int(arguments[1]) if len(arguments) > 1 else SystemRandom().randrange(1 << 32),
        )
    )
