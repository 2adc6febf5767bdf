"""One service under torment for a while, and what came of it."""

import asyncio
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.support.certificates import Certificate
from tests.support.crowd import Crowd
from tests.support.ports import free_port
from tests.support.rollouts import KINDS, SCHEDULINGS, connections
from tests.support.service import Never, wait_until
from tests.support.soak.applications import HOOKS, TORMENTED_ASGI, TORMENTED_WSGI
from tests.support.soak.faults import FAULTS, HANG_SECONDS, Fault
from tests.support.soak.remains import Belongings, belongings, leaked
from tests.support.soak.scene import Scene
from tests.support.soak.verdict import Verdict, sort_out
from tests.support.soak.watched import WatchedService

LOOK_SECONDS = 1.0
HANDS = 2
"""So many faults happen at a time."""
PAUSES = (0.0, 0.1, 0.3, 0.6, 1.5)
WARM_UP_SECONDS = 3.0


@dataclass(frozen=True)
class Trial:
    """What is chosen by the seed."""

    seed: int
    seconds: float
    kind: str
    scheduling: str
    workers: int
    max_requests: int

    @classmethod
    def of(cls, seed: int, seconds: float) -> "Trial":
        """The one of a seed."""
        random = Random(f"{seed} trial")
        return cls(
            seed,
            seconds,
            random.choice(KINDS),
            random.choice(SCHEDULINGS),
            random.choice((2, 3)),
            random.choice((0, 300, 2000)),
        )


@dataclass
class Outcome:
    """What is not as it should be, and the figures."""

    wrong: list[str]
    answered: Counter[str]
    explained: Counter[str]
    """The requests that were lost, by what explains it."""
    refused: Counter[str]
    inflicted: Counter[str]
    told: Counter[str]
    """What clusterd has told of losses."""
    deaths: int
    before: Belongings
    after: Belongings


def _made(trial: Trial, directory: Path, certificate: Certificate, tls_port: int) -> tuple[WatchedService, str]:
    service = WatchedService(directory)
    source = TORMENTED_ASGI if trial.kind == "asgi" else TORMENTED_WSGI
    service.deploy("1", f"BROKEN = False\n{source}")
    (directory / "hooked.py").write_text(HOOKS)
    (directory / "tmp").mkdir()
    service.environment |= {"TMPDIR": str(directory / "tmp")}
    service.configure(
        workers=trial.workers,
        threads=12 if trial.kind == "threads" else 0,
        scheduling=trial.scheduling,
        worker_start="app:prepare",
        hooks="hooked",
        log={"level": "debug", "repeats": 0},  # Every connection is told of.
        restarts={"burst": 1000, "per": "10s"},
        limits={"max_requests": trial.max_requests},
        timeouts={"hang": f"{HANG_SECONDS:g}s", "drain": "10s", "drain_idle": "1s"},
        tls={
            "listen": [f"127.0.0.1:{tls_port}"],
            "certificate": str(certificate.certificate),
            "key": str(certificate.key),
        },
    )
    return service, source


async def attempt(trial: Trial, directory: Path, certificate: Certificate) -> Outcome:
    """Have one service tormented. Its log is left in the directory."""
    tls_port = free_port()
    service, source = _made(trial, directory, certificate, tls_port)
    try:
        service.start()
        scene = Scene(service, source, trial.seed, trial.workers)
        crowd = Crowd(
            service.port,
            tls_port,
            certificate.client(),
            trial.seed,
            slow=trial.kind != "loop",
            talks=trial.kind == "asgi",
        )
        verdict = Verdict(crowd, scene, trial.scheduling)
        await asyncio.sleep(WARM_UP_SECONDS)
        before = await _at_rest(scene)
        await _torment(scene, verdict, trial.seconds)
        wrong = await _recovered(scene)
        await crowd.end()
        deadline = time.monotonic() + 2 * LOOK_SECONDS
        while verdict.is_pending and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            verdict.look()
        verdict.look(is_last=True)
        after, leaks = await _without_leaks(scene, before)
        wrong += await _ended(scene)
        unexpected, refused = sort_out(crowd, had_few="the limit of descriptors leaves" in service.log())
        unforeseen = service.ledger.unforeseen(scene.victims)
        if len(unforeseen) > scene.inflicted["a request that hangs its worker"]:
            wrong.append(f"workers died of nothing that was done to them: {unforeseen}")
        wrong += [*unexpected, *verdict.wrong, *leaks, *service.ledger.unwanted]
        return Outcome(
            wrong,
            crowd.answered,
            verdict.explained,
            refused + scene.refused,
            scene.inflicted,
            service.ledger.told,
            len(service.ledger.deaths),
            before,
            after,
        )
    finally:
        service.reading.set()
        await asyncio.to_thread(service.destroy)
        (directory / "log").write_text(service.log())
        shutil.rmtree(directory / "tmp", ignore_errors=True)


async def _torment(scene: Scene, verdict: Verdict, seconds: float) -> None:
    """Two hands, and an eye on what comes of it."""
    until = time.monotonic() + seconds
    hands = [asyncio.create_task(_hand(scene, until)) for _ in range(HANDS)]
    while not all(hand.done() for hand in hands):
        await asyncio.sleep(LOOK_SECONDS)
        verdict.look()
    await asyncio.gather(*hands)


async def _hand(scene: Scene, until: float) -> None:
    rows: list[Fault] = [fault for fault in FAULTS for _ in range(fault.weight)]
    while time.monotonic() < until:
        fault = scene.random.choice(rows)
        scene.inflicted[fault.name] += 1
        await fault.inflict(scene)
        await asyncio.sleep(scene.random.choice(PAUSES))


async def _recovered(scene: Scene) -> list[str]:
    """Wait until the service is as at the start: that it gets there is what is promised."""
    scene.deploy()
    if not await scene.command("scale", workers=str(scene.workers)):
        return ["the number of workers cannot be set once all is over"]
    if not await scene.command("reload"):
        return ["no reload succeeds once all is over"]
    return await _until(lambda: len(scene.service.workers()) == scene.workers, "every worker serves once all is over")


async def _at_rest(scene: Scene) -> Belongings:
    await _until(lambda: scene.process("clusterd: spare") and scene.process("clusterd: hooks"), "spare and hooks")
    return belongings(scene)


async def _without_leaks(scene: Scene, before: Belongings) -> tuple[Belongings, list[str]]:
    """Look until nothing is left of what was done. What is there for good is a leak."""
    wrong = await _until(lambda: connections(scene.service) == 0, "nobody holds a connection")
    seen = [before]

    def nothing_is_left() -> bool:
        seen.append(belongings(scene))
        return not leaked(before, seen[-1])

    await _until(nothing_is_left, "nothing is left")
    return seen[-1], [*wrong, *leaked(before, seen[-1])]


async def _ended(scene: Scene) -> list[str]:
    try:
        status = await asyncio.to_thread(scene.service.stop)
    except subprocess.TimeoutExpired:
        scene.kill(scene.service.pid, signal.SIGUSR1)  # It writes its state into the log.
        await asyncio.sleep(LOOK_SECONDS)
        return [f"clusterd does not end: {dict(belongings(scene).processes)}", *scene.service.lines[-10:]]
    return [f"clusterd ended with {status}"] if status else []


async def _until(condition: Callable[[], object], what: str) -> list[str]:
    try:
        await asyncio.to_thread(wait_until, condition, what)
    except Never as never:
        return [str(never)]
    return []
