"""Soak a service for a while: `run.py [SECONDS [SEED]]`. A finding is printed and ends with status 1."""

import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import SystemRandom

from tests.support.certificates import make_certificate
from tests.support.soak.trial import Outcome, Trial, attempt

SECONDS = 600.0
ROUND_SECONDS = 150.0
"""So long one configuration is tormented; the next round has another seed."""


def main(seconds: float, seed: int) -> int:
    """One round after the other, until something is found or the time is over."""
    outcomes: list[Outcome] = []
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
            outcomes.append(outcome)
            if outcome.wrong:
                _keep_log(Path(made), seed)
                print(*outcome.wrong[:20], sep="\n  ", flush=True)
                return 1
        seconds -= trial.seconds
        seed += 1
    print("all rounds together:")
    _report_counts(outcomes)
    return 0


def _keep_log(made: Path, seed: int) -> None:
    kept = Path(tempfile.gettempdir()) / f"soak-{seed}.log"
    kept.write_text((made / "log").read_text())
    print(f"the log is in {kept}", flush=True)


def report(outcome: Outcome) -> None:
    """Print the figures of one round."""
    _report_counts([outcome])
    for name, what in (("before", outcome.before), ("after", outcome.after)):
        print(f"{name}: {what.private_bytes >> 10} KiB, {what.descriptors.total()} descriptors, {what.threads} threads")
    sys.stdout.flush()


def _report_counts(outcomes: Sequence[Outcome]) -> None:
    answered, deaths = sum(each.answered.total() for each in outcomes), sum(each.deaths for each in outcomes)
    print(f"answered: {answered}, deaths of workers: {deaths}")
    tables = {
        "inflicted": [each.inflicted for each in outcomes],
        "lost and explained": [each.explained for each in outcomes],
        "refused": [each.refused for each in outcomes],
        "clusterd has told": [each.told for each in outcomes],
    }
    for name, counts in tables.items():
        print(f"{name}: {_written(sum(counts, Counter()))}")
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
