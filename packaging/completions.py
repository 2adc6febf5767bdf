"""Writes the shell completions of clusterctl from its own command line: `make docs`."""

# ruff: noqa: SLF001 - argparse tells what it knows nowhere else.

import argparse
from pathlib import Path

from clusterd.cli.clusterctl import command_line

DIRECTORY = Path(__file__).with_name("completion")

BASH = """\
# bash completion for clusterctl. Made by `make docs`: change packaging/completions.py instead.
_clusterctl() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} command='' known each
    case $previous in
        --socket | --config) COMPREPLY=($(compgen -f -- "$word")) && return ;;
        --signal) COMPREPLY=($(compgen -W "{signals}" -- "$word")) && return ;;
    esac
    for each in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case " {commands} " in
            *" $each "*) command=$each ;;
        esac
    done
    case $command in
{cases}
        *) known="{options} {commands}" ;;
    esac
    COMPREPLY=($(compgen -W "$known" -- "$word"))
}}
complete -F _clusterctl clusterctl
"""

ZSH = """\
#compdef clusterctl
# zsh completion for clusterctl. Made by `make docs`: change packaging/completions.py instead.
local -a commands
commands=(
{commands}
)
_arguments -C \\
    '--socket[the control socket]:path:_files' \\
    '--config[the configuration that names it]:file:_files' \\
    '--version[show the version]' \\
    '1:command:{{_describe command commands}}' \\
    '*::argument:->argument'
case $state in
    argument)
        case $words[1] in
{cases}
        esac
        ;;
esac
"""

SLOTS = "$(clusterctl workers 2>/dev/null | awk 'NR > 1 { print $1 }')"
WORDS = {
    "slot": SLOTS,
    "slot_or_all": f"all {SLOTS}",
    "slot_or_hooks": f"hooks {SLOTS}",
    "level": "error warning notice info debug",
}
SIGNALS = "TERM QUIT KILL USR1 USR2 HUP STOP CONT"


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Each command with its own parser."""
    (subparsers,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(subparsers.choices)


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    """The flags, in their long form."""
    return [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]


def words_of(parser: argparse.ArgumentParser) -> str:
    """What may stand behind a command."""
    positional = [action.dest for action in parser._actions if not action.option_strings]
    return " ".join([*options_of(parser), *(WORDS[name] for name in positional if name in WORDS)])


def bash(parser: argparse.ArgumentParser) -> str:
    """For bash."""
    commands = commands_of(parser)
    cases = "\n".join(f'        {name}) known="{words_of(each)}" ;;' for name, each in commands.items())
    options = " ".join(options_of(parser))
    return BASH.format(commands=" ".join(commands), options=options, cases=cases, signals=SIGNALS)


def zsh(parser: argparse.ArgumentParser) -> str:
    """For zsh."""
    commands = commands_of(parser)
    listed = "\n".join(f"    '{name}:{each.description}'" for name, each in commands.items())
    cases = "\n".join(f"            {name}) compadd -- {words_of(each)} ;;" for name, each in commands.items())
    return ZSH.format(commands=listed, cases=cases)


def files() -> dict[Path, str]:
    """What is written where."""
    parser = command_line()
    return {DIRECTORY / "clusterctl.bash": bash(parser), DIRECTORY / "_clusterctl": zsh(parser)}


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
