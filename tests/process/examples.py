"""Where the examples are, and how they are run: by their own configuration, on ports of the test's own."""

from collections.abc import Callable
from pathlib import Path

from tests.process.service import Service

EXAMPLES = Path(__file__).parents[2] / "examples"

Example = Callable[..., Service]


def as_an_example(service: Service, path: str, *flags: str) -> Service:
    """Have a service run the configuration of an example: only where it listens is the test's."""
    service.config = EXAMPLES / path
    where = ("--listen", f"127.0.0.1:{service.port}", "--metrics", f"127.0.0.1:{service.metrics_port}")
    service.flags = (*where, "--control", str(service.control), *flags)
    return service


def pid_in(text: str) -> int:
    """The pid that an answer names."""
    return int(text.partition("pid ")[2].split()[0].rstrip(","))
