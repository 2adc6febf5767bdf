"""clusterd: a systemd-integrated production server for Python web applications.

Imports little but what is asked for: templates and workers load this package in the application's own interpreter.
"""

from clusterd.version import __version__ as __version__

# As type checkers know it, without the import of typing: signals are not held back yet when this is read.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from clusterd.cluster.cluster import Cluster as Cluster
else:

    def __getattr__(name: str) -> object:
        """`from clusterd import Cluster`, for a program that is its own master."""
        if name == "Cluster":
            from clusterd.cluster.cluster import Cluster

            return Cluster
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
