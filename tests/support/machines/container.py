"""The image of packaging/container/Containerfile, without the programs that build and run images.

Its last stage is carried out on an overlay of a Debian root, and its entry point is PID 1 of namespaces of its own, as
docs/containers.md says that a container should be: with a read-only root, one user without capabilities, and a limit.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.processes import descendants
from tests.support.service import wait_until

CONTAINERFILE = Path(__file__).parents[3] / "packaging/container/Containerfile"
_CONTEXT = CONTAINERFILE.parents[2]

# The packages are in the root already, so that this needs no network; the command is the one of the Containerfile.
_APT_WITHOUT_NETWORK = """\
#!/bin/sh
[ "$1" = update ] || exec /usr/bin/apt-get "$@"
"""
_BUILD = """
    mount --bind /dev "$0/dev"
    mount -t proc proc "$0/proc"
    mount -t tmpfs tmpfs "$0/mnt"
    mkdir "$0/mnt/bin"
    cat > "$0/mnt/bin/apt-get"
    chmod 755 "$0/mnt/bin/apt-get"
    [ -z "$1" ] || { mkdir "$0/build" && mount --bind "$1" "$0/build"; }
    exec chroot "$0" env -i PATH=/mnt/bin:/usr/sbin:/usr/bin:/sbin:/bin sh -ec "$2"
"""
# As a container runtime does: $0 is the root, $1 a directory for /srv, $2 the user and $3 the group.
_RUN = """
    mount --make-rprivate /
    mount --bind "$0" "$0"
    mount -o remount,bind,ro "$0"
    mount -t proc proc "$0/proc"
    mount --rbind /dev "$0/dev"
    mount -t tmpfs -o mode=1777 tmpfs "$0/tmp"
    # As the kubelet makes an emptyDir for an fsGroup.
    mount -t tmpfs -o "mode=2777,gid=$3" tmpfs "$0/run/clusterd"
    mount --bind "$1" "$0/srv"
    mount -o remount,bind,ro "$0/srv"
    # A namespace of control groups begins at the group of this process, as the mounts that are made in it do.
    if grep -q '^[0-9]*:cpu[:,]' /proc/self/cgroup; then
        mount -t tmpfs tmpfs "$0/sys"
        mkdir -p "$0/sys/fs/cgroup/cpu"
        mount -t cgroup -o cpu cgroup "$0/sys/fs/cgroup/cpu"
    else
        mount -t sysfs sysfs "$0/sys"
        mount -t cgroup2 cgroup2 "$0/sys/fs/cgroup"
    fi
    root=$0 user=$2 group=$3
    shift 3
    exec chroot "$root" setpriv --reuid "$user" --regid "$group" --clear-groups --no-new-privs --bounding-set=-all \
        --inh-caps=-all -- "$@"
