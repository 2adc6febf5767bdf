"""The template: imports the application, checks that a fork is safe, and forks workers on request."""

import gc
import os
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import replace

from clusterd.app.application import LoadedCode, load_hook, load_in_directory
from clusterd.app.errors import LoadError
from clusterd.app.tls import CREDENTIAL, certificate_end, server_context
from clusterd.config import marks
from clusterd.config.model import Config, Switch, from_json
from clusterd.http.compilation import outcome, why_interpreted
from clusterd.linux import masters_signals
from clusterd.linux.listening_socket import ListeningSocket
from clusterd.linux.prctl import die_with_parent, outlive_parent
from clusterd.linux.stacks import write_stacks_to
from clusterd.linux.title import set_title
from clusterd.linux.wakeups import WAKEUPS, Wakeups
from clusterd.log import Level, Logger, open_sink
from clusterd.log.output import protect_output
from clusterd.metrics.application.instrumentation import Instrumentation
from clusterd.metrics.regions.arena import Arena
from clusterd.metrics.shared.scoreboard import Scoreboard
from clusterd.process import exit_handlers
from clusterd.process.files import remember_files
from clusterd.process.first_order import first_order
from clusterd.process.fork_hygiene import flush_output, wait_for_child
from clusterd.process.own_descriptors import OwnDescriptors
from clusterd.process.own_log import configure_log
from clusterd.process.refused import why_refused
from clusterd.template.findings import Findings, open_descriptors, try_fork
from clusterd.template.fork_server import ForkServer, leave
from clusterd.template.forking import ForkRefused, fork_copy
from clusterd.wire.messages import (
    Importing,
    Load,
    Loaded,
    LoadFailed,
    Message,
    StandsAside,
    Unforkable,
    encode,
)
from clusterd.wire.packets import Packet, send
from clusterd.worker.boot_record import ForkContext


def main(channel_descriptor: int) -> None:
    """Carry out the master's orders until it closes its end of the channel."""
    # An import may take minutes, and systemd starts the next master only after the last process of this one is gone.
    die_with_parent()
    masters_signals.ignore()
    channel, order, descriptors = first_order(channel_descriptor, Load)
    if order.outlives_master:
        outlive_parent()
    log = Logger(open_sink(os.environ), Level(order.log_level)).bind(generation=order.generation)
    try:
        fork_context, loaded, may_stand_aside = _load(channel, order, descriptors, log)
    except LoadError as error:
        try:
            _say(channel, LoadFailed(error.reason, error.traceback, error.permanent))
        except OSError:  # The channel is one of the descriptors that the import has closed.
            log.error(f"the application could not be loaded: {error.reason}")
        leave(1, log)
    except BrokenPipeError:  # The master has given up this generation.
        leave(0, log)
    is_copy = may_stand_aside and _stand_aside(channel, order.generation, log)
    ForkServer(channel, fork_context, loaded, is_copy=is_copy).run()


