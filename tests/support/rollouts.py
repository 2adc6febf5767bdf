"""Rollouts in every order under a crowd of clients: `rollouts.py [SECONDS [SEED]]` tries one seed after the other.

What is chosen at random (the configuration, what the clients do, what happens to the service) comes from the seed;
how the processes meet is the machine's choice.
"""

import asyncio
import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random, SystemRandom

import requests

from tests.support.certificates import Certificate, make_certificate
from tests.support.crowd import ASGI, WSGI, Crowd, Loss
from tests.support.managed import ManagedService
from tests.support.ports import free_port
from tests.support.processes import open_files
from tests.support.service import Service, wait_until

KINDS = ("threads", "loop", "asgi")
SCHEDULINGS = ("least_connections", "round_robin")
MOST_WORKERS = 4
UNWANTED = r"^(?!\S+ \S+ debug: ).*(Error(?!.*not for service)|exception was never retrieved)"
"""In no line of the log: the server's own faults."""


@dataclass(frozen=True)
class Trial:
    """What is tried.

    `kills`: workers are killed; `short`: the drain is over before everything is through; `upgrades`: the program of the
    master is replaced; `deaths`: the master is killed.
    """

    seed: int
    kind: str
    scheduling: str
    kills: bool = False
    short: bool = False
    upgrades: bool = False
    deaths: bool = False
    seconds: float = 3.0


@dataclass
class Outcome:
    """What is not as it should be, and how much has been."""

    wrong: list[str]
    answered: Counter[str]
    moved: int
    cut: int
    events: Counter[str]


class _Schedule:
    """What happens to a service, one thing after the other."""

    def __init__(self, trial: Trial, service: Service, source: str, ports: set[int]) -> None:
        self._service = service
        self._random = Random(f"{trial.seed} schedule")
        self._source = source
        self._ports = ports
        self._workers = len(service.workers())
        self._version = 1
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.held_by_the_killed: set[int] = set()
        """The clients' ports of the connections that a worker had when it was killed."""
        self._events: list[Callable[[], Awaitable[None]]] = [
            self.reload,
            self.reload,
            self.several_hups,
            self.withdrawn,
            self.more,
            self.fewer,
        ]
        if trial.kills:
            self._events = [*self._events, self.kill, self.kill, self.kill]
        if trial.upgrades:
            self._events = [*self._events, self.upgrade, self.upgrade, self.upgrade]
        if trial.deaths:
            self._events = [*self._events, *[self.death] * 4]

    async def run(self, seconds: float) -> None:
        """Make things happen for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(self._random.choice((0.0, 0.1, 0.4)))
            event = self._random.choice(self._events)
            await event()
            self.done[event.__name__] += 1
        await self._settled()

    async def reload(self) -> None:
        """A rollout, and its end."""
        done = await asyncio.to_thread(self._service.ask_to_reload)
        assert done["succeeded"] or self.held_by_the_killed, done

    async def upgrade(self) -> None:
        """Another program of the master, and the rollout that follows."""
        done = await asyncio.to_thread(self._service.ask_to, "upgrade")
        assert done["succeeded"], done

    async def several_hups(self) -> None:
        """Rollouts that nobody waits for."""
        for _ in range(self._random.randrange(1, 4)):
            self._service.signal(signal.SIGHUP)
            await asyncio.sleep(self._random.choice((0.0, 0.05)))

    async def withdrawn(self) -> None:
        """A rollout that fails when it has begun to replace workers."""
        await self._settled()
        self._deploy(broken=True)
        done = await asyncio.to_thread(self._service.ask_to_reload)
        self._deploy(broken=False)
        assert not done["succeeded"] or self._workers == 1, done

    async def more(self) -> None:
        """One worker more."""
        if self._workers < MOST_WORKERS:
            self._workers += 1
            self._service.signal(signal.SIGTTIN)
            await asyncio.sleep(0.02)  # two at once would be one

    async def fewer(self) -> None:
        """One worker fewer."""
        if self._workers > 2:
            self._workers -= 1
            self._service.signal(signal.SIGTTOU)
            await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """A worker dies, whatever it is about. It is stopped first, so that it can be seen what it has."""
        states = self._random.choice((("ready",), ("draining", "retired", "ready")))
        pids = [worker["pid"] for state in states for worker in self._service.workers(state)]
        if not pids:
            return
        pid = self._random.choice(pids)
        try:
            os.kill(pid, signal.SIGSTOP)
            wait_until(lambda: _is_stopped(pid), "it is stopped")
            self.held_by_the_killed |= clients_of(pid, self._ports)
            os.kill(pid, signal.SIGKILL)
        except OSError:
            return  # it has ended by itself

    async def death(self) -> None:
        """The master dies, at rest or in the middle of what it was asked for, and the next one goes on."""
        assert isinstance(self._service, ManagedService)
        before = await asyncio.to_thread(counters, self._service)
        if self._random.random() < 0.7:
            self._service.signal(self._random.choice((signal.SIGHUP, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU)))
            await asyncio.sleep(self._random.random() * 0.6)
            self._workers = 0  # How many there are is seen when the next master has settled.
        pid = self._service.pid
        os.kill(pid, signal.SIGSTOP)
        await asyncio.to_thread(wait_until, lambda: _is_stopped(pid), "it is stopped")
        self.held_by_the_killed |= clients_of(pid, self._ports)
        await asyncio.to_thread(self._service.kill_the_master)
        after = await asyncio.to_thread(counters, self._service)
        self.wrong += [
            f"{name} went from {count} to {after.get(name)} when the master died"
            for name, count in before.items()
            if after.get(name, 0.0) < count
        ]
        if not self._workers:
            await self._settled()
            self._workers = len(await asyncio.to_thread(self._service.workers))

    async def _settled(self) -> None:
        """Every rollout that was asked for is over."""
        await asyncio.to_thread(self._service.ask_to_reload)

    def _deploy(self, *, broken: bool) -> None:
        self._version += 1
        self._service.deploy(str(self._version), f"BROKEN = {broken}\n" + self._source)


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def clients_of(pid: int, ports: set[int]) -> set[int]:
    """The clients' ports of the connections to one of `ports` that a process has open (proc_net_tcp(5))."""
    inodes = set(open_files(pid).values())
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *rest = line.split()
        if int(local.split(":")[1], 16) in ports and f"socket:[{rest[6]}]" in inodes:
            found.add(int(remote.split(":")[1], 16))
    return found


