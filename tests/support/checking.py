"""`clusterd --check` of a service."""

import os
import subprocess
import sys

from tests.support.service import PATIENCE_SECONDS, Service


def check(service: Service, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Check the configuration and the application of `service`, which may run."""
    return subprocess.run(
        [sys.executable, "-m", "clusterd.cli.clusterd", "--check", "--config", str(service.config)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        cwd=service.directory,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **service.environment, **environment},
    )