def _load(
    channel: socket.socket, order: Load, descriptors: tuple[int, ...], log: Logger
) -> tuple[ForkContext, Packet, bool]:
    """Prepare to fork, and tell the master. Returns also what was told, and whether a copy without threads may fork.

    Raises LoadError.

    Exits if the import cannot be forked and the order says to refuse that.
    """
    scoreboard, arena, stacks, *shared = descriptors
    wakeups, listeners = shared[:WAKEUPS], shared[WAKEUPS:]
    set_title(f"template gen {order.generation}", f"clusterd-t{order.generation}")
    write_stacks_to(stacks)
    protect_output(os.environ)
    config = from_json(order.config)
    configure_log(log, config.log)
    fork_context = ForkContext(
        generation=order.generation,
        marked_master=int(os.environ[marks.MASTER_PID]),
        outlives_master=order.outlives_master,
        config=config,
        loaded=None,
        scoreboard=Scoreboard.attach(scoreboard),
        listeners=tuple(map(ListeningSocket, listeners, order.listeners)),
        tls=_tls_context(config, order, log),
        wakeups=Wakeups(wakeups),
        instrumentation=_instrumentation(config, Arena.attach(arena), log),
        log=log,
    )
    if config.run is None:
        why = why_interpreted()
        log.log(Level.NOTICE if why else Level.INFO, f"the engine runs {outcome(why)}")
    send(channel, encode(Importing(certificate_end(config.tls, os.environ) or 0.0)))
    started = time.monotonic()
    before = open_descriptors()
    if order.preload:
        own = OwnDescriptors((channel.fileno(), *descriptors))
        fork_context = replace(fork_context, loaded=_import(config, log))
        if lost := own.lost():
            raise LoadError(lost, "", permanent=False)
    findings = _try_fork(before)
    if findings.broken and order.refuse_unforkable:
        send(channel, encode(Unforkable(findings.broken)))
        leave(0, log)
    cause = "preload is true" if order.preload else "the interpreter has started it (sitecustomize, PYTHONPATH)"
    for finding in findings.broken:
        log.warning(f"{cause}, but this will not survive the fork: {finding}")
    # Objects alive now stay alive. The collector must not touch them again, so that their pages stay shared.
    gc.collect()
    remember_files()
    gc.freeze()
    values = None if fork_context.instrumentation is None else fork_context.instrumentation.template_values
    packet = encode(Loaded(order.generation, time.monotonic() - started))
    loaded = Packet(packet, () if values is None else (values,), None)
    send(channel, loaded.data, loaded.descriptors)
    return fork_context, loaded, findings.may_stand_aside


def _try_fork(before: frozenset[int]) -> Findings:
    try:
        return try_fork(before)
    except ForkRefused as refused:
        raise LoadError(f"no process can be forked: {refused}", "", permanent=False) from refused
    except OSError as error:
        raise LoadError(f"no process can be forked: {why_refused(error.errno or 0)}", "", permanent=False) from error


def _stand_aside(channel: socket.socket, generation: int, log: Logger) -> bool:
    """Have a copy of this process without its threads fork the workers. True in the copy.

    This process keeps the threads until the copy has ended, and then ends as the one that has imported the application.
    """
    try:
        copy = fork_copy()
    except ForkRefused as refused:
        log.warning(f"workers are forked from a process with threads: {refused}")
        return False
    if copy == 0:
        masters_signals.ignore()
        return True
    set_title(f"import gen {generation}", f"clusterd-i{generation}")
    with suppress(BrokenPipeError):  # The master has given up this generation, as the copy sees too.
        _say(channel, StandsAside(copy))
    channel.close()
    return leave(1 if wait_for_child(copy) else 0, log)


def _instrumentation(config: Config, arena: Arena, log: Logger) -> Instrumentation | None:
    metrics = config.metrics
    return Instrumentation(arena, metrics.series, log) if metrics.application is Switch.ON else None


def _tls_context(config: Config, order: Load, log: Logger) -> ssl.SSLContext | None:
    """The TLS context; also without an HTTPS socket if a certificate is configured, so that a bad one is reported."""
    if "https" not in order.listeners and config.tls.certificate is None:
        return None
    context = server_context(config.tls, os.environ)
    if order.generation > 1 and any(
        path and path.startswith(CREDENTIAL) for path in (config.tls.certificate, config.tls.key)
    ):
        log.notice("tls: a reload does not renew systemd's credentials; a restart of the unit does")
    return context


def _import(config: Config, log: Logger) -> LoadedCode:
    exit_handlers.record()
    loaded = load_in_directory(config, log)
    # Loaded here too, so that a wrong name fails the load of this generation and not the boot of each worker.
    load_hook(config.worker_start, "worker_start")
    load_hook(config.worker_stop, "worker_stop")
    flush_output()
    return loaded


def _say(channel: socket.socket, message: Message) -> None:
    send(channel, encode(message))
