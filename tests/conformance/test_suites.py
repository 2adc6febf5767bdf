"""Starlette's and Django's own tests, from their source packages, against an engine over sockets.

Starlette's client asks an engine where it would call the application; Django's live server is one.

Nothing of them is kept here. They are fetched by the hash in requirements/test.txt, for the version that is installed.
"""

import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.conformance.served import PYTHON, ROOT

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="make conformance makes the interpreter that fetches them")

LEFT_OUT = {
    "test_testclient.py": "tests the client that is replaced",
    "test_formparsers.py": "needs python-multipart, which has a module of the same name as what litestar needs",
    "middleware/test_opentelemetry.py": "needs OpenTelemetry's SDK",
}
FAIL: dict[str, tuple[str, ...]] = {
    "The client shows what an HTTP client sees: no trailers, no templates, and header names without their case.": (
        "middleware/test_gzip.py::test_gzip_trailers",
        "middleware/test_gzip.py::test_gzip_excluded_content_type_trailers",
        "test_routing.py::test_websocket_route_middleware",
        "test_templates.py::test_calls_context_processors",
        "test_templates.py::test_template_with_middleware",
        "test_templates.py::test_templates",
        "test_templates.py::test_templates_with_directories",
        "test_templates.py::test_templates_with_environment",
    ),
    "The client sends what its own client would not: other headers, a message that no client can send.": (
        "test_requests.py::test_request_headers",
        "test_websockets.py::test_websocket_headers",
        "test_websockets.py::test_receive_wrong_message_type",
    ),
    "HTTP does not allow it: a Content-Length that is wrong, an invalid Host, a final response with the status 123.": (
        "middleware/test_body_limit.py::test_received_bytes_are_counted_with_unreliable_content_length",
        "test_responses.py::test_response_phrase",
        "test_routing.py::test_host_routing_rejects_invalid_hosts",
    ),
    "Over HTTP a WebSocket that is refused has a status, and no code.": (
        "test_websockets.py::test_rejected_connection",
    ),
    "Server push is of HTTP/2.": ("test_requests.py::test_request_send_push_promise",),
    "The server answers where its application has failed.": ("test_exceptions.py::test_force_500_response",),
    "The name of the server stands in for a Host that is none.": (
        "middleware/test_https_redirect.py::test_https_redirect_middleware",
    ),
    "Needs python-multipart.": (
        "middleware/test_body_limit.py::test_multipart_file_counts_towards_limit",
        "test_requests.py::test_request_form_urlencoded",
        "test_requests.py::test_request_form_context_manager",
        "test_responses.py::test_file_response_insert_ranges",
    ),
    "Wants the package to be named tests.": (
        "test_staticfiles.py::test_staticfiles_relative_directory_symlinks",
        "test_staticfiles.py::test_staticfiles_with_package",
    ),
    "Root may read what others may not.": (
        "test_staticfiles.py::test_staticfiles_with_invalid_dir_permissions_returns_401",
    ),
}
"""Why a test fails, and which: each of them has to."""

DJANGO_LABELS = ("servers", "staticfiles_tests.test_liveserver", "file_storage")
"""What uses the live server."""
DJANGO_FAIL: dict[str, tuple[str, ...]] = {
    "Django's server closes after a response without a length, and keeps what the client has it close.": (
        "servers.tests.LiveServerViews.test_closes_connection_without_content_length",
        "servers.tests.LiveServerViews.test_keep_alive_connection_clears_previous_request_data",
        "servers.tests.LiveServerViews.test_keep_alive_on_connection_with_content_length",
    ),
    "Tests the class that is replaced, or its choice of a port.": (
        "servers.test_liveserverthread.LiveServerThreadTest.test_server_class",
        "servers.tests.LiveServerPort.test_specified_port_bind",
    ),
}


def fetched(name: str, directory: Path) -> Path:
    """The source package of what is installed."""
    installed = version(name)
    lines = (ROOT / "requirements" / "test.txt").read_text()
    [pinned] = re.findall(rf"^{name}=={re.escape(installed)} \\\n(?:    --hash=\S+(?: \\)?\n)+", lines, re.MULTILINE)
    (directory / "pinned.txt").write_text(pinned)
    options = ("--quiet", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--require-hashes")
    command = (str(PYTHON), "-m", "pip", "download", *options, "--dest", str(directory), "-r", "pinned.txt")
    subprocess.run(command, cwd=directory, check=True)
    with tarfile.open(directory / f"{name}-{installed}.tar.gz") as package:
        package.extractall(directory, filter="data")
    return directory / f"{name}-{installed}"


@pytest.mark.xdist_group("Starlette's tests")
def test_starlette(tmp_path: Path) -> None:
    suite = tmp_path / "suite"
    (fetched("starlette", tmp_path) / "tests").rename(suite)
    for file in suite.rglob("*.py"):
        # Our own package is named tests, too.
        text = re.sub(r"\bfrom tests\b", "from suite", file.read_text())
        text = text.replace("import httpx2 as httpx", "import httpx")
        file.write_text(re.sub(r"(?m)^from python_multipart import (\w+)$", r"\1 = None", text))
    left_out = [f"--ignore=suite/{name}" for name in LEFT_OUT]
    options = ("-q", "-rf", "--tb=short", "--config-file=/dev/null", "--rootdir=.", "-W", "ignore", "-k", "not trio")
    command = (sys.executable, "-m", "pytest", "-p", "tests.conformance.starlette_client", *options, *left_out)
    said = ran(tmp_path, *command, "suite")
    failed = set(re.findall(r"^FAILED suite/([\w/.]+::\w+)", said, re.MULTILINE))
    assert failed == {name for names in FAIL.values() for name in names}
    assert int(re.findall(r"(\d+) passed", said)[-1]) > 500


@pytest.mark.xdist_group("Django's tests")
def test_django(tmp_path: Path) -> None:
    tests = fetched("django", tmp_path) / "tests"
    options = ("--settings=test_sqlite", "--parallel=1")
    command = (sys.executable, "-m", "tests.conformance.django_server", str(tests / "runtests.py"), *options)
    said = ran(tests, *command, *DJANGO_LABELS)
    failed = set(re.findall(r"^(?:FAIL|ERROR): \w+ \(([\w.]+)\)", said, re.MULTILINE))
    assert failed == {name for names in DJANGO_FAIL.values() for name in names}
    assert int(re.findall(r"Ran (\d+) tests", said)[-1]) > 200


def ran(directory: Path, *command: str) -> str:
    """All that a run of tests says. It imports what this process would."""
    path = os.pathsep.join([*sys.path, str(directory)])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    print(said[-20_000:])
    return said
