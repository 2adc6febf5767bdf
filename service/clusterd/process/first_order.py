"""The first order of a process that the master starts by exec."""

import os
import socket
from typing import TypeVar

from clusterd.runtime import originals
from clusterd.wire.messages import Message, ProtocolError, decode
from clusterd.wire.packets import receive

_Order = TypeVar("_Order", bound=Message)


def first_order(channel_descriptor: int, kind: type[_Order]) -> tuple[socket.socket, _Order, tuple[int, ...]]:
    """Return the channel, the master's first message and the descriptors passed with it.

    Exits with status 0 if the master has closed the channel. Raises ProtocolError if the message is not of `kind`.
    """
    os.set_inheritable(channel_descriptor, False)
    channel = originals.socket(fileno=channel_descriptor)
    packet = receive(channel)
    if packet is None:
        os._exit(0)
    order = decode(packet.data)
    if not isinstance(order, kind):
        raise ProtocolError(f"unexpected first message {order}")
    return channel, order, packet.descriptors
