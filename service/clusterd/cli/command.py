"""The command `clusterd`: serves an application, or checks a configuration."""

import gc
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from clusterd import service_name
from clusterd.cli import failed_start
from clusterd.cli.arguments import Arguments, parse_arguments
from clusterd.cli.failed_start import FailedStart, Stage
from clusterd.config.model import Config
from clusterd.config.paths import control_path
from clusterd.config.reading.loader import ConfigError, load
from clusterd.config.reading.platform import notes, platform_defaults
from clusterd.config.reading.problems import in_one_line
from clusterd.linux.early_signals import let_signals_through
from clusterd.log import Level, Logger, open_sink
from clusterd.master.checking.check import CheckFailed, CheckStopped, check_application
from clusterd.master.master import Master
from clusterd.master.sockets.binding import ListenError
from clusterd.master.sockets.listeners import NAME_AN_ADDRESS, NOTHING_TO_LISTEN_ON, open_listeners
from clusterd.master.takeover.inheritance import left_by_dead_master, state_file_of
from clusterd.master.takeover.owners import configuration_that_serves, listeners_of
from clusterd.master.takeover.state import Cause, Succession
from clusterd.master.takeover.state import read as read_state
from clusterd.master.takeover.state_file import TakeoverError
from clusterd.master.takeover.upgrade import answer, state_descriptor
from clusterd.master.watching.watcher import Watcher, WatchError
from clusterd.process.own_log import configure_log, level_of
from clusterd.supervisor.decisions.first_start import pause_after
from clusterd.supervisor.decisions.stopping import ExitStatus
from clusterd.supervisor.model.table import FirstStart
from clusterd.systemd.descriptor_store import is_wanted
from clusterd.systemd.environment import DESCRIPTOR_STORE_VARIABLE, runtime_directory
from clusterd.systemd.expected import expected_sockets
from clusterd.systemd.notify import Notifier
from clusterd.systemd.sockets import SocketError, make_non_blocking, passed_descriptors, take_sockets
from clusterd.version import __version__

START_SECONDS = 85.0
"""A start that keeps failing ends after this time, and after GRACE_SECONDS more if an attempt is in progress. systemd
then starts clusterd again. `systemctl start`, boot and apt wait for the start for at most 90 s."""


def run() -> int:
    """Do what the command line asks for and return the exit status."""
    arguments = parse_arguments(sys.argv[1:])
    if arguments.check:
        let_signals_through()
        return _check(arguments)
    descriptor = state_descriptor()
    if arguments.can_adopt:
        let_signals_through()
        return _say_whether_it_can_adopt(arguments, descriptor)
    log = Logger(open_sink(os.environ))
    if descriptor is not None:
        return _take_over(arguments, descriptor, log)
    attempt = _Attempt(log)
    try:
        passed = passed_descriptors()
    except SocketError as error:
        return attempt.refuse(str(error).splitlines(), ExitStatus.TEMPORARY)
    if make_non_blocking(passed) and is_wanted(os.environ):
        # Workers that outlive their master would wait in accept(2) from the next start on, and answer no client.
        log.error("nothing outlives this master, because the unit lacks NonBlocking=yes")
        os.environ[DESCRIPTOR_STORE_VARIABLE] = "no"
    if (left := left_by_dead_master(passed, log)) is not None:
        return _go_on(arguments, left, log)
    if not attempt.wait():
        return ExitStatus.ASKED
    try:
        config = _read(arguments)
    except ConfigError as error:
        return attempt.refuse([str(problem) for problem in error.problems], ExitStatus.CONFIGURATION)
    log.set_level(level_of(config.log))
    configure_log(log, config.log)
    for note in notes(platform_defaults(os.environ), config.environment_file):
        log.info(note)
    return _serve(config, arguments, attempt, passed, log)


