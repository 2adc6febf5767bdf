"""The boot of a worker: everything between the fork and the event loop."""

import os
import sys
import traceback
from collections.abc import Callable
from time import monotonic
from typing import NoReturn

from clusterd.app.application import LoadedCode, LoadedJob, load_hook, load_in_directory
from clusterd.app.errors import LoadError, describe, describe_text
from clusterd.config import marks
from clusterd.config.model import Config
from clusterd.http.call import StartupFailed
from clusterd.linux.prctl import allow_tracer, die_with_parent, outlive_parent
from clusterd.linux.stacks import write_stacks_to
from clusterd.linux.title import set_title
from clusterd.log import Logger
from clusterd.log.application_records import describe_process
from clusterd.metrics.shared.scoreboard import LAYOUT
from clusterd.process.abandoned import end_own_processes
from clusterd.process.ending import Ending
from clusterd.process.exit_handlers import forget_what_runs_once
from clusterd.process.fork_hygiene import flush_output, wait_for_adoption
from clusterd.process.own_descriptors import OwnDescriptors
from clusterd.records import dataclass
from clusterd.runtime.hub import begin_after_fork, is_used, note_background, wait_for_threads_of_greenlets
from clusterd.wire.messages import BootFailed, Hello, MasterChanged, Welcome, decode, encode
from clusterd.wire.packets import peer_pid, receive, send
from clusterd.worker import api
from clusterd.worker.boot_record import Boot
from clusterd.worker.job import JobProcess
from clusterd.worker.process import WorkerProcess

SWITCH_SECONDS = 0.001
"""How long a thread keeps the interpreter while others wait for it (sys.setswitchinterval). A request changes threads a
few times, and beside a call that computes it waits so long each time. With Python's 5 ms the 99th percentile of short
requests was 50 ms where it is 13 now, and as many requests are answered."""
_PYTHONS_SWITCH_SECONDS = 0.005

FAILED_STATUS = 1
BOOT_FAILED_STATUS = 3


def boot_worker(boot: Boot) -> NoReturn:
    """Run the worker in this newly forked process, and exit."""
    log = boot.context.log.bind(slot=boot.slot, generation=boot.context.generation, pid=os.getpid())
    master = peer_pid(boot.channel)
    try:
        ended = _live(boot, log)
    except BaseException:  # No exception may unwind into the template's code.
        log.error(f"worker failed\n{traceback.format_exc()}")
        ended = Ended(FAILED_STATUS)
    ending = ended.ending or Ending(monotonic(), log)
    marked = boot.context.marked_master
    ending.leave(ended.status, lambda: end_own_processes(master, marked, log, is_lost=ended.has_lost_master))


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a worker's life: the exit status, and the end that has begun already, if it has."""

    status: int
    ending: Ending | None = None
    has_lost_master: bool = False


def _live(boot: Boot, log: Logger) -> Ended:
    context, config = boot.context, boot.context.config
    set_title(f"worker {boot.slot} gen {context.generation}", f"clusterd-w{boot.slot}")
    begin_after_fork()
    forget_what_runs_once()
    write_stacks_to(boot.stacks)
    os.environ.update(boot.environment)
    os.environ[marks.SLOT] = str(boot.slot)
    os.environ[marks.WORKER_PID] = str(os.getpid())
    os.setpgid(0, 0)  # By this group the master finds what the worker leaves behind.
    api.begin(boot.slot, context.generation)
    describe_process(slot=boot.slot, generation=context.generation)
    master = _greet(boot)
    if master is None:
        return Ended(0)
    if context.instrumentation is not None:
        # Only now is the row its own: a master that has died meanwhile may have left it to another worker.
        context.instrumentation.enter(boot.row)
    if context.outlives_master:
        allow_tracer(master)  # It need be no ancestor of this process.
    else:
        # The boot may take minutes, and systemd starts the next master only after the last process of this one is gone.
        wait_for_adoption(master)
        die_with_parent()
    own = OwnDescriptors(boot.own_descriptors)
    try:
        loaded = context.loaded or _load_here(config, log)
        _seed_anew()
        _switch_threads_sooner()
        # Both are loaded now, so that a wrong name is found while the predecessor still serves.
        worker_stop = load_hook(config.worker_stop, "worker_stop")
        worker_start = load_hook(config.worker_start, "worker_start")
        _run_hook(worker_start, f"worker_start: {config.worker_start}")
        if lost := own.lost():
            raise LoadError(lost, "", permanent=False)
        if is_used():
            note_background()
            wait_for_threads_of_greenlets()
        worker = _make_process(loaded, boot, log)
    except LoadError as error:
        return _failed(boot, error, log)
    except StartupFailed as error:
        return _failed(boot, describe_text(str(error), "lifespan.startup"), log)
    outlive_parent()  # From now on the worker notices the end of its channel, and drains.
    status = worker.run()
    ending = Ending(worker.leave_by, log)
    worker.stop_application(ending)
    if worker_stop is not None:
        what = f"worker_stop: {config.worker_stop}"
        try:
            ending.call(worker_stop, what)
        except BaseException as error:
            failed = describe(error, what)
            log.error(f"{failed.reason}\n{failed.traceback}")
            status = FAILED_STATUS
    worker.close(ending)
    return Ended(status, ending, worker.has_lost_master)


def _failed(boot: Boot, error: LoadError, log: Logger) -> Ended:
    try:
        send(boot.channel, encode(BootFailed(error.reason, error.traceback, error.permanent)))
    except OSError:  # The channel is one of the descriptors that the application has closed, or the master is gone.
        log.error(f"the worker could not start: {error.reason}")
    return Ended(BOOT_FAILED_STATUS)


def _make_process(loaded: LoadedCode, boot: Boot, log: Logger) -> WorkerProcess | JobProcess:
    """Return a worker for the application, or for the job that `run` names. Raises StartupFailed."""
    if isinstance(loaded, LoadedJob):
        return JobProcess(loaded, boot, log)
    worker = WorkerProcess(loaded, boot, log)
    worker.start_application()
    return worker


def _greet(boot: Boot) -> int | None:
    """Send Hello and wait until the master has recorded this pid.

    Returns the master's pid. None if it has given up this worker.
    """
    master, hello = peer_pid(boot.channel), encode(Hello(boot.serial, LAYOUT))
    try:
        send(boot.channel, hello)
        while (packet := receive(boot.channel)) is not None:
            order = decode(packet.data)
            if not isinstance(order, MasterChanged):
                return master if isinstance(order, Welcome) else None
            master = order.pid
            send(boot.channel, hello)  # Its predecessor may have read the first one, and had no time to write it down.
    except OSError:
        pass
    return None


def _seed_anew() -> None:
    """Give each worker random numbers of its own. Python does it for `random` after a fork, and NumPy does not."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def _switch_threads_sooner() -> None:
    """Have threads hand over the interpreter after SWITCH_SECONDS, unless the application has chosen another time."""
    if sys.getswitchinterval() == _PYTHONS_SWITCH_SECONDS:
        sys.setswitchinterval(SWITCH_SECONDS)


def _load_here(config: Config, log: Logger) -> LoadedCode:
    loaded = load_in_directory(config, log)
    flush_output()
    return loaded


def _run_hook(hook: Callable[[], object] | None, what: str) -> None:
    if hook is None:
        return
    try:
        hook()
    except BaseException as error:
        raise describe(error, what) from error