"""


@dataclass(frozen=True)
class Instruction:
    """One of a Containerfile."""

    name: str
    text: str


def instructions(text: str) -> list[Instruction]:
    """The instructions, with their lines joined and without comments."""
    lines = (line for line in text.splitlines() if line.strip() and not line.startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [Instruction(*line.split(None, 1)) for line in joined.splitlines()]


def last_stage(found: Sequence[Instruction]) -> list[Instruction]:
    """Those after the last FROM."""
    first = max(number for number, each in enumerate(found) if each.name == "FROM")
    return list(found[first + 1 :])


@dataclass
class Image:
    """What the Containerfile has made: a root, and how to run it."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "0"
    group: str = "0"
    entry_point: list[str] = field(default_factory=list)
    stop_signal: str = ""

    def carry_out(self, instruction: Instruction, packages: Path) -> None:
        """Do what an instruction says. `packages` is what the first stage has built."""
        match instruction.name:
            case "RUN":
                flags = [word for word in instruction.text.split() if word.startswith("--mount=")]
                command = instruction.text
                for flag in flags:
                    command = command.replace(flag, "", 1)
                _in(self.root, command, packages if flags else None)
            case "COPY":
                source, target = instruction.text.split()
                (self.root / target.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
                (self.root / target.lstrip("/")).write_bytes((_CONTEXT / source).read_bytes())
            case "ENV":
                self.environment |= dict(word.split("=", 1) for word in shlex.split(instruction.text))
            case "USER":
                self.user, _, self.group = instruction.text.partition(":")
            case "ENTRYPOINT":
                self.entry_point = json.loads(instruction.text)
            case "STOPSIGNAL":
                self.stop_signal = instruction.text
            case "EXPOSE":
                pass
            case name:
                raise NotImplementedError(f"{name} in {CONTAINERFILE}")


def _in(root: Path, command: str, packages: Path | None) -> None:
    namespaces = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
    subprocess.run(
        [*namespaces, "sh", "-euc", _BUILD, str(root), str(packages or ""), command],
        input=_APT_WITHOUT_NETWORK,
        text=True,
        check=True,
    )


@contextmanager
def image_on(root: Path, package: Path, directory: Path) -> Iterator[Image]:
    """The image, made on an overlay of a root that vanishes with it."""
    layer = directory / "layer"
    layer.mkdir()
    # An overlay cannot have another one as its upper layer, which a root in a container is.
    _mount("-t", "tmpfs", "tmpfs", str(layer))
    try:
        for name in ("upper", "work", "root"):
            (layer / name).mkdir()
        options = f"lowerdir={root},upperdir={layer}/upper,workdir={layer}/work"
        _mount("-t", "overlay", "-o", options, "overlay", str(layer / "root"))
        try:
            image = Image(layer / "root")
            for instruction in last_stage(instructions(CONTAINERFILE.read_text())):
                image.carry_out(instruction, package.parent)
            yield image
        finally:
            subprocess.run(["umount", layer / "root"], check=True)
    finally:
        subprocess.run(["umount", layer], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


class Container:
    """A running one. `pid` is that of its PID 1 as seen from here."""

    def __init__(self, image: Image, process: "subprocess.Popen[str]") -> None:
        self._image = image
        self._process = process
        self.output: list[str] = []
        self.errors: list[str] = []
        pipes = ((process.stdout, self.output), (process.stderr, self.errors))
        self._readers = [threading.Thread(target=lines.extend, args=(pipe,)) for pipe, lines in pipes]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """PID 1 of the container."""
        pid: int = wait_until(lambda: next(iter(descendants(self._process.pid)), 0), "the container has a process")
        return pid

    def wait(self) -> int:
        """Its exit status, when all that it has written is read."""
        status = self._process.wait(60)
        for reader in self._readers:
            reader.join(60)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()
        return status

    def execute(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in it as its user, as `docker exec` and `kubectl exec` do."""
        user = ("--setuid", self._image.user, "--setgid", self._image.group)
        namespaces = ("--target", str(self.pid), "--mount", "--pid", "--root", "--wd=/")
        inside = ["nsenter", *namespaces, *user, "env", "-i", *_words(self._image.environment), *command]
        return subprocess.run(inside, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def running(image: Image, served: Path, *arguments: str, group: Path | None = None) -> Iterator[Container]:
    """Run the image's entry point with these arguments, and `served` at /srv. `group` is its control group."""
    namespaces = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork"]
    where = [str(image.root), str(served), image.user, image.group]
    command = ["env", "-i", *_words(image.environment), *image.entry_point, *arguments]
    entered = [] if group is None else ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group)]
    process = subprocess.Popen(
        [*entered, *namespaces, "sh", "-euc", _RUN, *where, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATH": f"/usr/sbin:/sbin:{os.environ['PATH']}"},
    )
    container = Container(image, process)
    try:
        yield container
    finally:
        # The end of PID 1 is, by the kernel, that of all others. unshare's --kill-child would not reach it: a process
        # that changes its user no longer hears of its parent's death (PR_SET_PDEATHSIG of prctl(2)).
        for pid in descendants(process.pid)[:1]:
            os.kill(pid, signal.SIGKILL)
        container.wait()
        print("--- log of the container\n", *container.output, *container.errors)


def _words(environment: Mapping[str, str]) -> list[str]:
    return ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", *(f"{name}={value}" for name, value in environment.items())]
