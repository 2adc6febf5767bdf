"""`clusterd`: serve an application, or check a configuration."""

import os
import sys
from pathlib import Path

from clusterd.cli.arguments import Arguments, parse_arguments
from clusterd.config.loader import ConfigError, load
from clusterd.config.model import Config
from clusterd.config.paths import control_path
from clusterd.log import Level, Logger, open_sink
from clusterd.master.check import check_application
from clusterd.master.listeners import ListenError, open_listeners
from clusterd.master.master import Master
from clusterd.systemd.sockets import SocketError, passed_sockets

# sysexits.h
EX_FAILURE = 1
EX_TEMPFAIL = 75
EX_CONFIG = 78


def main() -> int:
    """The entry point; returns the exit status."""
    arguments = parse_arguments(sys.argv[1:])
    log = Logger(open_sink(os.environ))
    try:
        config = _read(arguments)
    except ConfigError as error:
        for problem in error.problems:
            log.error(str(problem))
        log.flush()
        return EX_CONFIG
    log.set_level(Level[config.log.level.name])
    return _check(config, log) if arguments.check else _serve(config, arguments, log)


def _read(arguments: Arguments) -> Config:
    return load(arguments.config_path, arguments.overrides)


def _check(config: Config, log: Logger) -> int:
    failure = check_application(config)
    if failure is None:
        print("the configuration is good and the application imports")
        return 0
    log.error(failure)
    log.flush()
    return EX_FAILURE


def _serve(config: Config, arguments: Arguments, log: Logger) -> int:
    try:
        path = Path(control_path(config.control, os.environ, os.getuid()))
        listeners = open_listeners(config, passed_sockets(), path)
    except (ListenError, SocketError) as error:
        for line in str(error).splitlines():
            log.error(line)
        log.flush()
        return EX_TEMPFAIL
    try:
        return Master(config, lambda: _read(arguments), listeners, log).run()
    finally:
        listeners.close()


if __name__ == "__main__":
    sys.exit(main())
