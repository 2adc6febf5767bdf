"""The flags of `clusterd`, one for each setting, made from the schema."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clusterd import __version__
from clusterd.config.schema import SETTINGS, Shape

DEFAULT_CONFIG = Path("/etc/clusterd/clusterd.yaml")


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the command line asks for."""

    config_path: Path | None
    """None: an application was named and no file."""
    check: bool
    overrides: Mapping[str, tuple[str, ...]]
    """The texts given for each setting, by key."""


def parse_arguments(arguments: Sequence[str]) -> Arguments:
    """Read the command line; --help, --version and mistakes end the process with argparse's messages."""
    options = _parser().parse_args(arguments)
    given = vars(options)
    overrides = {setting.key: tuple(given[setting.key]) for setting in SETTINGS if given.get(setting.key) is not None}
    config = options.config
    if config is None and "app" not in overrides:
        config = DEFAULT_CONFIG
    return Arguments(config, options.check, overrides)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="clusterd",
        description="Serve a Python web application with forked workers.",
        epilog=f"Without APP and --config the configuration is {DEFAULT_CONFIG}. A flag wins over the file.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"clusterd {__version__}")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the configuration file")
    parser.add_argument(
        "--check",
        action="store_true",
        help="read the configuration, import the application, and say what is wrong: "
        "exit status 0, 78 (configuration) or 1 (application)",
    )
    settings = parser.add_argument_group("settings")
    for setting in SETTINGS:
        text = setting.help.replace("%", "%%")
        if setting.key == "app":
            parser.add_argument("app", nargs="?", action=_One, metavar="APP", help=text)
        elif setting.shape is Shape.ONE:
            settings.add_argument(setting.flag, dest=setting.key, action=_One, metavar=setting.metavar, help=text)
        else:
            more = f"{text} May be given several times."
            settings.add_argument(setting.flag, dest=setting.key, action="append", metavar=setting.metavar, help=more)
    return parser


class _One(argparse.Action):
    """Stores a text as the only one, so that every setting has a list of texts; absent ones stay None."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, None if values is None else [values])
