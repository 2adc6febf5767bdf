"""A template that is asked for its stacks too early is not killed by the question."""

import os
import signal
import socket
import sys

import pytest

from clusterd.linux.stacks import STACKS_SIGNAL
from clusterd.master.children.spawn import Role, spawn

pytestmark = pytest.mark.engine_independent


def test_the_signal_for_stacks_waits_until_the_template_can_answer() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        pid = spawn(Role.TEMPLATE, sys.executable, theirs, dict(os.environ))
        # At once: no interpreter has come up by now.
        os.kill(pid, STACKS_SIGNAL)
    # With its channel closed it leaves in peace.
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, signal.Signals(os.WTERMSIG(status))
