"""Starlette's own tests, from its source package: their client asks an engine over a socket, and calls no application.

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
    path = os.pathsep.join([*sys.path, str(tmp_path)])
    done = subprocess.run(
        [*command, "suite"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout[-20_000:], done.stderr)
    failed = set(re.findall(r"^FAILED suite/([\w/.]+::\w+)", done.stdout, re.MULTILINE))
    assert failed == {name for names in FAIL.values() for name in names}
    assert int(re.findall(r"(\d+) passed", done.stdout)[-1]) > 500
