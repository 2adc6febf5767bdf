"""`clusterd --check`: start one worker for real, check its health, and end it. Then import the hooks.

The processes are those of a start (`processes.py`). None of them serves a client.
"""

import asyncio
import os
import signal
from dataclasses import replace

from clusterd.config.model import AccessLog, Config, LogLevel, Preload
from clusterd.linux.descriptors import raise_descriptor_limit
from clusterd.linux.prctl import become_subreaper
from clusterd.log import Level, Logger, open_sink
from clusterd.master.checking.processes import Checked, CheckedProcesses
from clusterd.master.children.child import Death
from clusterd.master.children.orphans import end_orphans
from clusterd.master.children.table import why_unheard
from clusterd.process.own_log import configure_log
from clusterd.records import dataclass
from clusterd.wire import messages

END_SECONDS = 5.0
"""How long to wait for the end of a process that has failed. It runs the exit handlers of the application."""


STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that end a check. Without a handler the application's processes would outlive it."""


class CheckStopped(Exception):
    """A signal has ended the check."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


class CheckFailed(Exception):
    """A start would fail. For an error of the application, the text includes the traceback."""

    def __init__(self, reason: str, *, is_configuration: bool = False) -> None:
        super().__init__(reason.rstrip())
        self.is_configuration = is_configuration
        """The cause is the configuration file, or a file that it names (interpreter, certificate, key)."""


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a check that has not failed."""

    found: tuple[str, ...]
    """What is good, in words."""
    warnings: tuple[str, ...]


def check_application(config: Config) -> Report:
    """Start a worker of the application and end it, and import the hooks. Raises CheckFailed and CheckStopped.

    Ends what the application has started.
    """
    become_subreaper()
    raise_descriptor_limit()
    try:
        # Without the access log: the only request is the health check, whose failure is reported.
        log = replace(config.log, level=LogLevel.WARNING, access=AccessLog.OFF)
        return asyncio.run(_until_stopped(replace(config, log=log)))
    finally:
        end_orphans()


async def _until_stopped(config: Config) -> Report:
    loop, stopped = asyncio.get_running_loop(), list[signal.Signals]()
    check = loop.create_task(_check(config))

    def stop(number: signal.Signals) -> None:
        stopped.append(number)
        check.cancel()

    for number in STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # As nohup(1) has it.
            loop.add_signal_handler(number, stop, number)
    try:
        return await check
    except asyncio.CancelledError:
        raise CheckStopped(stopped[0]) from None
    finally:
        # asyncio closes the socket that signals wake it by, and only then stops using it. The processes killed
        # last may end in between, and Python would write of a signal that it could not pass on.
        signal.set_wakeup_fd(-1)


async def _check(config: Config) -> Report:
    log = Logger(open_sink(os.environ), Level.WARNING)
    configure_log(log, config.log)
    processes = CheckedProcesses(config, log)
    check = _Check(config, processes)
    try:
        await (check.application() if config.run is None else check.job(config.run))
        if config.hooks is not None:
            await check.hooks()
    except OSError as error:
        raise CheckFailed(f"clusterd cannot start a process: {error.strerror or error}") from error
    finally:
        processes.kill_all()
    return Report(tuple(check.found), tuple(check.warnings))


class _Check:
    """The steps of a check. They raise CheckFailed, and OSError if the system is out of processes or descriptors."""

    def __init__(self, config: Config, processes: CheckedProcesses) -> None:
        self._config = config
        self._processes = processes
        self._limit = config.rollout.boot_timeout
        self.found: list[str] = []
        self.warnings: list[str] = []

    async def application(self) -> None:
        """Boot a worker of the application, and check its health."""
        template = await self._template(preload=self._config.preload is not Preload.NEVER)
        if template is None:
            # As at a start: each worker imports the application itself.
            template = await self._template(preload=False)
        assert template is not None  # It has imported nothing that a fork would break.
        try:
            await self._worker(template)
        finally:
            await self._processes.dismiss(template)

    async def job(self, reference: str) -> None:
        """Import the function that `run` names. It is not called: it may do what must not be done twice."""
        if (template := await self._template(preload=True)) is not None:
            await self._processes.dismiss(template)
        self.found.append(f"{reference} imports, and was not called")

    async def hooks(self) -> None:
        """Import the hooks."""
        hooks = self._processes.start_hooks()
        await self._loaded(hooks, "hooks")
        await self._processes.dismiss(hooks)
        self.found.append("the hooks import")

    async def _template(self, *, preload: bool) -> Checked | None:
        """Start a template. None if it has imported what cannot be forked, and has ended."""
        refuse_unforkable = preload and self._config.preload is Preload.AUTO
        template = self._processes.start_template(preload=preload, refuse_unforkable=refuse_unforkable)
        if isinstance(await self._loaded(template, "application"), messages.Loaded):
            return template
        await self._processes.ended(template, END_SECONDS)
        return None

    async def _loaded(self, process: Checked, what: str) -> messages.Message:
        """Wait until a template or a hooks process has imported what it should. Returns its answer."""
        try:
            async with asyncio.timeout(self._limit):
                said = await process.said.get()
                is_importing = isinstance(said, messages.Importing)
                if is_importing:
                    said = await process.said.get()
        except TimeoutError:
            stacks = await self._processes.stacks(process)
            limit = f"rollout.boot_timeout ({self._limit:g} s)"
            raise CheckFailed(f"the {what}: not imported within {limit}\n{stacks}") from None
        match said:
            case messages.LoadFailed(reason, traceback, _):
                await self._processes.ended(process, END_SECONDS)
                wrong = f"the {what} could not be loaded: {reason}" if is_importing else reason
                raise CheckFailed(f"{wrong}\n{traceback}", is_configuration=not is_importing)
            case Death(how=how) if is_importing:
                raise CheckFailed(f"the process died while it imported the {what} ({how})")
            case Death() as death:
                why = why_unheard(death, self._config.python)
                raise CheckFailed(why, is_configuration=not death.by_signal)
            case _:
                return said

    async def _worker(self, template: Checked) -> None:
        worker = self._processes.fork(template)
        try:
            async with asyncio.timeout(self._limit):
                said = await worker.said.get()
                wrong = await self._health(worker) if isinstance(said, messages.Ready) else None
        except TimeoutError:
            stacks = await self._processes.stacks(worker)
            await self._processes.ended(worker, 0.0)
            limit = f"rollout.boot_timeout ({self._limit:g} s)"
            raise CheckFailed(f"the worker failed: not ready within {limit}\n{stacks}") from None
        match said:
            case messages.BootFailed(reason, traceback, _):
                await self._processes.ended(worker, END_SECONDS)
                raise CheckFailed(f"the worker could not start: {reason}\n{traceback}")
            case Death(how=how):
                raise CheckFailed(f"the worker failed: {how}")
        death = await self._processes.retire(worker)
        if wrong is not None:
            raise CheckFailed(f"the worker failed: {wrong}{f' ({death.how})' if death.by_signal else ''}")
        if death.child.doomed:
            self.warnings.append("the worker was killed: not drained within timeouts.drain")
        elif death.code:
            self.warnings.append(f"the worker failed when it was told to end: {death.how}")

    async def _health(self, worker: Checked) -> str | None:
        """Check the health of a worker that is ready. Returns what is wrong."""
        check = self._config.rollout.health_check
        if check is None:
            self.found += ["a worker starts", "no request was tried, because rollout.health_check is not set"]
            return None
        wrong = await self._processes.check_health(worker, check)
        self.found.append(f"a worker starts and answers the health check {check.path}")
        return wrong
