"""The template: imports the application, checks that a fork is safe, and forks workers on request."""

import gc
import os
import socket
import ssl
import time
from dataclasses import replace
from typing import NoReturn

from clusterd.app.application import LoadedCode, load_hook, load_in_directory
from clusterd.app.errors import LoadError
from clusterd.app.tls import CREDENTIAL, certificate_end, server_context
from clusterd.config.model import AccessLog, Config, Switch, from_json
from clusterd.http.compilation import outcome, why_interpreted
from clusterd.linux import masters_signals
from clusterd.linux.listening_socket import ListeningSocket
from clusterd.linux.prctl import die_with_parent
from clusterd.linux.stacks import write_stacks_to
from clusterd.linux.title import set_title
from clusterd.linux.wakeups import WAKEUPS, Wakeups
from clusterd.log import Level, Logger, open_sink
from clusterd.log.output import protect_output
from clusterd.metrics.application.instrumentation import Instrumentation
from clusterd.metrics.regions.arena import Arena
from clusterd.metrics.shared.scoreboard import LAYOUT, Scoreboard
from clusterd.process import exit_handlers
from clusterd.process.ending import Ending
from clusterd.process.files import remember_files
from clusterd.process.first_order import first_order
from clusterd.process.fork_hygiene import flush_output, wait_for_child
from clusterd.process.own_log import configure_log
from clusterd.runtime import originals
from clusterd.template.findings import open_descriptors, unforkable_findings
from clusterd.wire.messages import (
    Fork,
    ForkFailed,
    ForkSpare,
    Hello,
    Importing,
    Load,
    Loaded,
    LoadFailed,
    Message,
    ProtocolError,
    SetAccessLog,
    SetLogLevel,
    Unforkable,
    decode,
    encode,
)
from clusterd.wire.packets import close_all, receive, send
from clusterd.worker.boot import boot_worker
from clusterd.worker.boot_record import Boot, ForkContext

LEAVE_SECONDS = 3.0
"""The time for the end of a template. A little later the master kills it (`master/children/table.py`)."""


def main(channel_descriptor: int) -> None:
    """Carry out the master's orders until it closes its end of the channel."""
    # An import may take minutes, and systemd starts the next master only after the last process of this one is gone.
    die_with_parent()
    masters_signals.ignore()
    channel, order, descriptors = first_order(channel_descriptor, Load)
    log = Logger(open_sink(os.environ), Level(order.log_level)).bind(generation=order.generation)
    try:
        fork_context = _load(channel, order, descriptors, log)
    except LoadError as error:
        _say(channel, LoadFailed(error.reason, error.traceback, error.permanent))
        _leave(1, log)
    except BrokenPipeError:  # The master has given up this generation.
        _leave(0, log)
    _fork_on_request(channel, fork_context)


def _load(channel: socket.socket, order: Load, descriptors: tuple[int, ...], log: Logger) -> ForkContext:
    """Prepare to fork. Raises LoadError. Exits if the import cannot be forked and the order says to refuse that."""
    scoreboard, arena, stacks, *shared = descriptors
    wakeups, listeners = shared[:WAKEUPS], shared[WAKEUPS:]
    set_title(f"template gen {order.generation}", f"clusterd-t{order.generation}")
    write_stacks_to(stacks)
    protect_output(os.environ)
    config = from_json(order.config)
    configure_log(log, config.log)
    fork_context = ForkContext(
        generation=order.generation,
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
    if order.preload:
        fork_context = replace(fork_context, loaded=_import(channel, order, config, log))
    # Objects alive now stay alive. The collector must not touch them again, so that their pages stay shared.
    gc.collect()
    remember_files()
    gc.freeze()
    values = None if fork_context.instrumentation is None else fork_context.instrumentation.template_values
    loaded = encode(Loaded(order.generation, time.monotonic() - started))
    send(channel, loaded, () if values is None else (values,))
    return fork_context


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


def _import(channel: socket.socket, order: Load, config: Config, log: Logger) -> LoadedCode:
    before = open_descriptors()
    exit_handlers.record()
    loaded = load_in_directory(config, log)
    # Loaded here too, so that a wrong name fails the load of this generation and not the boot of each worker.
    load_hook(config.worker_start, "worker_start")
    load_hook(config.worker_stop, "worker_stop")
    flush_output()
    findings = unforkable_findings(before)
    if findings and order.refuse_unforkable:
        send(channel, encode(Unforkable(findings)))
        _leave(0, log)
    for finding in findings:
        log.warning("preload is true, but this will not survive the fork: " + finding)
    return loaded


def _fork_on_request(channel: socket.socket, fork_context: ForkContext) -> None:
    """Read orders from the channel and carry them out. A forked spare continues this loop with its own channel."""
    generation = fork_context.generation
    while True:
        packet = receive(channel)
        if packet is None:
            _leave(0, fork_context.log)
        order = decode(packet.data)
        if isinstance(order, Fork | ForkSpare):
            # A spare that receives an order to fork has been promoted to template.
            set_title(f"template gen {generation}", f"clusterd-t{generation}")
        if isinstance(order, Fork):
            child_channel, stacks = packet.descriptors
            if _fork_detached(channel, order.serial):
                channel.close()
                child = _patient(child_channel)
                boot_worker(Boot(fork_context, order.serial, order.slot, order.row, order.environment, child, stacks))
        elif isinstance(order, ForkSpare):
            (child_channel,) = packet.descriptors
            if _fork_detached(channel, order.serial):
                channel.close()
                channel = _patient(child_channel)
                masters_signals.ignore()
                set_title(f"spare gen {generation}", f"clusterd-s{generation}")
                send(channel, encode(Hello(order.serial, LAYOUT)))
                continue
        elif isinstance(order, SetLogLevel):
            fork_context.log.set_level(Level(order.level))
        elif isinstance(order, SetAccessLog):
            fork_context = _with_access_log(fork_context, AccessLog(order.mode))
        else:
            raise ProtocolError(f"unexpected message {order}")
        close_all(packet.descriptors)


def _with_access_log(fork_context: ForkContext, mode: AccessLog) -> ForkContext:
    """Return what future workers start with."""
    config = fork_context.config
    return replace(fork_context, config=replace(config, log=replace(config.log, access=mode)))


def _leave(status: int, log: Logger) -> NoReturn:
    """End this process. What the application's import has registered to run once runs here."""
    Ending(time.monotonic() + LEAVE_SECONDS, log).leave(status)


def _fork_detached(channel: socket.socket, serial: int) -> bool:
    """Fork a process whose parent is the master, the subreaper, and not this process. True in the new process.

    Forks twice, because a subreaper adopts only orphans (prctl(2)): the intermediate process exits at once.
    """
    flush_output()
    try:
        between = originals.fork()
    except OSError as error:
        _say(channel, ForkFailed(serial, str(error)))
        return False
    if between == 0:
        try:
            if originals.fork() == 0:
                return True
        except OSError:
            os._exit(1)
        os._exit(0)
    if wait_for_child(between):
        _say(channel, ForkFailed(serial, "fork was refused: too many processes or not enough memory"))
    return False


def _patient(descriptor: int) -> socket.socket:
    """Return a channel without a timeout, also if the application has called socket.setdefaulttimeout()."""
    channel = originals.socket(fileno=descriptor)
    channel.settimeout(None)
    return channel


def _say(channel: socket.socket, message: Message) -> None:
    send(channel, encode(message))
