"""A debugger for tests: as much of the Debug Adapter Protocol as it takes to stop a process and to let it go on."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.service import PATIENCE_SECONDS

Message = dict[str, Any]


class Debugger:
    """Attached from its beginning; `process` is what it is told of the process."""

    def __init__(self, port: int, breakpoint_at: tuple[Path, int] | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
        self._stream = self._socket.makefile("rb")
        self._number = 0
        self._heard: list[Message] = []
        self.ask("initialize", adapterID="debugpy", clientID="test", pathFormat="path")
        attaching = self._say("attach", justMyCode=False)
        self.process: Message = self.wait_for_event("process")["body"]
        self.wait_for_event("initialized")
        if breakpoint_at is not None:
            path, line = breakpoint_at
            answer = self.ask("setBreakpoints", source={"path": str(path)}, breakpoints=[{"line": line}])
            assert answer["body"]["breakpoints"][0]["verified"]
        self.ask("configurationDone")
        self._wait(lambda message: message.get("request_seq") == attaching)

    def ask(self, command: str, **arguments: object) -> Message:
        """The answer to a request, which succeeds."""
        number = self._say(command, **arguments)
        answer = self._wait(lambda message: message.get("request_seq") == number)
        assert answer["success"], answer
        return answer

    def wait_for_event(self, name: str) -> Message:
        """The next event of that name, which may have been heard of meanwhile."""
        return self._wait(lambda message: message.get("event") == name)

    def close(self) -> None:
        """Let go without a word."""
        self._stream.close()
        self._socket.close()

    def _say(self, command: str, **arguments: object) -> int:
        self._number += 1
        request = {"seq": self._number, "type": "request", "command": command, "arguments": arguments}
        text = json.dumps(request).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(text), text))
        return self._number

    def _wait(self, is_it: Callable[[Message], bool]) -> Message:
        for message in self._heard:
            if is_it(message):
                self._heard.remove(message)
                return message
        while not is_it(message := self._read()):
            self._heard.append(message)
        return message

    def _read(self) -> Message:
        length = 0
        while (line := self._stream.readline().strip()) or not length:
            assert line, "the debugger's connection has ended"
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        message: Message = json.loads(self._stream.read(length))
        return message
