"""Applications that use gevent: what they do in threads, locks and sockets is done by greenlets of one hub."""

import os
import re
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.support.clients import connect
from tests.support.endings import ENDINGS, PRELOADS, WSGI, Ending, Noted, Serve, reload
from tests.support.following import Following
from tests.support.neighbours import needs, neighbour
from tests.support.ports import accepts, free_port
from tests.support.service import Service, wait_until

MakeService = Callable[..., Service]

GEVENT = """
from gevent import monkey
monkey.patch_all()
import atexit, socket, threading, time
import gevent, gevent.event
from clusterd import worker
"""

MEETING = """
everyone = threading.Barrier(20)
def answer(path):
    everyone.wait(30)
    return "met"
"""


@PRELOADS
def test_requests_run_beside_each_other_in_one_worker(serve: Serve, preload: bool) -> None:
    noted = serve(GEVENT + MEETING + WSGI, preload=preload, threads=1)
    with ThreadPoolExecutor(20) as clients:
        assert list(clients.map(lambda _: noted.ask(), range(20))) == ["met"] * 20
    said = "the application uses gevent: each request runs in a greenlet, at most 1000 per worker"
    assert noted.service.log().count(said) == 1


def test_more_requests_than_greenlets_wait(serve: Serve) -> None:
    source = """
at_once, most, go = 0, 0, gevent.event.Event()
def answer(path):
    global at_once, most
    if path == "/most":
        return str(most)
    at_once += 1
    most = max(most, at_once)
    time.sleep(0.01)
    at_once -= 1
    return "x"
"""
    noted = serve(GEVENT + source + WSGI, greenlets=3)
    with ThreadPoolExecutor(12) as clients:
        assert list(clients.map(lambda _: noted.ask(), range(60))) == ["x"] * 60
    assert noted.ask("/most") == "3"


@PRELOADS
def test_what_the_import_has_spawned_goes_on_in_the_worker(serve: Serve, preload: bool) -> None:
    source = """
turned = gevent.event.Event()
def background():
    while True:
        time.sleep(0)
        turned.set()
gevent.spawn(background)
def answer(path):
    turned.wait()
    turned.clear()
    return "turned"
"""
    noted = serve(GEVENT + source + WSGI, preload=preload)
    assert [noted.ask(), noted.ask()] == ["turned"] * 2
    assert "not preloaded" not in noted.service.log()


def test_a_client_that_reads_slowly_holds_up_its_own_request_only(serve: Serve) -> None:
    source = """
def app(environ, start_response):
    if environ["PATH_INFO"] == "/long":
        start_response("200 OK", [("Content-Length", str(400 * 65536))])
        return (b"x" * 65536 for _ in range(400))
    start_response("200 OK", [])
    return [b"short"]
"""
    noted = serve(GEVENT + source)
    with connect(noted.service) as slow:
        slow.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert noted.ask() == "short"
        received = 0
        while data := slow.recv(1 << 20):
            received += len(data)
        assert received > 400 * 65536


