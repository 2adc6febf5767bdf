"""Every setting, once, in the order of the documentation.

Validation, defaults, flags, the JSON Schema and docs/settings.md are all made from this table.
"""

from clusterd.config.settings.application_settings import APPLICATION_SETTINGS
from clusterd.config.settings.process_settings import PROCESS_SETTINGS
from clusterd.config.settings.serving_settings import SERVING_SETTINGS
from clusterd.config.settings.setting import Setting

SETTINGS: tuple[Setting, ...] = (*APPLICATION_SETTINGS, *PROCESS_SETTINGS, *SERVING_SETTINGS)
BY_KEY = {setting.key: setting for setting in SETTINGS}

SECTIONS = {
    "tls": "HTTPS, without a proxy in front. Connections end here; a reload reads certificate and key anew.",
    "unix_sockets": "Who may connect to the Unix sockets of listen, tls.listen and metrics that clusterd binds itself; "
    "those of a socket unit have SocketMode=, SocketUser= and SocketGroup=.",
    "rollout": "How a reload replaces workers: slot by slot, each successor ready before its predecessor drains.",
    "rollout.health_check": "A request that a new worker must answer before it is ready; none unless it is given.",
    "restarts": "How soon a worker that had been ready is restarted, whatever it died of (a kill for timeouts.hang "
    "too): at once, as long as the restarts of all slots together stay below this limit. A worker that fails before it "
    "is ready is tried again after growing pauses instead, counted for each slot.",
    "timeouts": "How long things may take.",
    "limits": "How much there may be.",
    "log": "What is logged: to the journal when connected to it, otherwise to standard error.",
    "debug": "Where clusterctl debug lets debuggers attach, with debugpy beside the application. They are not asked "
    "who they are: whoever can connect, on a loopback address every user of the machine, can do what the worker can.",
}
"""What the settings with a common prefix are about."""


def children(section: str) -> tuple[str, ...]:
    """The names directly below a section (empty for the top level): of settings and of sections."""
    prefix = f"{section}." if section else ""
    below = (setting.key.removeprefix(prefix) for setting in SETTINGS if setting.key.startswith(prefix))
    return tuple(dict.fromkeys(name.partition(".")[0] for name in below))
