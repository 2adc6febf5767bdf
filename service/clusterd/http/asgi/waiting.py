"""What several coroutines wait for: an application may receive and send at the same time."""

import asyncio


class Waiters:
    """The coroutines that wait for something to change."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Wait for the next `wake`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._futures.append(future)
        try:
            await future
        finally:
            if future in self._futures:  # Cancelled: nothing has woken it.
                self._futures.remove(future)

    def wake(self) -> None:
        """Have all of them look again."""
        futures = self._futures
        if futures:
            self._futures = []
            for future in futures:
                if not future.done():  # Its coroutine may have been cancelled.
                    future.set_result(None)
