"""The program of clusterd-instances.service: it relays metrics until SIGTERM or SIGINT."""

import asyncio
import os
import signal
import sys

from clusterd.instances.relay import Relay
from clusterd.log import Logger, open_sink
from clusterd.systemd.notify import Notifier
from clusterd.systemd.sockets import SocketError, passed_sockets

# sysexits.h
EX_TEMPFAIL = 75


def main() -> int:
    """Serve on the sockets that systemd passes. Returns the exit status: 0, or 75 if there is no usable socket."""
    log = Logger(open_sink(os.environ))
    try:
        passed = passed_sockets()
    except SocketError as error:
        return _refuse(log, str(error))
    if not passed:
        return _refuse(log, "systemd passes no socket: start clusterd-instances.socket")
    return asyncio.run(_serve(Relay([each.socket for each in passed], log)))


async def _serve(relay: Relay) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    notifier = Notifier(os.environ.get("NOTIFY_SOCKET"))
    relay.start()
    notifier.ready("Relays the metrics of the instances")
    await stop.wait()
    notifier.stopping("Stopping")
    await relay.close()
    notifier.close()
    return 0


def _refuse(log: Logger, problem: str) -> int:
    log.error(problem)
    log.flush()
    return EX_TEMPFAIL


if __name__ == "__main__":
    sys.exit(main())
