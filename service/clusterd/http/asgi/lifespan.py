"""The lifespan of an ASGI application (https://asgi.readthedocs.io/en/latest/specs/lifespan.html)."""

import asyncio
from typing import Any

from clusterd.http.asgi.application import AsgiApplication, Message
from clusterd.http.call import StartupFailed
from clusterd.http.messages.given import message as message_of
from clusterd.http.ports import Log
from clusterd.log.tracebacks import application_traceback, in_one_line, of_text


class Lifespan:
    """The call of the application that lasts as long as the worker. `state` is copied into each request's scope."""

    def __init__(self, application: AsgiApplication, log: Log) -> None:
        self._application = application
        self._log = log
        self._to_application: asyncio.Queue[Message] = asyncio.Queue()
        self._from_application: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self.state: dict[str, Any] = {}

    async def startup(self) -> None:
        """Run the application's startup. Raises StartupFailed if the application answers lifespan.startup.failed.

        An application that raises or returns instead does not support lifespans, and is served without one, as the
        specification demands.
        """
        self._task = asyncio.get_running_loop().create_task(self._run())
        answer = await self._ask("lifespan.startup")
        if answer is not None and answer["type"] == "lifespan.startup.failed":
            reason = answer.get("message") or "the application's lifespan.startup.failed says no reason"
            raise StartupFailed(str(reason))

    async def shutdown(self) -> None:
        """Run the application's shutdown. Does nothing for an application without a lifespan."""
        if self._task is None or self._task.done():
            return
        answer = await self._ask("lifespan.shutdown")
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            line, whole = of_text(str(answer.get("message", "")))
            self._log.error(f"the application's shutdown failed: {line}\n{whole}")

    async def _ask(self, event: str) -> Message | None:
        """Return the application's answer to an event; None if its call has ended without one."""
        assert self._task is not None
        self._to_application.put_nowait({"type": event})
        answer = asyncio.ensure_future(self._from_application.get())
        await asyncio.wait([answer, self._task], return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        answer.cancel()
        return None

    async def _run(self) -> None:
        has_asked = has_failed = False

        async def receive() -> Message:
            nonlocal has_asked
            has_asked = True
            return await self._to_application.get()

        async def send(given: object) -> None:
            nonlocal has_failed
            message = message_of(given)
            has_failed = has_failed or message["type"].endswith(".failed")
            self._from_application.put_nowait(message)

        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._application(scope, receive, send)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if has_failed:
                return  # It has said so. Starlette raises the same exception afterwards.
            # An application without lifespans raises at once. One that has received an event has failed. It is served
            # all the same, as the specification demands: only lifespan.startup.failed prevents that.
            log = self._log.warning if has_asked else self._log.debug
            log(f"the application's lifespan ended: {in_one_line(error)}\n{application_traceback(error)}")
