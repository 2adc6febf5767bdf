"""What runs in the application's interpreter calls no part of the standard library that gevent may have replaced."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import clusterd

pytestmark = pytest.mark.engine_independent

PACKAGE = Path(clusterd.__file__).parent
BESIDE_THE_APPLICATION = ("app", "hooks", "http", "log", "metrics", "process", "runtime", "template", "wire", "worker")
REPLACED = {
    "os": {"close", "fork", "forkpty", "posix_spawn", "posix_spawnp", "waitpid"},
    "queue": {"LifoQueue", "PriorityQueue", "Queue", "SimpleQueue"},
    "select": {"epoll", "poll", "select"},
    "selectors": {"DefaultSelector", "EpollSelector"},
    "socket": {"create_connection", "fromfd", "getaddrinfo", "socket", "socketpair"},
    "subprocess": {"Popen", "check_output", "run"},
    "threading": {"Condition", "Event", "Lock", "RLock", "Semaphore", "Thread", "Timer", "get_ident", "local"},
    "time": {"sleep"},
}
"""What `gevent.monkey.patch_all()` replaces, and what `threading` makes of it."""
ALLOWED = {
    # Called in a thread of the pool or in one for debugpy: there is neither where threads are replaced.
    "http/wsgi/pool/pool_thread.py": {"threading.Event"},
    "worker/diagnosis/debugger.py": {"threading.Event", "threading.Thread"},
}


def calls_in_functions(tree: ast.AST) -> Iterator[str]:
    """The calls `module.name()` that are made later than at import."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for node in ast.walk(function):
                if isinstance(node, ast.Call):
                    yield ast.unparse(node.func)


@pytest.mark.parametrize("package", BESIDE_THE_APPLICATION)
def test_what_an_application_may_replace_is_called_as_it_was(package: str) -> None:
    for path in (PACKAGE / package).rglob("*.py"):
        name = str(path.relative_to(PACKAGE))
        called = set(calls_in_functions(ast.parse(path.read_text())))
        replaced = {each for each in called if each.partition(".")[2] in REPLACED.get(each.partition(".")[0], ())}
        assert replaced == ALLOWED.get(name, set()), name
