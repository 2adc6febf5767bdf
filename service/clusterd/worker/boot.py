"""From the fork to a worker that can serve: what happens before the event loop runs."""

import os
import socket
import ssl
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from clusterd.app.application import LoadedCode, LoadedJob, LoadError, describe, enter_directory, load, load_hook
from clusterd.config.model import Config
from clusterd.http.call import StartupFailed
from clusterd.linux.listening_socket import ListeningSocket
from clusterd.linux.prctl import die_with_parent, outlive_parent
from clusterd.linux.stacks import write_stacks_to
from clusterd.linux.title import set_title
from clusterd.linux.wakeups import Wakeups
from clusterd.log import Logger
from clusterd.metrics.scoreboard import LAYOUT_VERSION, Scoreboard
from clusterd.process.fork_hygiene import flush_output, forget_template_exit_handlers, leave, wait_for_adoption
from clusterd.wire.messages import BootFailed, Hello, Welcome, decode, encode
from clusterd.wire.packets import peer_pid, receive, send
from clusterd.worker import api
from clusterd.worker.job import JobProcess
from clusterd.worker.process import WorkerProcess

BOOT_FAILED_STATUS = 3
STARTUP_MESSAGE_CHARACTERS = 6000


@dataclass(frozen=True)
class Boot:
    """What a worker is given by its template."""

    serial: int
    slot: int
    generation: int
    row: int
    environment: Mapping[str, str]
    """Of its slot, beside what all workers have."""
    config: Config
    loaded: LoadedCode | None
    """None where the application could not be preloaded: the worker imports it itself."""
    scoreboard: Scoreboard
    listeners: Sequence[ListeningSocket]
    tls: ssl.SSLContext | None
    wakeups: Wakeups
    channel: socket.socket
    stacks: int
    log: Logger


def boot_worker(boot: Boot) -> NoReturn:
    """Run the worker in this freshly forked process, to its end."""
    log = boot.log.bind(slot=boot.slot, generation=boot.generation, pid=os.getpid())
    status = 1
    try:
        status = _live(boot, log)
    except BaseException:  # whatever it is, this process must not return into the template
        log.error(f"worker failed\n{traceback.format_exc()}")
    log.flush()
    leave(status)
    raise AssertionError("unreachable")


def _live(boot: Boot, log: Logger) -> int:
    set_title(f"clusterd: worker {boot.slot} gen {boot.generation}", f"clusterd-w{boot.slot}")
    forget_template_exit_handlers()
    write_stacks_to(boot.stacks)
    os.environ.update(boot.environment)
    os.environ["CLUSTERD_WORKER"] = str(boot.slot)
    os.environ["CLUSTERD_GENERATION"] = str(boot.generation)
    api.begin(boot.slot, boot.generation)
    if not _greet(boot):
        return 0
    # To get ready may take minutes, and systemd starts the next master only when the last process of this one is gone.
    wait_for_adoption(peer_pid(boot.channel))
    die_with_parent()
    try:
        loaded = boot.loaded or _load_here(boot)
        # Both now: a name that leads nowhere is to be found out while the predecessor serves.
        worker_stop = load_hook(boot.config.worker_stop, "worker_stop")
        worker_start = load_hook(boot.config.worker_start, "worker_start")
        _run_hook(worker_start, f"worker_start: {boot.config.worker_start}")
        worker = _make_process(loaded, boot, log)
    except LoadError as error:
        send(boot.channel, encode(BootFailed(error.reason, error.traceback, error.permanent)))
        return BOOT_FAILED_STATUS
    except StartupFailed as error:
        failed = describe(error, "lifespan.startup")
        message = str(error)[-STARTUP_MESSAGE_CHARACTERS:]
        send(boot.channel, encode(BootFailed(failed.reason, message, permanent=False)))
        return BOOT_FAILED_STATUS
    outlive_parent()  # from now on it notices the end of its channel, and answers what it has
    status = worker.run()
    try:
        _run_hook(worker_stop, f"worker_stop: {boot.config.worker_stop}")
    finally:
        worker.close()
    return status


def _make_process(loaded: LoadedCode, boot: Boot, log: Logger) -> WorkerProcess | JobProcess:
    """What this process does with its loop. Raises StartupFailed."""
    if isinstance(loaded, LoadedJob):
        return JobProcess(loaded, boot.config, boot.scoreboard.row(boot.row), boot.channel, log)
    worker = WorkerProcess(
        loaded,
        boot.config,
        boot.scoreboard,
        boot.row,
        boot.listeners,
        boot.tls,
        boot.wakeups,
        boot.channel,
        log,
    )
    worker.start_application()
    return worker


def _greet(boot: Boot) -> bool:
    """Say hello and wait until the master has entered this pid; False when the master gave the worker up."""
    try:
        send(boot.channel, encode(Hello(boot.serial, LAYOUT_VERSION)))
        packet = receive(boot.channel)
    except OSError:
        return False
    return packet is not None and isinstance(decode(packet.data), Welcome)


def _load_here(boot: Boot) -> LoadedCode:
    enter_directory(boot.config.directory)
    loaded = load(boot.config)
    flush_output()
    return loaded


def _run_hook(hook: Callable[[], object] | None, what: str) -> None:
    if hook is None:
        return
    try:
        hook()
    except BaseException as error:
        raise describe(error, what) from error
