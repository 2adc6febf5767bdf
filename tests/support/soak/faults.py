"""Everything that is done to the service: a row for each fault. None of them needs root.

Enter another one as a function of the scene and a row of FAULTS. What it may cost is known from the scene's `victims`:
requests of other processes than these must not be lost (ledger.py).
"""

import asyncio
import resource
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.service import wait_until
from tests.support.soak.applications import BAD_DEPLOYS
from tests.support.soak.scene import Scene

HANG_SECONDS = 3.0
"""`timeouts.hang` of the service."""
MOST_MORE = 2
"""So many workers more than at the start, at most."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, or that an operator does meanwhile. `weight`: how often, beside the others."""

    name: str
    inflict: Callable[[Scene], Awaitable[None]]
    weight: int = 1


# ---- processes die


async def _kill_a_worker(scene: Scene) -> None:
    scene.kill(scene.worker())


async def _kill_a_template(scene: Scene) -> None:
    scene.kill(scene.process("clusterd: template"))


async def _kill_a_spare(scene: Scene) -> None:
    scene.kill(scene.process("clusterd: spare"))


async def _kill_the_hooks(scene: Scene) -> None:
    scene.kill(scene.process("clusterd: hooks"))


async def _kill_all_but_the_master(scene: Scene) -> None:
    for pid in scene.everyone():
        scene.kill(pid)


async def _kill_the_master(scene: Scene) -> None:
    async with scene.masters:
        scene.service.masters_killed.append(time.monotonic())
        await asyncio.to_thread(scene.service.kill_the_master)
        await asyncio.to_thread(wait_until, scene.service.describe, "the next master answers")


async def _exit_in_a_request(scene: Scene) -> None:
    await scene.request("/exit")


# ---- processes stop or hang


async def _hang_in_a_request(scene: Scene) -> None:
    await scene.request("/hang")


async def _stop_for_a_moment(scene: Scene) -> None:
    pid = scene.random.choice((scene.worker(), scene.process("clusterd: template"), scene.process("clusterd: hooks")))
    scene.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(scene.random.uniform(0.05, 1.0))
    scene.kill(pid, signal.SIGCONT)


async def _stop_for_good(scene: Scene) -> None:
    scene.kill(scene.worker(), signal.SIGSTOP)


async def _stop_the_master(scene: Scene) -> None:
    scene.kill(scene.service.pid, signal.SIGSTOP)
    await asyncio.sleep(scene.random.uniform(0.1, 2 * HANG_SECONDS))
    scene.kill(scene.service.pid, signal.SIGCONT)


# ---- the system gives no more


async def _no_descriptors_for_a_worker(scene: Scene) -> None:
    if (pid := scene.worker()) is not None:
        with _few_descriptors(pid, scene.random.choice((0, 0, 3))):
            await asyncio.sleep(scene.random.uniform(0.2, 2.0))


async def _no_descriptors_for_the_master(scene: Scene) -> None:
    # Not one that only begins: its interpreter would end without a word of clusterd (test_masters_death.py tries that).
    async with scene.masters:
        with _few_descriptors(scene.service.pid, scene.random.choice((0, 2, 5))):
            await asyncio.sleep(scene.random.uniform(0.2, 2.0))


@contextmanager
def _few_descriptors(pid: int, spare: int) -> Iterator[None]:
    """Let a process open only so many more."""
    try:
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        taken = sorted(int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir())
        free = next(number for number in range(taken[-1] + 2) if number not in taken)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (free + spare, before[1]))
    except (OSError, IndexError):
        yield  # It has ended.
        return
    yield
    try:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    except ProcessLookupError:
        pass


async def _nobody_reads_the_log(scene: Scene) -> None:
    scene.service.stop_reading()
    await asyncio.sleep(scene.random.uniform(0.5, 2.0))
    scene.service.read_on()


# ---- what an operator does


async def _reload(scene: Scene) -> None:
    async with scene.operations:
        await scene.command("reload")


async def _hang_up_several_times(scene: Scene) -> None:
    async with scene.operations:
        for _ in range(scene.random.randrange(1, 4)):
            scene.kill(scene.service.pid, signal.SIGHUP)
            await asyncio.sleep(scene.random.choice((0.0, 0.05)))


async def _deploy_badly(scene: Scene) -> None:
    async with scene.operations:
        scene.deploy(scene.random.choice((*BAD_DEPLOYS, None)), broken=True)
        await scene.command("reload")
        scene.deploy()


async def _scale(scene: Scene) -> None:
    async with scene.operations:
        await scene.command("scale", workers=str(scene.random.randrange(2, scene.workers + MOST_MORE + 1)))


async def _restart_a_slot(scene: Scene) -> None:
    async with scene.operations:
        await scene.command("restart", slot=scene.random.randrange(1, 3))


FAULTS = (
    Fault("kill -9 of a worker", _kill_a_worker, 4),
    Fault("kill -9 of a template", _kill_a_template, 2),
    Fault("kill -9 of a spare", _kill_a_spare),
    Fault("kill -9 of the hooks", _kill_the_hooks),
    Fault("kill -9 of the master", _kill_the_master, 3),
    Fault("kill -9 of all but the master", _kill_all_but_the_master),
    Fault("os._exit in a request", _exit_in_a_request, 2),
    Fault("a request that hangs its worker", _hang_in_a_request),
    Fault("a process stopped for a moment", _stop_for_a_moment, 2),
    Fault("a worker stopped for good", _stop_for_good),
    Fault("the master stopped for a while", _stop_the_master),
    Fault("no descriptors for a worker", _no_descriptors_for_a_worker, 2),
    Fault("no descriptors for the master", _no_descriptors_for_the_master),
    Fault("nobody reads the log", _nobody_reads_the_log),
    Fault("a reload", _reload, 3),
    Fault("SIGHUPs in a row", _hang_up_several_times),
    Fault("a bad deploy", _deploy_badly, 2),
    Fault("more or fewer workers", _scale, 2),
    Fault("a restart of a slot", _restart_a_slot, 2),
)