class _Attempt:
    """One start of the service, which may follow others that have failed."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._began_at = time.monotonic()
        self._directory = runtime_directory(os.environ)
        self._earlier = failed_start.take(self._directory)
        self._retry_at = 0.0
        if self._earlier is not None:
            self._retry_at = self._earlier.retry_at(clients_wait=failed_start.clients_wait(os.environ))

    def wait(self) -> bool:
        """Wait for the pause after a failed start. Return False if a signal asks clusterd to end.

        If the application failed, the master itself waits for the next attempt, so that clusterctl can ask it about it.
        """
        earlier, seconds = self._earlier, self._retry_at - time.monotonic()
        if earlier is None or earlier.stage is Stage.APPLICATION or seconds <= 0:
            return True
        self._say([f"the last start failed, trying again in {seconds:.1f} s: {earlier.reason}"], Level.WARNING)
        goes_on = failed_start.wait(self._retry_at)
        self._retry_at = time.monotonic()
        return goes_on

    def first_start(self) -> FirstStart:
        """Return the record of earlier attempts for the master, and the time at which it must give up."""
        give_up_at = self._began_at + START_SECONDS if "NOTIFY_SOCKET" in os.environ else None
        if self._earlier is None:
            return FirstStart(give_up_at=give_up_at)
        return FirstStart(self._earlier.failures, self._earlier.reason, self._retry_at, give_up_at)

    def refuse(self, problems: Sequence[str], status: ExitStatus) -> int:
        """Report in the log and in `systemctl status` why there is no service. Return the exit status."""
        self._say(problems, Level.ERROR)
        failures = 1 if self._earlier is None else self._earlier.failures + 1
        return self._leave(Stage.PREPARING, status, failures, pause_after(failures), in_one_line(problems))

    def ended(self, status: int, first: FirstStart) -> int:
        """Record that the application did not start, if so. Return the exit status."""
        if status not in (ExitStatus.APPLICATION, ExitStatus.TEMPORARY):
            return status
        pause = 0.0 if first.was_cut else pause_after(first.failures)
        return self._leave(Stage.APPLICATION, ExitStatus(status), first.failures, pause, first.reason)

    def _leave(self, stage: Stage, status: ExitStatus, failures: int, pause: float, reason: str) -> int:
        failed = FailedStart(stage, status, failures, time.monotonic(), pause, reason)
        if not failed_start.leave(self._directory, failed) and self._directory is not None:
            # The next start cannot know of this one, so only RestartSec= delays it.
            return ExitStatus.TEMPORARY
        return status

    def _say(self, problems: Sequence[str], level: Level) -> None:
        for problem in problems:
            self._log.log(level, problem)
        self._log.flush()
        notifier = Notifier(os.environ.get("NOTIFY_SOCKET"))
        notifier.status(f"{'Failed' if level is Level.ERROR else 'Waiting'}: {in_one_line(problems)}")
        notifier.close()


def _read(arguments: Arguments) -> Config:
    defaults = platform_defaults(os.environ)
    if service_name.INSTANCE and (directory := os.environ.get("RUNTIME_DIRECTORY")):
        # An instance must not use the default ports, which clusterd.service uses. It also has its own socket unit.
        defaults["metrics.address"] = f"unix:{directory}/metrics.sock"
        defaults["listen"] = ""
    return load(arguments.config_path, arguments.overrides, defaults)


def _check(arguments: Arguments) -> int:
    """Check the configuration and report to the terminal, not to the log."""
    try:
        config = _read(arguments)
    except ConfigError as error:
        print("\n".join(str(problem) for problem in error.problems), file=sys.stderr)
        return ExitStatus.CONFIGURATION
    try:
        report = check_application(config)
    except CheckFailed as failed:
        print(failed, file=sys.stderr)
        return ExitStatus.CONFIGURATION if failed.is_configuration else ExitStatus.FAILURE
    except CheckStopped as stopped:
        signal.signal(stopped.number, signal.SIG_DFL)
        signal.raise_signal(stopped.number)
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if config.run is None and not (config.listen or config.tls.listen):
        # The check cannot see whether systemd will pass any.
        print(f"warning: {NOTHING_TO_LISTEN_ON}, unless systemd passes sockets; {NAME_AN_ADDRESS}", file=sys.stderr)
    print("; ".join(["the configuration is good", *report.found]))
    return 0


def _say_whether_it_can_adopt(arguments: Arguments, descriptor: int | None) -> int:
    """Answer a master that asks before it is replaced by this program."""
    reason = ""
    try:
        if descriptor is None:
            raise TakeoverError("only a running master asks this: use clusterctl upgrade")
        configuration_that_serves(read_state(descriptor))
        _watched(arguments, _read(arguments))
    except TakeoverError as error:
        reason = str(error)
    except ConfigError as error:
        reason = in_one_line([str(problem) for problem in error.problems])
    print(answer(__version__, reason))
    return ExitStatus.FAILURE if reason else 0


def _take_over(arguments: Arguments, descriptor: int, log: Logger) -> int:
    """Go on in place of the program that has executed this one."""
    try:
        state = read_state(descriptor)
        os.close(descriptor)
        file = state_file_of(state)
    except (TakeoverError, OSError) as error:
        return _cannot_go_on(error, log)
    return _go_on(arguments, Succession(Cause.UPGRADE, state, file), log)


def _go_on(arguments: Arguments, succession: Succession, log: Logger) -> int:
    """Go on with the processes that another program of the master has left."""
    state = succession.state
    with ExitStack() as opened:
        try:
            config = configuration_that_serves(state)
            log.set_level(state.log_level)
            configure_log(log, config.log)
            watched = _watched(arguments, config)
            listeners = opened.enter_context(closing(listeners_of(state.listeners)))
            watcher = opened.enter_context(closing(Watcher(watched, log))) if watched else None
            master = Master(config, lambda: _read(arguments), listeners, log, watcher=watcher, start=succession)
        except (TakeoverError, WatchError, OSError) as error:
            return _cannot_go_on(error, log)
        gc.freeze()
        status = master.run()
        listeners.remove_files()
        return status


def _cannot_go_on(error: Exception, log: Logger) -> int:
    """It was asked before, so this is rare. The workers answer what they have, and end."""
    return _Attempt(log).refuse([f"this program cannot go on: {error}"], ExitStatus.TEMPORARY)


def _watched(arguments: Arguments, config: Config) -> Sequence[Path]:
    """Return the paths to watch: those that were asked for, if any, with the files of the configuration.

    Otherwise the next reload would apply their changes unnoticed.
    """
    if not arguments.watch:
        return ()
    files = arguments.config_path, config.environment_file
    return (*arguments.watch, *(Path(file) for file in files if file is not None))


def _serve(
    config: Config, arguments: Arguments, attempt: _Attempt, passed: tuple[tuple[int, str], ...], log: Logger
) -> int:
    with ExitStack() as opened:
        try:
            path = Path(control_path(config.control, os.environ, os.getuid()))
            listeners = opened.enter_context(
                closing(open_listeners(config, take_sockets(passed), path, expected_sockets(os.environ)))
            )
            # Created before the application is imported, so that changes during the import count.
            watched = _watched(arguments, config)
            watcher = opened.enter_context(closing(Watcher(watched, log))) if watched else None
        except (ListenError, SocketError) as error:
            return attempt.refuse(str(error).splitlines(), ExitStatus.TEMPORARY)
        except WatchError as error:
            listeners.remove_files()
            return attempt.refuse([str(error)], ExitStatus.CONFIGURATION)
        first = attempt.first_start()
        master = Master(config, lambda: _read(arguments), listeners, log, watcher=watcher, start=first)
        # What is alive now stays alive. Looking through it in each full collection would keep the loop for 10 ms.
        gc.freeze()
        status = master.run()
        listeners.remove_files()
        return attempt.ended(status, master.first_start)
