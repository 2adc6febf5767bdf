"""The hosts that `--host` names, checked before ssh sees them."""

import argparse
import re

_UNSAFE = re.compile(r"[\s\x00-\x1f\x7f'\"`$\\;&<>|(){}!*?~]")
"""Characters that no host has and that a shell would interpret: ssh_config(5) hands the host to the shell of
ProxyCommand and `Match exec` as %h. OpenSSH refuses most of them itself, from 9.6 on (valid_hostname() in ssh.c)."""


def parse_hosts(text: str) -> list[str]:
    """Return the destinations of a list with commas, each one once. Raises ArgumentTypeError.

    A destination is what ssh(1) takes: a host, user@host, or ssh://user@host:port.
    """
    hosts: dict[str, None] = {}
    for host in text.split(","):
        user, _, name = host.removeprefix("ssh://").rpartition("@")
        if not name:
            raise argparse.ArgumentTypeError(f"{text!r} has an empty name: write web1,web2")
        if unsafe := _UNSAFE.search(host):
            raise argparse.ArgumentTypeError(f"{host!r} is no host: {unsafe[0]!r} cannot be part of it")
        # ssh would take it for an option, such as -oProxyCommand=..., which runs a program on this host.
        if host.startswith("-") or name.startswith("-") or user.startswith("-"):
            raise argparse.ArgumentTypeError(f"{host!r} is no host: neither it nor its user begins with a hyphen")
        hosts[host] = None
    return list(hosts)
