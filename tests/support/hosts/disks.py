"""What hosts boot from: layers upon a Debian root, which itself is never written to."""

import subprocess
from pathlib import Path

# In a mount namespace of its own, so that no mount is left behind. $0: lowerdir, $1: upperdir, $2: workdir, $3: where.
# systemd-nspawn ends with 133 when its machine restarts, and leaves it to its caller to start it again. Like the
# shell, it gets SIGTERM when its parent is dead.
_MOUNTED = """
mount -t overlay -o "lowerdir=$0,upperdir=$1,workdir=$2" overlay "$3"
shift 3
status=133
while [ "$status" = 133 ]; do
    status=0
    setpriv --pdeathsig TERM "$@" || status=$?
done
exit "$status"
"""

_PREPARE = """
mount -t proc proc proc
exec chroot . env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive sh -euc '
    [ ! -e /root/package.deb ] || dpkg --force-unsafe-io --install /root/package.deb
    rm -f /root/package.deb
    systemctl enable ssh.service
    ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/id_ed25519
    cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
    cut -d " " -f 1,2 /etc/ssh/ssh_host_*_key.pub | sed "s/^/* /" > /root/.ssh/known_hosts
'
"""


class Disk:
    """A directory of what differs from the layers below, which come from the top one to the bottom."""

    def __init__(self, directory: Path, *below: Path) -> None:
        self._below = ":".join(map(str, below))
        self.layer, self._work, self.mounted = directory / "layer", directory / "work", directory / "mounted"
        for made in (self.layer, self._work, self.mounted):
            made.mkdir(parents=True)

    @property
    def layers(self) -> tuple[Path, ...]:
        """What another disk can be made upon, once this one is written no more."""
        return (self.layer, *map(Path, self._below.split(":")))

    def write(self, path: str, text: str) -> None:
        """Put a file on it, before anything boots from it."""
        target = self.layer / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def command(self, *command: str) -> list[str]:
        """A command for which, and for whose children alone, the disk is mounted at `mounted`."""
        paths = map(str, (self.layer, self._work, self.mounted))
        return ["unshare", "--mount", "--", "sh", "-euc", _MOUNTED, self._below, *paths, *command]


def prepared(directory: Path, root: Path, package: Path | None) -> Disk:
    """What all hosts have below: the package, and a key of this run, with which each may enter each as root."""
    disk = Disk(directory, root)
    ssh = disk.layer / "root/.ssh"
    ssh.mkdir(parents=True, mode=0o700)
    if package is not None:
        (disk.layer / "root/package.deb").write_bytes(package.read_bytes())
    inside = ["sh", "-euc", f'cd "$0"\n{_PREPARE}', str(disk.mounted)]
    done = subprocess.run(disk.command(*inside), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return disk
