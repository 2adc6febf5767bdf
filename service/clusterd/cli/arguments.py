"""Parses the command line of `clusterd`. Each setting has a flag, made from the schema."""

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from clusterd.config.foreign import instead_of_flag
from clusterd.config.reading.problems import nearest
from clusterd.config.settings.schema import SETTINGS
from clusterd.config.settings.setting import Setting, Shape
from clusterd.http.compilation import version_line
from clusterd.records import dataclass

DEFAULT_CONFIG = Path("/etc/clusterd/clusterd.yaml")


@dataclass(frozen=True, slots=True)
class Arguments:
    """The contents of the command line."""

    config_path: Path | None
    """None if an application or a function to run was named without a file."""
    check: bool
    can_adopt: bool
    """Say whether this program can go on with the state of a running master, for an upgrade in place."""
    watch: tuple[Path, ...]
    """The paths to watch for changes. Not a setting: a deployed file must not turn on a feature of development."""
    overrides: Mapping[str, tuple[str, ...]]
    """The texts given for each setting's flag, by key."""


def parse_arguments(arguments: Sequence[str]) -> Arguments:
    """Parse the command line. --help, --version and errors end the process with argparse's messages."""
    parser = _parser()
    options = parser.parse_args(parser.in_our_spelling(arguments))
    given = {setting.key: getattr(options, setting.key) for setting in SETTINGS}
    overrides = {
        key: (written,) if isinstance(written, str) else tuple(written)
        for key, written in given.items()
        if written is not None
    }
    config = options.config
    if config is None and not overrides.keys() & {"app", "run"}:
        config = DEFAULT_CONFIG
    return Arguments(config, options.check, options.can_adopt, tuple(options.watch), overrides)


class _Parser(argparse.ArgumentParser):
    """Reports errors in a line or two. argparse's usage of all flags would push the error off the screen."""

    def in_our_spelling(self, arguments: Sequence[str]) -> list[str]:
        """Return the arguments with underscores in the names of flags that are written with hyphens."""
        flags = {flag for action in self._actions for flag in action.option_strings}
        return [_in_our_spelling(each, flags) for each in arguments]

    def error(self, message: str) -> NoReturn:
        """Print the error and the nearest flag to an unknown one, and exit with status 2."""
        print(f"clusterd: {message}", file=sys.stderr)
        unknown = message.partition("unrecognized arguments: ")[2].split(" ")[0].partition("=")[0]
        without_value = message.removesuffix(": expected one argument").removeprefix("argument ")
        flags = [flag for action in self._actions for flag in action.option_strings]
        if instead := instead_of_flag(unknown or without_value):
            print(f"clusterd: {instead}", file=sys.stderr)
        elif near := nearest(unknown, flags):
            print(f"clusterd: did you mean {near}?", file=sys.stderr)
        print("clusterd: clusterd --help lists all flags", file=sys.stderr)
        sys.exit(2)


def _in_our_spelling(argument: str, flags: Collection[str]) -> str:
    name, equals, value = argument.partition("=")
    ours = f"--{name.removeprefix('--').replace('-', '_')}"
    return f"{ours}{equals}{value}" if name.startswith("--") and name not in flags and ours in flags else argument


class _Version(argparse.Action):
    """Prints the version on one line. argparse's own action would wrap it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(version_line())
        parser.exit()


def _parser() -> _Parser:
    parser = _Parser(
        prog="clusterd",
        usage="clusterd [APP] [--config FILE] [--check] [--watch PATH]... [--SETTING VALUE]...",
        description="Serve a Python web application with forked workers.",
        epilog=f"Without APP and --config the configuration is {DEFAULT_CONFIG}. Flags override the file.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version, and how the engine runs")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration file")
    parser.add_argument(
        "--check",
        action="store_true",
        help="read the configuration, boot one worker that serves nobody, check its health, and say what is wrong: "
        "exit status 0, 78 (configuration, interpreter, certificate) or 1 (application)",
    )
    parser.add_argument(
        "--can-adopt",
        action="store_true",
        help="for `clusterctl upgrade`: say whether this program can go on in place of the running master that asks",
    )
    parser.add_argument(
        "--watch",
        action="append",
        default=[],
        type=Path,
        metavar="PATH",
        help="for development: reload when this file changes, or anything below this directory, or the configuration. "
        "Not a setting of the file. May be given several times.",
    )
    settings = parser.add_argument_group("settings")
    for setting in SETTINGS:
        text = _help(setting)
        if setting.key == "app":
            parser.add_argument("app", nargs="?", metavar="APP", help=text)
        elif setting.shape is Shape.ONE:
            flags = [setting.flag] if setting.alias is None else [setting.flag, setting.alias]
            settings.add_argument(*flags, dest=setting.key, metavar=setting.metavar, help=text)
        else:
            more = f"{text} May be given several times."
            settings.add_argument(setting.flag, dest=setting.key, action="append", metavar=setting.metavar, help=more)
    return parser


def _help(setting: Setting) -> str:
    # The help text itself says how a default is computed.
    written = setting.default not in (None, "", "null") and setting.shape is not Shape.NAMED
    default = f"; default: {setting.default}" if written else ""
    return f"{setting.help} ({setting.kind.allowed}{default})".replace("%", "%%")
