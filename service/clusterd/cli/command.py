"""What `clusterd` does: serve an application, or check a configuration."""

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from clusterd.cli.arguments import Arguments, parse_arguments
from clusterd.config.loader import ConfigError, load
from clusterd.config.model import Config
from clusterd.config.paths import control_path
from clusterd.linux.early_signals import let_signals_through
from clusterd.log import Level, Logger, open_sink
from clusterd.master.binding import ListenError
from clusterd.master.check import check_application
from clusterd.master.listeners import NAME_AN_ADDRESS, NOTHING_TO_LISTEN_ON, open_listeners
from clusterd.master.master import Master
from clusterd.master.watcher import Watcher, WatchError
from clusterd.systemd.expected import expected_sockets
from clusterd.systemd.notify import Notifier
from clusterd.systemd.sockets import SocketError, passed_sockets

# sysexits.h
EX_FAILURE = 1
EX_TEMPFAIL = 75
EX_CONFIG = 78


def run() -> int:
    """Do what the command line asks for; the exit status."""
    arguments = parse_arguments(sys.argv[1:])
    if arguments.check:
        let_signals_through()
        return _check(arguments)
    log = Logger(open_sink(os.environ))
    try:
        config = _read(arguments)
    except ConfigError as error:
        return _refuse([str(problem) for problem in error.problems], EX_CONFIG, log)
    log.set_level(Level[config.log.level.name])
    return _serve(config, arguments, log)


def _read(arguments: Arguments) -> Config:
    defaults = {}
    if os.environ.get("CLUSTERD_INSTANCE") and (directory := os.environ.get("RUNTIME_DIRECTORY")):
        # The port of the default is taken by the service whose instance this is not.
        defaults["metrics"] = f"unix:{directory}/metrics.sock"
        # So is this one, and the instance has its socket unit.
        defaults["listen"] = ""
    return load(arguments.config_path, arguments.overrides, defaults)


def _check(arguments: Arguments) -> int:
    """Say to a person, not to the log, what is wrong."""
    try:
        config = _read(arguments)
    except ConfigError as error:
        print("\n".join(str(problem) for problem in error.problems), file=sys.stderr)
        return EX_CONFIG
    failure = check_application(config)
    if failure is not None:
        print(failure.reason, file=sys.stderr)
        return EX_CONFIG if failure.is_configuration else EX_FAILURE
    if config.run is None and not (config.listen or config.tls.listen):
        # Whether systemd passes any is not to be seen from here.
        print(f"warning: {NOTHING_TO_LISTEN_ON}, unless systemd passes sockets; {NAME_AN_ADDRESS}", file=sys.stderr)
    imports = "application imports" if config.hooks is None else "application and its hooks import"
    print(f"the configuration is good and the {imports}")
    return 0


def _watched(arguments: Arguments) -> Sequence[Path]:
    """The configuration with what was named: it would come along with the next change, and nobody would know."""
    return (*arguments.watch, *([arguments.config_path] if arguments.config_path is not None else []))


def _refuse(problems: Sequence[str], status: int, log: Logger) -> int:
    """Say why there will be no service, in the log and in `systemctl status`."""
    for problem in problems:
        log.error(problem)
    log.flush()
    notifier = Notifier(os.environ.get("NOTIFY_SOCKET"))
    notifier.status(f"Failed: {problems[0]}")
    notifier.close()
    return status


def _serve(config: Config, arguments: Arguments, log: Logger) -> int:
    with ExitStack() as opened:
        try:
            path = Path(control_path(config.control, os.environ, os.getuid()))
            listeners = opened.enter_context(
                closing(open_listeners(config, passed_sockets(), path, expected_sockets(os.environ)))
            )
            # Before the application is imported: what changes while it is, is a change.
            watcher = opened.enter_context(closing(Watcher(_watched(arguments), log))) if arguments.watch else None
        except (ListenError, SocketError) as error:
            return _refuse(str(error).splitlines(), EX_TEMPFAIL, log)
        except WatchError as error:
            return _refuse([str(error)], EX_CONFIG, log)
        return Master(config, lambda: _read(arguments), listeners, log, watcher=watcher).run()
