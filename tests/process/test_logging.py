"""What a whole clusterd logs: floods, JSON, the access log's formats, and the identifier of a request."""

import json
import re
import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.support.clients import connect
from tests.support.service import Service

MakeService = Callable[..., Service]

STUCK = """
import threading
def app(environ, start_response):
    threading.Event().wait()
"""
FAILS = """
import os
from clusterd import worker
def app(environ, start_response):
    if environ["PATH_INFO"].startswith("/fails"):
        raise LookupError(environ["PATH_INFO"])
    start_response("200 OK", [])
    return [str(worker.request_id() == environ.get("clusterd.request_id") is not None).encode()]
"""


def counted(service: Service, line: str) -> int:
    """How many records there were, written or left out."""
    written = sum(1 for each in service.lines if re.search(line, each) and "left out" not in each)
    left_out = [re.search(r"left out .*count=(\d+)", each) for each in service.lines]
    return written + sum(int(each[1]) for each in left_out if each is not None)


def test_a_full_queue_does_not_fill_the_log(make_service: MakeService) -> None:
    service = make_service(workers=1, threads=1, limits={"queue": 0}, log={"repeats": 3}, timeouts={"drain": "100ms"})
    service.deploy("1", STUCK)
    service.start()
    with ExitStack() as clients:
        first = clients.enter_context(connect(service))
        first.sendall(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
        statuses = [service.get(f"/{number}").status_code for number in range(100)]
        refused = statuses.count(503)
        assert refused >= 98
        said = 'equal log records left out .*like="request 503 too many requests wait: limits.queue"'
        service.wait_for_line(f"error: {said}")
        service.wait_for_line(
            r"error: request .*target=/\d+ status=503 .*reason=\"too many requests wait: limits.queue\""
        )
        service.stop()
    assert counted(service, "status=503") == refused


def test_equal_errors_of_the_application_are_counted(make_service: MakeService) -> None:
    service = make_service(workers=1, log={"repeats": 2, "access": "off"})
    service.deploy("1", FAILS)
    service.start()
    for number in range(30):
        assert service.get(f"/fails/{number}").status_code == 500
    assert service.stop() == 0
    service.wait_for_line("error: the application raised .*method=GET target=/fails/0")
    assert counted(service, "error: the application raised") == 30


def test_a_json_log_has_one_object_a_line(make_service: MakeService) -> None:
    service = make_service(workers=1, log={"format": "json", "access": "all", "access_format": "json"})
    service.deploy("1", FAILS)
    service.start()
    service.get("/fails")
    assert service.reload().returncode == 0
    assert service.stop() == 0
    documents = [json.loads(line) for line in service.lines]
    assert {document["process"] for document in documents} > {service.pid}
    [raised] = [each for each in documents if each["message"] == "the application raised"]
    assert (raised["level"], raised["slot"], raised["target"]) == ("error", 1, "/fails")
    assert raised["traceback"].startswith("Traceback (most recent call last):\n")
    assert raised["traceback"].endswith("LookupError: /fails")
    [request] = [each for each in documents if each["message"] == "request"]
    assert (request["status"], request["method"], request["level"]) == (500, "GET", "error")
    assert isinstance(request["duration"], float)


def test_lines_of_another_format_stand_alone(make_service: MakeService) -> None:
    service = make_service(workers=1, log={"access": "all", "access_format": "combined"}).start()
    service.get('/"x', headers={"User-Agent": "a \\ b"})
    line = service.wait_for_line("User-Agent|HTTP/1.1")
    clock = r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\]"
    expected = rf'127\.0\.0\.1 - - {clock} "GET /%22x HTTP/1\.1" 200 \d+ "-" "a \\x5c b"'
    assert re.fullmatch(expected, line)


@pytest.mark.parametrize("threads", [0, 2])
def test_a_request_has_one_identifier_everywhere(make_service: MakeService, threads: int) -> None:
    service = make_service(workers=1, threads=threads, request_ids="return", log={"access": "all"})
    service.deploy("1", FAILS)
    service.start()
    answer = service.get("/")
    assert answer.text == "True"
    service.wait_for_line(f"request_id={answer.headers['X-Request-Id']}")
    failed = service.get("/fails").headers["X-Request-Id"]
    service.wait_for_line(f"the application raised .*request_id={failed}")


def test_outside_a_request_there_is_no_identifier() -> None:
    from clusterd import worker

    assert worker.request_id() is None


def test_many_processes_that_write_long_lines_of_json_do_not_mix_them(make_service: MakeService) -> None:
    source = FAILS.replace("LookupError(", 'LookupError("x" * 9000 + ')
    service = make_service(workers=4, log={"format": "json", "repeats": 0, "access": "all"})
    service.deploy("1", source)
    service.start()
    asking = [threading.Thread(target=lambda: [service.get("/fails") for _ in range(10)]) for _ in range(4)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    assert service.stop() == 0
    documents = [json.loads(line) for line in service.lines]
    assert sum(1 for each in documents if len(each.get("traceback", "")) > 9000) == 40
