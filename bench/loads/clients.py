"""A crowd of HTTP clients as a program of its own: asks until its standard input ends, then prints JSON.

clients.py PORT KIND:COUNT:THINK ...      KIND is kept or fresh, THINK in seconds
"""

import asyncio
import json
import sys
import time
from collections import Counter
from typing import cast

import uvloop

TIMEOUT_SECONDS = 10.0


class Crowd:
    """What all clients together have seen."""

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.lost: Counter[str] = Counter()
        self.closed = 0
        self.ending = False


class Client(asyncio.Protocol):
    """One connection: asks, waits for the whole answer, tells whoever waits for it."""

    def __init__(self, *, kept: bool) -> None:
        self._request = b"GET / HTTP/1.1\r\nHost: bench\r\n%b\r\n" % (b"" if kept else b"Connection: close\r\n")
        self._received = b""
        self._answer: asyncio.Future[str] | None = None
        self.open = False
        self.announced_close = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclasses of asyncio's.
        self.transport = cast(asyncio.Transport, transport)
        self.open = True

    async def ask(self) -> str:
        """How the request was lost, or an empty text."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(self._request)
        try:
            return await asyncio.wait_for(self._answer, TIMEOUT_SECONDS)
        except TimeoutError:
            return "timeout"

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        head = head.lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) >= length:
            self._received = b""
            self.announced_close = b"connection: close" in head
            self._resolve("" if head.startswith(b"http/1.1 200") else head[:12].decode())

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        self._resolve(f"connection lost: {error}")

    def _resolve(self, result: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(result)


async def client(crowd: Crowd, port: int, think: float, *, kept: bool) -> None:
    """Ask, think, ask again."""
    loop = asyncio.get_running_loop()
    connection: Client | None = None
    while not crowd.ending:
        started = time.perf_counter()
        try:
            if connection is None or not connection.open:
                crowd.closed += connection is not None
                _, connection = await loop.create_connection(lambda: Client(kept=kept), "127.0.0.1", port)
            how = await connection.ask()
        except OSError as error:
            how = f"connect: {error}"
        if how:
            crowd.lost[how] += 1
            connection = None
        else:
            crowd.latencies.append(time.perf_counter() - started)
            if connection is not None and (not kept or connection.announced_close):
                crowd.closed += kept
                connection.transport.close()
                connection = None
        await asyncio.sleep(think)
    if connection is not None:
        connection.transport.close()


async def main(port: int, kinds: list[str]) -> None:
    """Run the clients until standard input ends."""
    crowd = Crowd()
    tasks = []
    for kind in kinds:
        name, count, think = kind.split(":")
        for number in range(int(count)):
            await asyncio.sleep(float(think) / int(count) if number else 0)
            tasks.append(asyncio.create_task(client(crowd, port, float(think), kept=name == "kept")))
    crowd.latencies.clear()
    print("ready", flush=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)
    crowd.ending = True
    await asyncio.gather(*tasks)
    print(json.dumps({"latencies": crowd.latencies, "lost": crowd.lost, "closed": crowd.closed}))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2:]))
