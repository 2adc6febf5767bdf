"""Debian roots to boot, built once and cached."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

MIRROR = os.environ.get("CLUSTERD_DEBIAN_MIRROR", "http://deb.debian.org/debian")

# A bootable system and the dependencies of the package, so that installing it later needs no network; the proxies; and
# what deploys over hosts, with what it needs on each (python3-apt, python3-venv). python3-cffi-backend is named because
# ansible-core needs it by a name that it only provides, which debootstrap does not look for.
PACKAGES = (
    "ansible-core",
    "dbus",
    "haproxy",
    "iproute2",
    "nginx-light",
    "openssh-server",
    "python3",
    "python3-apt",
    "python3-cffi-backend",
    "python3-rich",
    "python3-systemd",
    "python3-uvloop",
    "python3-venv",
    "python3-yaml",
    "systemd",
    "systemd-sysv",
)


# What builds the package: the Build-Depends of debian/control.
BUILD_PACKAGES = ("build-essential", "debhelper", "fakeroot", "python3-dev", "python3-venv")


class RootUnavailableError(Exception):
    """No root could be built: the mirror is out of reach, or debootstrap failed."""


def cached_root(suite: str, packages: Sequence[str] = PACKAGES) -> Path:
    """A directory with a minimal Debian of that suite, never written to: it is used under an overlay.

    Raises RootUnavailableError with the end of debootstrap's log.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "clusterd" / "roots"
    cache.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256("\n".join((suite, *packages)).encode()).hexdigest()[:12]
    root = cache / f"{suite}-{key}"
    # Two test runs at once build it once: the lock is the kernel's, so a killed run leaves none behind.
    with (cache / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            _build(suite, root, packages)
    return root


def _build(suite: str, root: Path, packages: Sequence[str]) -> None:
    building = root.with_name(f"{suite}.building")
    if building.exists():
        shutil.rmtree(building)
    kind = ("--variant=minbase", f"--include={','.join(packages)}")
    command = ["debootstrap", *kind, suite, str(building), MIRROR]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        log = (built.stdout + built.stderr)[-600:]
        raise RootUnavailableError(f"debootstrap {suite} from {MIRROR}: {log}")
    shutil.rmtree(building / "var/cache/apt/archives", ignore_errors=True)
    # Tests that need one of them start it. At every boot nginx would take port 80.
    for server in ("haproxy", "nginx", "ssh"):
        (building / f"etc/systemd/system/multi-user.target.wants/{server}.service").unlink(missing_ok=True)
    # An empty machine-id means "new at every boot".
    (building / "etc/hostname").write_text(f"{suite}\n")
    (building / "etc/machine-id").write_text("")
    building.rename(root)
