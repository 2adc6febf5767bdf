"""What the system ring needs of the machine it runs on."""

import os
import shutil
import subprocess

_PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "debootstrap": "debootstrap",
}


def missing_prerequisite() -> str | None:
    """The first thing that stands in the way of booting Debian here, in one line; None when nothing does."""
    if os.geteuid() != 0:
        return "root (the system ring boots Debian in a container)"
    for program, package in _PROGRAMS.items():
        if shutil.which(program) is None:
            return f"the program {program} (Debian package {package})"
    # Being root in a container is not enough: what nspawn is going to do is tried out.
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--net", "--ipc", "--uts", "--mount-proc", "true"]
    if subprocess.run(namespaces, capture_output=True, check=False).returncode != 0:
        return "permission to create namespaces"
    if "overlay" not in _filesystems():
        return "overlayfs in the kernel"
    return None


def _filesystems() -> set[str]:
    with open("/proc/filesystems", encoding="ascii") as lines:
        return {line.split()[-1] for line in lines}
