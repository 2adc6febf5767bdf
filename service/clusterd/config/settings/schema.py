"""All settings, each defined once, in the order of the documentation.

Validation, defaults, flags, the JSON Schema and docs/settings.md are generated from this table.
"""

from clusterd.config.settings.application_settings import APPLICATION_SETTINGS
from clusterd.config.settings.process_settings import PROCESS_SETTINGS
from clusterd.config.settings.serving_settings import SERVING_SETTINGS
from clusterd.config.settings.setting import Setting

SETTINGS: tuple[Setting, ...] = (*APPLICATION_SETTINGS, *PROCESS_SETTINGS, *SERVING_SETTINGS)
BY_KEY = {setting.key: setting for setting in SETTINGS}

SECTIONS = {
    "metrics": "Metrics, probes and an overview, which the master serves itself.",
    "tls": "HTTPS without a proxy in front. clusterd terminates TLS itself. A reload reads certificate and key again.",
    "unix_sockets": "The permissions of the Unix sockets of listen, tls.listen and metrics that clusterd binds itself. "
    "For the sockets of a socket unit, use SocketMode=, SocketUser= and SocketGroup=.",
    "rollout": "How a reload replaces workers: slot by slot. Each successor is ready before its predecessor drains.",
    "rollout.health_check": "A request that a new worker must answer before it is ready. Without this section there is "
    "no such request.",
    "restarts": "How soon a worker that had been ready is restarted, whatever ended it (including a kill for "
    "timeouts.hang): at once, as long as the restarts of all slots together stay below this limit. A worker that fails "
    "before it is ready is instead started again after growing pauses, which are counted for each slot.",
    "timeouts": "Time limits.",
    "limits": "Limits of counts and sizes.",
    "log": "What clusterd logs. Logs go to the journal if clusterd is connected to it, otherwise to standard error.",
    "debug": "Where clusterctl debug lets debuggers attach. It needs debugpy beside the application. Debuggers are not "
    "authenticated: anyone who can connect (on a loopback address, every user of the machine) can do everything that "
    "the worker can.",
}
"""The descriptions of the sections, which are the settings with a common prefix."""


SHORTHANDS = {"metrics": "metrics.address"}
"""The sections that may be one value in their place, which is that of this setting."""


def children(section: str) -> tuple[str, ...]:
    """Return the names directly below a section (empty: the top level), both of settings and of sections."""
    prefix = f"{section}." if section else ""
    below = (setting.key.removeprefix(prefix) for setting in SETTINGS if setting.key.startswith(prefix))
    return tuple(dict.fromkeys(name.partition(".")[0] for name in below))