async def attempt(trial: Trial, directory: Path, certificate: Certificate) -> Outcome:
    """One trial, with a service and a crowd of its own."""
    random = Random(f"{trial.seed} configuration")
    tls_port = free_port()
    most = random.choice((1, 64)) if trial.short else 64
    source = ASGI if trial.kind == "asgi" else WSGI
    service = ManagedService(directory) if trial.deaths else Service(directory)
    service.deploy("1", "BROKEN = False\n" + source)
    service.configure(
        workers=random.choice((2, 3)),
        threads=12 if trial.kind == "threads" else 0,
        scheduling=trial.scheduling,
        preload=random.choice(("auto", False)),
        worker_start="app:prepare",
        log={"level": "debug", "access": "all"},  # for the story of a loss
        rollout={"settle": random.choice(("0ms", "200ms")), "surge": random.choice((1, 2)), "max_draining": most},
        timeouts={
            "drain": random.choice(("500ms", "900ms")) if trial.short else "30s",
            "drain_idle": "500ms" if trial.short else random.choice(("1s", "10s")),
        },
        tls={
            "listen": [f"127.0.0.1:{tls_port}"],
            "certificate": str(certificate.certificate),
            "key": str(certificate.key),
        },
    )
    try:
        service.start()
        schedule = _Schedule(trial, service, source, {service.port, tls_port})
        slow = trial.kind != "loop"
        talks = trial.kind == "asgi"
        crowd = Crowd(service.port, tls_port, certificate.client(), trial.seed, slow=slow, talks=talks)
        try:
            await schedule.run(trial.seconds)
        finally:
            await crowd.end()
        wrong = crowd.wrong + schedule.wrong
        await asyncio.to_thread(wait_until, lambda: not connections(service), "nobody holds a connection")
        moved = _moved(service.metrics().text)
        if await asyncio.to_thread(service.stop):
            wrong.append("clusterd ended badly")
        log = _Log(service.lines)
        schedule.done["killed at the end of a drain"] = len(log.killed)
        for loss in crowd.losses:
            if not log.accounts_for(loss, trial, schedule.held_by_the_killed):
                wrong.append("\n    ".join([str(loss), *story_of(loss, service.lines)]))
        wrong += [line for line in service.lines if re.search(UNWANTED, line)]
        if (log.cut or log.killed) and not trial.short:
            wrong.append(f"requests were cut, of {log.cut} by {log.killed}")
        return Outcome(wrong, crowd.answered, moved, len(crowd.losses), schedule.done)
    finally:
        await asyncio.to_thread(service.destroy)
        (directory / "log").write_text(service.log())


def counters(service: Service) -> dict[str, float]:
    """Every counter on /metrics, when there is a master."""

    def read() -> str | None:
        try:
            return service.metrics().text
        except requests.RequestException:
            return None

    page = str(wait_until(read, "metrics"))
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M))
    samples = re.findall(r"^(([a-zA-Z_:]+?)(_bucket|_sum|_count)?(?:\{.*?\})?) ([0-9.e+-]+|\+Inf)$", page, re.M)
    return {
        sample: float(value)
        for sample, name, suffix, value in samples
        if kinds.get(name) in ("counter", "histogram") or kinds.get(f"{name}{suffix}") == "counter"
    }


