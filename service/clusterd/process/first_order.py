"""How every process begins that the master has started by exec: its first order."""

import os
import socket
from typing import TypeVar

from clusterd.wire.messages import Message, ProtocolError, decode
from clusterd.wire.packets import receive

_Order = TypeVar("_Order", bound=Message)


def first_order(channel_descriptor: int, kind: type[_Order]) -> tuple[socket.socket, _Order, tuple[int, ...]]:
    """The channel, what the master says first, and the descriptors beside it. Ends the process where it is gone."""
    os.set_inheritable(channel_descriptor, False)
    channel = socket.socket(fileno=channel_descriptor)
    packet = receive(channel)
    if packet is None:
        os._exit(0)
    order = decode(packet.data)
    if not isinstance(order, kind):
        raise ProtocolError(f"the first message was {order}")
    return channel, order, packet.descriptors
