"""What the hosts of the laboratory serve."""

from tests.support.machines.deployment import GOOD

JOURNAL, SLOW = "/var/lib/clusterd/journal", "/srv/slow"

_SERVES = f"""\
    if environ["PATH_INFO"] != "/":
        with open({JOURNAL!r}, "a") as journal:
            journal.write(environ["PATH_INFO"] + "\\n")
    time.sleep(0.15 if os.path.exists({SLOW!r}) else 0.03)
"""

APPLICATION = GOOD.replace("    time.sleep(0.005)\n", _SERVES)
"""The good one, which writes down each path that it is asked for, and takes five times as long where a file says so."""