def _moved(metrics: str) -> int:
    """How many connections workers have handed over to others."""
    counts = re.findall(r"^clusterd_http_connections_handed_over_total\{.*?\} (\S+)", metrics, re.M)
    return sum(int(float(count)) for count in counts)


def connections(service: Service) -> int:
    """What all workers have, and those on their way out too."""
    description = service.describe()
    assert description is not None
    return sum(worker["connections"] for worker in description["workers"] if worker["state"] == "ready")


class _Log:
    """What the log says of the connections that ended, by the ports of their clients."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self.cut = self._ports(r"(request|connection) cut at the end of the drain.* peer=\S+:(\d+)")
        """With these at the end of a drain: said of each by its worker."""
        self._closed_idle = self._ports(
            r"debug: (connection) closing .* peer=\S+:(\d+) .*scheme=https stage=idle .*unanswered=0 unread=0"
        )
        self.killed = set(re.findall(r"killing worker: not drained .*?pid=(\d+)", "\n".join(lines)))
        """The workers that the master has killed at the end of their drains, since their loops did not turn."""

    def _ports(self, pattern: str) -> set[int]:
        return {int(found[2]) for line in self._lines if (found := re.search(pattern, line))}

    def accounts_for(self, loss: Loss, trial: Trial, held_by_the_killed: set[int]) -> bool:
        """Whether nothing else could become of it, and whoever reads the log can know."""
        if (trial.kills or trial.deaths) and loss.port in held_by_the_killed:
            return True
        # A connection over TLS cannot move. If it is idle for drain_idle, or by the end of the drain, it is closed
        # (RFC 9112 section 9.5), and a request may be on its way then: here one that had not come to the server's
        # kernel when the server said that it closes (unread=0), so that no server could have read it. Its client
        # learns so by the close_notify, before any of an answer.
        if loss.secure and not loss.has_begun and loss.port in self._closed_idle:
            return True
        return trial.short and (loss.port in self.cut or self._last_holder(loss.port) in self.killed)

    def _last_holder(self, port: int) -> str | None:
        """The pid of the worker that had the connection last."""
        told = re.compile(rf"clusterd\[(\d+)\] debug: connection (opened|kept) .* peer=\S+:{port} ")
        return next((found[1] for line in reversed(self._lines) if (found := told.search(line))), None)


def story_of(loss: Loss, log: list[str]) -> list[str]:
    """Everything that is known of a lost request and its connection, in order: what its client did, what every worker
    says of them, and what became of the workers that had them.
    """
    about = re.compile(rf":{loss.port}\b" + (rf"|/{loss.token}/" if loss.token else ""))
    pids = {found[1] for line in log if about.search(line) and (found := re.search(r"clusterd\[(\d+)\]", line))}
    any_of = "|".join(pids) or "none"
    fates = re.compile(rf"^\S+ clusterd\[\d+\] \w+: (a drain|worker|killing) .*\bpid=({any_of})\b")
    told = [line for line in log if about.search(line) or fates.search(line)]
    return sorted([*loss.story, *told], key=lambda line: line.split(" ", 1)[0])


def trial_of(seed: int, seconds: float = 3.0) -> Trial:
    """One of all the kinds there are."""
    random = Random(f"{seed} trial")
    trial = Trial(seed, random.choice(KINDS), random.choice(SCHEDULINGS), seconds=seconds)
    trial = random.choice((trial, trial, replace(trial, kills=True), replace(trial, short=True)))
    return replace(trial, upgrades=random.random() < 0.3, deaths=random.random() < 0.3)


def main(seconds: float, first: int | None) -> int:
    """Until something is found, or the time is over."""
    until = time.monotonic() + seconds
    totals: Counter[str] = Counter()
    status = 0
    while time.monotonic() < until:
        seed = SystemRandom().randrange(1 << 32) if first is None else first
        trial = trial_of(seed)
        with tempfile.TemporaryDirectory() as made:
            directory = Path(made)
            certificate = make_certificate(directory / "certificates")
            outcome = asyncio.run(attempt(trial, directory, certificate))
            if outcome.wrong:
                status = 1
                kept = Path(tempfile.gettempdir()) / f"rollouts-{seed}.log"
                kept.write_text((directory / "log").read_text())
                print(f"{trial}: the log is in {kept}", *outcome.wrong[:20], sep="\n  ", flush=True)
        totals.update({"trials": 1, "answers": outcome.answered.total(), "moved": outcome.moved, "lost": outcome.cut})
        totals.update(outcome.events)
        print(trial, dict(totals), flush=True)
    return status


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main(float(arguments[0]) if arguments else 60.0, int(arguments[1]) if len(arguments) > 1 else None))
