"""Writes docs/man/clusterd.yaml.5 from the definitions of the settings. Run by `make docs`."""

import re
import sys
from pathlib import Path

from clusterd.config.settings.schema import SECTIONS, SETTINGS
from clusterd.config.settings.setting import Setting
from clusterd.version import __version__

MANUAL = Path(__file__).parents[1] / "docs/man/clusterd.yaml.5"

_HEAD = f"""\
.\\" Made by packaging/settings_manual.py from the definitions of the settings: change those.
.TH CLUSTERD.YAML 5 2026-11-23 "clusterd {__version__}" "File Formats"
.SH NAME
clusterd.yaml \\- configuration of clusterd
.SH DESCRIPTION
.BR clusterd (8)
reads
.IR /etc/clusterd/clusterd.yaml ,
an instance
.BI clusterd@ NAME .service
.IR /etc/clusterd/NAME.yaml .
Only
.B app
or
.B run
has to be set.
Durations are written 500ms, 5s, 2m, 1h; sizes 512, 64K, 16M, 1G. Paths are relative to the file.
The file is YAML 1.2: of all words, only true and false are booleans.
.PP
A file with a mistake is refused whole, with all its mistakes, each with its line and column;
.B clusterd \\-\\-check
tells without starting anything. Below, a name with a dot is a setting within a section:
.B timeouts.drain
is the setting
.B drain
of the section
.BR timeouts .
.SH SETTINGS
"""
_TAIL = """\
.SH EXAMPLE
.nf
app: shop.wsgi:application
directory: /srv/shop/current
python: /srv/shop/venv/bin/python
workers: auto
threads: 8
rollout:
  health_check: {path: /health}
timeouts: {drain: 60s}
.fi
.SH SEE ALSO
.BR clusterd (8),
.BR clusterctl (1)
.PP
.I /usr/share/doc/clusterd/docs/settings.md
has the same as a page with links,
.I /usr/share/doc/clusterd/docs/deploying.md
how to deploy and where an application may write.
"""


def _escaped(text: str) -> str:
    # Where the package has the documentation.
    text = re.sub(r"\bdocs/(\S+\.md)", r"/usr/share/doc/clusterd/docs/\1", text)
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    # A line that begins with a dot or a quote would be an instruction to the formatter.
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped


def _entry(setting: Setting) -> str:
    required = f"Required, or {setting.instead} is." if setting.instead else "Required."
    default = required if setting.default is None else f"Default: {setting.default or 'empty'}"
    return (
        f".TP\n.B {_escaped(setting.key)}\n{_escaped(setting.help)}\n.br\n"
        f"{_escaped(f'Value: {setting.kind.allowed}. {default}')}\n"
        f"{_escaped(f'Applies: {setting.applies}.')}\n"
    )


def manual() -> str:
    """The text of the manual page."""
    parts = [_HEAD]
    section = ""
    for setting in SETTINGS:
        above = setting.key.rpartition(".")[0]
        if above != section:
            parts.append(f".SS {_escaped(above)}\n{_escaped(SECTIONS[above])}\n")
            section = above
        parts.append(_entry(setting))
    return "".join([*parts, _TAIL])


if __name__ == "__main__":
    MANUAL.write_text(manual(), encoding="utf-8")
    sys.stdout.write(f"{MANUAL}\n")