def test_a_request_that_is_cut_is_logged_once(serve: Serve) -> None:
    source = """
def answer(path):
    gevent.sleep(1000)
"""
    noted = serve(GEVENT + source + WSGI, timeouts={"drain": "500ms"})
    with connect(noted.service) as client:
        client.sendall(b"GET /stuck HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: noted.service.workers()[0]["in_flight"], "a request waits")
        assert noted.service.stop() == 0
    [line] = [each for each in noted.service.lines if " cut" in each or "/stuck" in each]
    assert re.search("request cut at the end of the drain .*target=/stuck", line)


@ENDINGS
@PRELOADS
def test_an_end_waits_for_greenlets_and_threads(serve: Serve, end: Ending, preload: bool) -> None:
    source = """
def background():
    try:
        gevent.sleep(1000)
    finally:
        note("background")
gevent.spawn(background)
atexit.register(note, "exit")
def work(what):
    worker.stop_event.wait()
    time.sleep(0.3)
    note(what)
def answer(path):
    threading.Thread(target=work, args=["a thread"]).start()
    threading.Thread(target=work, args=["a daemon"], daemon=True)
    gevent.spawn(work, "a greenlet")
    return "x"
"""
    noted = serve(GEVENT + source + WSGI, preload=preload)
    noted.ask()
    ended = noted.after(end)
    assert sorted(ended[:2]) == ["a greenlet", "a thread"]
    assert ended[2:] == ["background", "exit"]


def test_a_greenlet_that_does_not_end_is_cut_and_named(serve: Serve) -> None:
    source = """
def stubborn():
    try:
        gevent.sleep(1000)
    finally:
        note("cut")
def answer(path):
    gevent.spawn(stubborn)
    return "x"
"""
    noted = serve(GEVENT + source + WSGI, timeouts={"drain": "1s"})
    noted.ask()
    assert noted.service.stop() == 0
    assert noted.of_worker() == ["cut"]
    noted.service.wait_for_line(r"the greenlet .* was cut: it does not end.*app\.py:\d+ in stubborn")


@ENDINGS
@PRELOADS
def test_an_end_waits_for_a_thread_that_a_request_has_begun(serve: Serve, end: Ending, preload: bool) -> None:
    source = """
def work():
    worker.stop_event.wait()
    time.sleep(0.3)
    note("worked")
def answer(path):
    threading.Thread(target=work).start()
    threading.Thread(target=time.sleep, args=[1000], daemon=True).start()
    return "x"
"""
    noted = serve(GEVENT + source + WSGI, preload=preload)
    noted.ask()
    assert noted.after(end) == ["worked"]


@PRELOADS
def test_a_greenlet_of_worker_start_does_not_hold_up_the_end(serve: Serve, preload: bool) -> None:
    source = """
def background():
    try:
        while True:
            time.sleep(0.01)
    finally:
        note("ended")
def start():
    gevent.spawn(background)
def answer(path):
    return "x"
"""
    noted = serve(GEVENT + source + WSGI, preload=preload, worker_start="app:start", timeouts={"drain": "1000s"})
    noted.ask()
    assert noted.after(reload) == ["ended"]
    assert "was cut" not in noted.service.log()


def test_a_thread_and_a_handler_that_do_not_end_are_cut_and_named(serve: Serve) -> None:
    source = """
def endless():
    while True:
        time.sleep(0.01)
def bye():
    time.sleep(1000)
def start():
    atexit.register(bye)
def answer(path):
    threading.Thread(target=endless).start()
    return "x"
"""
    noted = serve(GEVENT + source + WSGI, worker_start="app:start", timeouts={"drain": "1s"})
    noted.ask()
    assert noted.service.stop() == 0
    noted.service.wait_for_line(r"the thread .*endless.* was cut: it does not end.*app\.py:\d+ in endless")
    noted.service.wait_for_line(r"the exit handler bye was cut.*app\.py:\d+ in bye")
    assert "Traceback" not in noted.service.log()


def test_a_request_that_patches_does_not_have_the_main_thread_named_as_cut(serve: Serve) -> None:
    source = """
def answer(path):
    from gevent import monkey
    monkey.patch_all()
    return "patched"
"""
    noted = serve(source + WSGI)
    assert noted.ask() == "patched"
    assert noted.service.stop() == 0
    assert "was cut" not in noted.service.log()


def test_a_greenlet_that_never_switches_is_a_hang_and_its_place_is_told(serve: Serve) -> None:
    source = """
def answer(path):
    while path == "/hang":
        pass
    return "x"
"""
    noted = serve(GEVENT + source + WSGI, timeouts={"hang": "1s"})
    with connect(noted.service) as client:
        client.sendall(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        noted.service.wait_for_line(r'app\.py", line \d+ in answer')
        noted.service.wait_for_line("worker failed: none of its threads has made progress")
    wait_until(noted.service.workers, "a successor serves")
    assert noted.ask() == "x"


def test_requests_share_nothing_that_gevent_keeps_for_each(serve: Serve) -> None:
    source = """
import contextvars
kept = contextvars.ContextVar("kept", default="nothing")
local = threading.local()
def answer(path):
    known = gevent.getcurrent().spawn_tree_locals
    found = kept.get(), getattr(local, "kept", "nothing"), known.get("kept", "nothing")
    kept.set(path)
    local.kept = known["kept"] = path
    time.sleep(0.01)
    return " ".join(found)
"""
    noted = serve(GEVENT + source + WSGI, greenlets=2)
    with ThreadPoolExecutor(6) as clients:
        assert set(clients.map(lambda _: noted.ask(), range(12))) == {"nothing nothing nothing"}


def test_calls_are_said_to_run_beside_each_other(serve: Serve) -> None:
    source = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [str(environ["wsgi.multithread"]).encode()]
"""
    assert serve(GEVENT + source, threads=1).ask() == "True"


def test_greenlets_find_no_event_loop_that_another_thread_runs(serve: Serve) -> None:
    source = """
import asyncio
async def seven():
    return "7"
def answer(path):
    try:
        return str(asyncio.get_event_loop())
    except RuntimeError:
        return asyncio.run(seven())
"""
    assert serve(GEVENT + source + WSGI).ask() == "7"


def test_a_child_of_a_request_is_not_ended_by_the_copies_of_other_requests(serve: Serve) -> None:
    source = """
go = gevent.event.Event()
def answer(path):
    if path == "/waits":
        go.wait()
        return "waited"
    pid = os.fork()
    if pid == 0:
        go.set()
        for _ in range(100):
            time.sleep(0)
        os._exit(7)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    go.set()
    return str(status)
"""
    noted = serve(GEVENT + source + WSGI)
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(noted.ask, "/waits")
        wait_until(lambda: noted.service.workers()[0]["in_flight"], "a request waits")
        assert noted.ask("/fork") == "7"
        assert waiting.result() == "waited"
    assert "a process that the application has forked" not in noted.service.log()


def test_a_child_that_ends_before_its_fork_has_returned_is_waited_for(serve: Serve) -> None:
    source = """
import os
os.register_at_fork(after_in_parent=lambda: os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT))
def answer(path):
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert serve(GEVENT + source + WSGI, preload=False).ask() == "7"


def test_the_place_of_an_overdue_request_is_told(serve: Serve) -> None:
    source = """
def stuck():
    gevent.event.Event().wait()
def answer(path):
    return stuck()
"""
    noted = serve(GEVENT + source + WSGI, timeouts={"request": "500ms"})
    assert noted.service.get().status_code == 504
    noted.service.wait_for_line(r"was not answered within timeouts.request .*GET /.*app\.py:\d+ in stuck")


def test_a_greenlet_that_exits_ends_alone(serve: Serve) -> None:
    source = """
def answer(path):
    if path == "/exit":
        gevent.spawn(exit, 3).join()
    return str(os.getpid())
"""
    noted = serve(GEVENT + "import os\n" + source + WSGI)
    assert {noted.ask("/exit"), noted.ask("/exit"), noted.ask()} == {str(noted.pid)}
    noted.service.wait_for_line("SystemExit: 3")


def test_stacks_show_the_greenlets(serve: Serve) -> None:
    source = """
def waiting():
    gevent.sleep(1000)
def answer(path):
    gevent.spawn(waiting)
    return "x"
"""
    noted = serve(GEVENT + source + WSGI, timeouts={"drain": "1s"})
    noted.ask()
    assert "in waiting" in noted.service.clusterctl("stacks", "1").stdout


def test_messages_are_handled_in_greenlets_and_requests_of_greenlets_are_answered(make_service: MakeService) -> None:
    source = """
@worker.on("message")
def on_message(value):
    time.sleep(0.01)
    worker.send({"handled": value})
def app(environ, start_response):
    reply = worker.request("question", timeout=60)
    start_response("200 OK", [])
    try:
        return [str(reply.result()).encode()]
    except worker.RequestFailed as error:
        return [str(error).encode()]
"""
    service = make_service(workers=1)
    service.deploy("1", GEVENT + source)
    service.start()
    with Following(service) as following:
        for number in range(3):
            assert service.ask_to("send", slot=1, message=number)["succeeded"]
        assert [said["handled"] for said in following.messages(3)] == [0, 1, 2]
    with ThreadPoolExecutor(5) as clients:
        answers = set(clients.map(lambda _: service.get().text, range(20)))
    assert answers == {"no hooks answer requests in the master: name their module in the setting hooks"}


def test_a_job_runs_beside_the_loop_and_ends_when_asked(make_service: MakeService, tmp_path: Path) -> None:
    source = f"""
from gevent import monkey
monkey.patch_all()
import time
import gevent
from clusterd import worker
def job():
    jobs = [gevent.spawn(time.sleep, 0.01) for _ in range(10)]
    gevent.joinall(jobs)
    open({str(tmp_path / "began")!r}, "w").close()
    while not worker.should_stop:
        time.sleep(0.01)
    open({str(tmp_path / "ended")!r}, "w").close()
"""
    service = make_service(app=None, run="app:job", listen=None, workers=1)
    service.deploy("1", source)
    service.start(wait=False)
    wait_until((tmp_path / "began").exists, "the job runs")
    wait_until(service.workers, "it is ready")
    assert service.stop() == 0
    assert (tmp_path / "ended").exists()


def test_hooks_may_be_of_an_application_that_uses_gevent(make_service: MakeService, tmp_path: Path) -> None:
    source = f"""
from gevent import monkey
monkey.patch_all()
import time
from clusterd import cluster
@cluster.on("online")
def online(worker):
    time.sleep(0.01)
    with open({str(tmp_path / "online")!r}, "a") as file:
        file.write("x")
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"x"]
"""
    service = make_service(hooks="app", workers=2)
    service.deploy("1", source)
    service.start()
    wait_until(lambda: (tmp_path / "online").exists() and (tmp_path / "online").read_text() == "xx", "both are told")
    assert service.stop() == 0


def test_a_worker_obeys_a_signal_of_the_operator(serve: Serve) -> None:
    noted = serve(GEVENT + "def answer(path):\n    return 'x'\n" + WSGI)
    os.kill(noted.pid, signal.SIGTERM)
    noted.service.wait_for_line("SIGTERM received, draining")
    wait_until(lambda: [w for w in noted.service.workers() if w["pid"] != noted.pid], "a successor serves")


def test_no_request_is_lost_by_reloads(serve: Serve) -> None:
    source = """
def answer(path):
    time.sleep(0.01)
    return "x"
"""
    noted = serve(GEVENT + source + WSGI)
    answers: list[str] = []
    end = threading.Event()

    def ask() -> None:
        while not end.is_set():
            answers.append(noted.ask())

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        for _ in range(3):
            assert noted.service.reload().returncode == 0
    finally:
        end.set()
        for client in clients:
            client.join()
    assert set(answers) == {"x"}


def test_an_asgi_application_is_warned_that_its_threads_will_not_run(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", GEVENT + "async def app(scope, receive, send):\n    pass\n")
    service.start()
    service.wait_for_line("warning: the application calls gevent.monkey.patch_all\\(\\) and is ASGI")


@pytest.mark.parametrize("preload", ["auto", False])
def test_eventlet_is_refused_by_name(make_service: MakeService, preload: object) -> None:
    service = make_service(workers=1, preload=preload)
    package = service.directory / "eventlet"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "patcher.py").write_text("def is_monkey_patched(module):\n    return module == 'thread'\n")
    service.deploy("1", "import eventlet.patcher\ndef app(environ, start_response):\n    pass\n")
    service.start(wait=False)
    service.wait_for_line("app:app calls eventlet.monkey_patch\\(\\), and clusterd does not serve eventlet")


def test_a_debugger_is_refused_with_the_reason(serve: Serve) -> None:
    noted: Noted = serve(GEVENT + "def answer(path):\n    return 'x'\n" + WSGI, debug={"port": free_port()})
    assert "the application uses gevent" in noted.service.clusterctl("debug", "1").stderr


LIBRARIES = """
import concurrent.futures, os, subprocess
import flask, redis, requests
app = flask.Flask(__name__)
server = redis.Redis(port=int(os.environ["REDIS_PORT"]))
@app.get("/inner")
def inner():
    return "inner"
@app.get("/requests")
def by_requests():
    return requests.get(flask.request.url_root + "inner", timeout=60).text
@app.get("/take")
def take():
    return server.blpop("list", 60)[1]
@app.get("/give")
def give():
    server.lpush("list", "given")
    return "given"
@app.get("/subprocess")
def child():
    return subprocess.check_output(["sh", "-c", "printf child"])
@app.get("/executor")
def executor():
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return "".join(pool.map(str, range(4)))
"""


def test_libraries_wait_for_each_other_in_one_thread(make_service: MakeService) -> None:
    needs("redis-server", "redis-server")
    port = free_port()
    service = make_service(workers=1, environment={"REDIS_PORT": str(port), "NO_PROXY": "*"})
    service.deploy("1", GEVENT + LIBRARIES)
    with neighbour(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""], lambda: accepts(port)):
        service.start()
        # To take comes first. If it held up the worker's thread, to give would never be asked for.
        with ThreadPoolExecutor(1) as other:
            taken = other.submit(lambda: service.get("/take").text)
            wait_until(lambda: service.workers()[0]["in_flight"], "a request waits for another one")
            assert service.get("/give").text == "given"
            assert taken.result() == "given"
        assert service.get("/requests").text == "inner"
        assert service.get("/subprocess").text == "child"
        assert service.get("/executor").text == "0123"


def test_requests_in_greenlets_are_named(serve: Serve) -> None:
    source = """
import os
def answer(path):
    if path == "/die":
        os._exit(3)
    if path == "/slow":
        take_time()
    if path == "/go":
        go.set()
    return "x"
go = gevent.event.Event()
def take_time():
    go.wait()
"""
    noted = serve(GEVENT + source + WSGI, log={"slow": "300ms"})
    with ThreadPoolExecutor(1) as client:
        slow = client.submit(noted.ask, "/slow")
        wait_until(
            lambda: ", which runs GET /slow (most recent" in noted.service.clusterctl("stacks", "1").stdout,
            "it is tied",
        )
        noted.service.wait_for_line("a request is slow, most recent call last")
        noted.ask("/go")
        assert slow.result() == "x"
    noted.service.wait_for_line("in take_time")
    noted.service.wait_for_line("a slow request has ended .*target=/slow")
    with pytest.raises(requests.RequestException):
        noted.ask("/die")
    noted.service.wait_for_line("request lost with its worker .*target=/die .*reason=exit")
