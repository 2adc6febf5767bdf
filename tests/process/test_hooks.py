"""`hooks:`, what docs/hooks.md promises: the handlers of a cluster in a process of their own, under the daemon."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.checking import check
from tests.support.hooked import APPLICATION, HEARS_ALL, OBEYS, Hooked
from tests.support.outspoken import Raised
from tests.support.processes import descendants
from tests.support.service import wait_until

pytestmark = pytest.mark.engine_independent

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "hooks.md"

MakeHooked = Callable[..., Hooked]

STUCK = """
@cluster.on("message")
def stick(worker, message):
    say("stuck", message)
    time.sleep(1000)
"""


@pytest.fixture
def make_hooked(tmp_path: Path) -> Iterator[MakeHooked]:
    made: list[Hooked] = []

    def make(**settings: Any) -> Hooked:
        made.append(Hooked(tmp_path, settings))
        return made[-1]

    yield make
    for service in made:
        service.destroy()
        print(service.log())


@pytest.fixture
def hooked(make_hooked: MakeHooked) -> Hooked:
    service = make_hooked()
    service.start()
    return service


def is_alive(pid: int) -> bool:
    """Whether there is a process, which is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# ---- what they hear


def test_events_arrive_from_the_first_fork_on_and_in_order(hooked: Hooked) -> None:
    pid = hooked.pids()[2]
    assert hooked.ask_to("kill", slot=2, signal="KILL")["succeeded"]
    hooked.wait_to_hear("exit", 2)
    hooked.wait_to_hear("listening", 2, 1, after=len(hooked.lines) - 1)
    told = [said for said in hooked.said() if said[0] != "setup" and said[1] == 2]
    assert told[:6] == [
        ["fork", 2, 1, None, True],
        ["online", 2, 1, pid],
        ["listening", 2, 1, [f"127.0.0.1:{hooked.port}"]],
        ["disconnect", 2, 1, False],
        ["exit", 2, 1, pid, None, "SIGKILL", True, True],
        ["fork", 2, 1, None, True],
    ]
    assert hooked.said()[0][:3] == ["setup", "1", 2]


def test_the_module_of_the_documentation_does_what_it_says(make_hooked: MakeHooked) -> None:
    _, source, *_ = re.findall(r"```(?:yaml|python)\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    service = make_hooked()
    service.hook_bare(source)
    service.deploy("1", APPLICATION.replace("[answer.encode()]", "[str(answer).encode()]"))
    service.start()
    assert service.get("/question").text == "{'workers': 2}"
    assert service.ask_to("kill", slot=2, signal="KILL")["succeeded"]
    service.wait_for_line("^worker 2 has ended: SIGKILL$")


def test_they_run_beside_the_workers_as_the_application_does_and_the_master_imports_nothing(
    make_hooked: MakeHooked,
) -> None:
    service = make_hooked(environment={"COLOUR": "blue"})
    service.start()
    seen = "[os.getcwd(), os.environ['COLOUR'], sys.executable, sorted(os.sched_getaffinity(0)), os.getuid()]"
    assert service.do(seen) == [
        str(service.directory),
        "blue",
        sys.executable,
        sorted(os.sched_getaffinity(0)),
        os.getuid(),
    ]
    assert service.do("[cluster.is_hooks, cluster.settings['workers'], 'NOTIFY_SOCKET' in os.environ]") == [
        True,
        2,
        False,
    ]
    assert service.do("sorted(cluster.workers)") == [1, 2]
    assert service.do("cluster.settings['scheduling']") == "least_connections"
    assert service.do("'clusterd.master' in sys.modules or 'yaml' in sys.modules") is False
    title = Path(f"/proc/{service.hooks_pid()}/cmdline").read_bytes().rstrip(b"\0")
    assert title == b"clusterd: hooks gen 1"
    maps = Path(f"/proc/{service.pid}/maps").read_text()
    assert "hooks" not in maps


def test_what_they_print_goes_where_the_workers_output_goes(hooked: Hooked) -> None:
    hooked.do("[print('to stdout'), print('to stderr', file=sys.stderr)]")
    hooked.wait_for_line("^to stdout$")
    hooked.wait_for_line("^to stderr$")
    dies = "[print('last words'), os.kill(os.getpid(), signal.SIGKILL)]"
    hooked.ask_to("send", slot=1, message={"do": dies, "number": 1000})
    hooked.wait_for_line("^last words$")


def test_an_exception_in_a_handler_is_logged_with_its_traceback_and_changes_nothing(hooked: Hooked) -> None:
    assert hooked.get("/fail").text.startswith("RequestFailed: the handler obey of 'message': LookupError: no such")
    hooked.wait_for_line(r'raise LookupError\("no such thing"\)')
    assert hooked.get("/again").text in ("answer to 1", "answer to 2")
    assert hooked.hooks()["restarts"] == 0


# ---- what they say


def test_what_a_command_fails_with_names_the_line_of_the_handler(make_hooked: MakeHooked) -> None:
    service = make_hooked()
    service.hook("""
@cluster.on("message")
def scale(worker, message):
    cluster.scale(0)  # here
""")
    line = (service.directory / "hooks.py").read_text().splitlines().index("    cluster.scale(0)  # here") + 1
    service.start()
    text = service.get("/question").text
    assert text.startswith("RequestFailed: the handler scale of 'message': ValueError: ")
    assert text.endswith(f"hooks.py:{line})")


def test_messages_and_requests_go_both_ways_and_to_all(hooked: Hooked) -> None:
    assert hooked.get("/question").text in ("answer to 1", "answer to 2")
    assert hooked.do("cluster.workers[2].request('hello').result()") == ["hello", 2, None]
    hooked.do("cluster.workers[1].send('say')")
    hooked.wait_to_hear("message", 1, {"from": 1})
    assert hooked.do("cluster.broadcast('say')") == 2
    hooked.wait_to_hear("message", 2, {"from": 2})


def test_async_handlers_await_what_workers_answer(make_hooked: MakeHooked) -> None:
    service = make_hooked()
    service.hook("""
@cluster.on("message")
async def heard(worker, message):
    return str(await worker.request({"your": message}))
""")
    service.start()
    assert service.get("/question").text.startswith("[{'your': 'question'}, ")


def test_what_can_not_be_sent_raises_where_it_is_said(hooked: Hooked) -> None:
    with pytest.raises(Raised, match="TypeError"):
        hooked.do("cluster.workers[1].send(b'')")
    with pytest.raises(Raised, match=r"ValueError.*at most 61440"):
        hooked.do("cluster.workers[1].send('x' * 61440)")
    largest = 61440 - len('["", 2, null]')
    answer = hooked.do(f"cluster.workers[2].request('x' * {largest}).result()[0] == 'x' * {largest}")
    assert answer is True
    os.kill(hooked.pids()[2], signal.SIGSTOP)
    with pytest.raises(Raised, match="TimeoutError"):
        hooked.do("cluster.workers[2].request('late', timeout=0.1).result()")
    os.kill(hooked.pids()[2], signal.SIGCONT)


def test_too_many_messages_to_a_worker_that_does_not_listen_raise(make_hooked: MakeHooked) -> None:
    service = make_hooked()
    service.deploy(
        "1",
        """
import time
from clusterd import worker

@worker.on("message")
def told(message):
    worker.send(message)
    if message == "sleep":
        time.sleep(1000)

def app(environ, start_response): ...
""",
    )
    service.start()
    service.do("cluster.workers[2].send('sleep')")
    service.wait_to_hear("message", 2, "sleep")
    with pytest.raises(Raised, match=r"QueueFull.*1000 messages wait"):
        service.do("[cluster.workers[2].send(number) for number in range(1001)]")
    service.do("cluster.workers[2].kill(signal.SIGKILL)")
    service.wait_to_hear("exit", 2)
    assert service.hooks()["restarts"] == 0


def test_a_handle_outlives_its_worker(hooked: Hooked) -> None:
    hooked.do("globals().setdefault('kept', cluster.workers[2]).id")
    hooked.do("[kept.kill(signal.SIGKILL), kept.kill(signal.SIGKILL)]")
    hooked.wait_to_hear("exit", 2)
    assert hooked.do("[kept.is_dead(), kept.is_connected(), kept.exited_after_disconnect]") == [True, False, True]
    assert hooked.do("[kept.kill(signal.SIGKILL), kept.disconnect()]") == [None, None]
    for say in ("send", "request"):
        with pytest.raises(Raised, match="Disconnected"):
            hooked.do(f"kept.{say}(1)")


def test_they_command_the_cluster_as_a_program_does(hooked: Hooked) -> None:
    hooked.do("cluster.scale(3)")
    hooked.wait_to_hear("listening", 3)
    assert hooked.do("repr(cluster.fork({'COLOUR': 'red'}))") == "<worker 4, generation 1, pid None>"
    hooked.wait_to_hear("listening", 4)
    assert hooked.do("cluster.workers[4].request('?').result()") == ["?", 4, "red"]
    hooked.do("cluster.workers[4].disconnect()")
    assert hooked.wait_to_hear("exit", 4)[4:] == [0, None, True, True]
    for wrong in ("cluster.fork({'A-B': '1'})", "cluster.scale(0)"):
        with pytest.raises(Raised, match="ValueError"):
            hooked.do(wrong)
    with pytest.raises(Raised, match=r"TypeError.*'A' is 1; both have to be text"):
        hooked.do("cluster.fork({'A': 1})")
    hooked.do("cluster.disconnect()")
    assert hooked.wait() == 0


@pytest.mark.parametrize("kind", ["", "async "])
def test_a_fork_in_a_handler_of_exit_does_not_grow_the_cluster(make_hooked: MakeHooked, kind: str) -> None:
    source = f"""
@cluster.on("exit")
{kind}def exited(worker, code, signal):
    forked = cluster.fork()
    say("exited", worker.id, worker.pid, forked.id, forked is worker, forked.generation, forked.is_dead())
    if code is None:
        reply = forked.request("?")
        say("served", {"await reply" if kind else "reply.result()"})
"""
    service = make_hooked()
    service.hook(source + OBEYS)
    service.start()
    first = service.pids()[2]
    service.do("cluster.workers[2].kill(signal.SIGKILL)")
    assert service.wait_to_hear("exited", 2, first) == ["exited", 2, first, 2, False, 1, False]
    assert service.wait_to_hear("served") == ["served", ["?", 2, None]]
    wait_until(lambda: sorted(service.pids()) == [1, 2], "it is ready too, which it says after it was asked")
    second = service.pids()[2]
    service.do("cluster.scale(1)")
    assert service.wait_to_hear("exited", 2, second) == ["exited", 2, second, 2, True, 1, True]
    assert sorted(service.pids()) == [1]
    assert service.do("cluster.fork().id") == 2
    wait_until(lambda: sorted(service.pids()) == [1, 2], "the new worker is ready")  # A stop kills one that is not.
    assert service.stop() == 0
    assert service.log().count("adds no worker") == 1
    assert "Traceback" not in service.log()


def test_a_reload_may_be_asked_for_in_a_handler_and_fails_with_the_reason(hooked: Hooked) -> None:
    hooked.hook_bare("raise LookupError('no such thing')")
    assert "RequestFailed: hooks: hooks: LookupError" in hooked.get("/reload").text
    hooked.wait_for_line(r"clusterd\.wire\.conversation\.RequestFailed: hooks: hooks: LookupError")
    assert "During handling" not in hooked.log()
    with pytest.raises(Raised, match=r"RequestFailed.*LookupError: no such thing"):
        hooked.do("cluster.reload().result()")
    hooked.hook(version="2")
    assert hooked.do("cluster.reload().result()") == 4
    hooked.wait_to_hear("setup", "2")


CHATTERS = """
import threading, time
from clusterd import worker

def chatter():
    while True:
        try:
            worker.send("chatter")
            worker.request("chatter")
        except worker.QueueFull:
            time.sleep(0.001)

@worker.on("message")
def told(message):
    time.sleep(0.001)

def start():
    for _ in range(4):
        threading.Thread(target=chatter, daemon=True).start()

def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]
"""

COMMANDS = """
from clusterd.worker import Disconnected, QueueFull

def command():
    while True:
        try:
            cluster.broadcast("chatter")
            cluster.scale(2)
        except (Disconnected, QueueFull, RuntimeError, cluster.NotInHooks) as error:
            say("refused", str(error))
            time.sleep(0.001)

@cluster.on("message")
async def heard(worker, message):
    return message

@cluster.on("setup")
def begin(settings):
    for _ in range(4):
        threading.Thread(target=command, daemon=True).start()
    say("began")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_threads_that_talk_meet_no_closed_loop_at_the_stop(make_hooked: MakeHooked, number: signal.Signals) -> None:
    service = make_hooked(worker_start="app:start")
    service.deploy("1", CHATTERS)
    service.hook(COMMANDS)
    service.start()
    service.wait_to_hear("began")
    service.signal(number)
    assert service.wait() == 0
    assert "loop is closed" not in service.log()
    assert "Traceback" not in service.log()


# ---- a bad deploy


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise LookupError('no such thing')", "hooks: hooks: LookupError: no such thing"),
        ("import nowhere", "No module named 'nowhere'"),
        ("def broken(:", "SyntaxError"),
        ("import os; os._exit(3)", "hooks: hooks: exit status 3"),
        ("from clusterd import cluster", "hooks: hooks registers no handler; register one with"),
        ("from clusterd import cluster\n@cluster.on('messag')\ndef f(): ...", "hooks.py:2)"),
        ("from clusterd import cluster\n@cluster.on('exit')\ndef f(worker): ...", "is given (worker, code, signal) ("),
    ],
    ids=["raises", "import", "syntax", "dies", "empty", "misspelled", "unfit"],
)
def test_bad_hooks_fail_start_check_and_reload_and_change_nothing(
    make_hooked: MakeHooked, source: str, reason: str
) -> None:
    service = make_hooked()
    service.start()
    before = service.hooks_pid(), service.pids()
    service.hook_bare(source)
    reload = service.reload()
    assert reload.returncode == 1
    assert reason in reload.stderr
    assert (service.hooks_pid(), service.pids()) == before
    if "LookupError" in source:
        service.wait_for_line("raise LookupError")
    assert service.do("1 + 1") == 2
    assert service.stop() == 0
    checked = check(service)
    assert checked.returncode == 1
    if "_exit" in source:
        assert checked.stderr == "the process died while it imported the hooks (exit status 3)\n"
    else:
        assert reason in checked.stderr
    before_lines = len(service.lines)
    service.start(wait=False)
    if any(word in source for word in ("nowhere", "broken", "import cluster") if "@" not in source):
        assert service.wait() == 70
        service.wait_for_line("clusterd ends: the hooks could not be loaded: hooks: ", before_lines)
    else:  # it may mend
        service.wait_for_line("attempt 2 failed, trying again in 2 s: the hooks could not be loaded: ", before_lines)
        assert service.stop() == 0
    assert reason in "\n".join(service.lines[before_lines:])


@pytest.mark.parametrize("slower", ["hooks", "application"])
def test_hooks_of_an_application_that_can_not_be_forked_are_good_or_bad_too(
    make_hooked: MakeHooked, slower: str
) -> None:
    service = make_hooked()
    wait = {"hooks": "", "application": "import time; time.sleep(0.5)\n"}[slower]
    thread = "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    service.deploy("1", wait + thread + APPLICATION)
    service.start()
    assert service.get("/question").text in ("answer to 1", "answer to 2")
    service.hook_bare(("import time; time.sleep(0.5)\n" if slower == "hooks" else "") + "raise LookupError('no')")
    assert "hooks: hooks: LookupError: no" in service.reload().stderr
    assert service.do("1 + 1") == 2


def test_an_import_that_does_not_end_is_a_failed_reload(make_hooked: MakeHooked) -> None:
    service = make_hooked(rollout={"settle": "0ms", "boot_timeout": "8s"})
    service.start()
    pid = service.hooks_pid()
    service.hook_bare("import time; time.sleep(1000)")
    reload = service.reload()
    assert "hooks: hooks: not imported within rollout.boot_timeout" in reload.stderr
    service.wait_for_line("hooks process: still importing after")
    service.wait_for_line(r'hooks\.py", line 1 in <module>')
    assert service.hooks_pid() == pid


def test_a_check_says_what_of_the_hooks_it_has_seen(make_hooked: MakeHooked) -> None:
    service = make_hooked(rollout={"boot_timeout": "4s"})
    assert check(service).stdout.endswith("; the hooks import\n")
    service.hook_bare("import time\ntime.sleep(1000)")
    checked = check(service)
    assert checked.returncode == 1
    assert checked.stderr.startswith("the hooks: not imported within rollout.boot_timeout (4 s)\n")
    assert 'hooks.py", line 2 in <module>' in checked.stderr


def test_a_name_that_is_no_module_is_refused_with_the_file(make_hooked: MakeHooked) -> None:
    service = make_hooked()
    for written, hint in (("hooks:start", "write hooks"), ("hooks.py", "write hooks"), ("a b", "")):
        service.configure(hooks=written)
        service.start(wait=False)
        assert service.wait() == 78
        assert hint in service.log()


# ---- reloads


def test_a_reload_brings_the_new_module_and_nothing_is_lost_or_told_twice(hooked: Hooked) -> None:
    old = hooked.hooks_pid()
    for version in ("2", "3"):
        hooked.hook(version=version)
        assert hooked.reload().returncode == 0
        hooked.wait_to_hear("setup", version)
    for slot in (1, 2):
        hooked.wait_to_hear("exit", slot, 2)
    assert hooked.hooks_pid() != old
    wait_until(lambda: not is_alive(old), "the old process's end")
    events = [said for said in hooked.said() if said[0] in ("fork", "online", "listening", "disconnect", "exit")]
    expected = {
        (event, slot, generation)
        for event in ("fork", "online", "listening", "disconnect", "exit")
        for slot in (1, 2)
        for generation in (1, 2, 3)
        if generation < 3 or event not in ("disconnect", "exit")
    }
    assert sorted((said[0], said[1], said[2]) for said in events) == sorted(expected)
    assert hooked.do("sorted(cluster.workers)") == [1, 2]
    assert hooked.do("[worker.generation for worker in cluster.workers.values()]") == [3, 3]


def test_hooks_may_come_and_go_with_a_reload(make_hooked: MakeHooked) -> None:
    service = make_hooked(hooks=None)
    service.start()
    assert service.describe()["hooks"] is None  # type: ignore[index]
    assert "RequestFailed: no hooks answer requests in the master" in service.get("/question").text
    assert "clusterd_hooks" not in service.metrics().text
    service.configure(hooks="hooks")
    assert service.reload().returncode == 0
    service.wait_to_hear("setup", "1")
    assert service.do("[worker.pid for worker in cluster.workers.values()]") == list(service.pids().values())
    pid = service.hooks_pid()
    service.configure(hooks=None)
    assert service.reload().returncode == 0
    wait_until(lambda: not is_alive(pid), "the end of the hooks")
    wait_until(lambda: service.describe()["hooks"] is None, "no hooks")  # type: ignore[index]


def test_a_handler_that_is_stuck_holds_up_no_reload_and_is_cut_after_the_drain(make_hooked: MakeHooked) -> None:
    service = make_hooked(timeouts={"drain": "1s"})
    service.hook(STUCK)
    service.start()
    service.ask_to("send", slot=1, message="say")
    service.wait_to_hear("stuck")
    service.hook(version="2")
    assert service.reload().returncode == 0
    service.wait_to_hear("setup", "2")
    service.wait_for_line("the hooks process ended while it handled 'message'; this event is not delivered again")
    service.wait_to_hear("exit", 1, 1)
    assert service.hooks()["cut"] == 1


# ---- slow, stuck, dead


def test_a_stuck_handler_stalls_nobody_and_what_is_dropped_is_counted_and_said(make_hooked: MakeHooked) -> None:
    service = make_hooked()
    service.hook(STUCK)
    service.deploy(
        "1",
        """
from clusterd import worker

def app(environ, start_response):
    start_response("200 OK", [])
    try:
        for number in range(int(environ["PATH_INFO"].strip("/"))):
            worker.send(number)
    except worker.QueueFull as error:
        return [f"QueueFull: {error}".encode()]
    return [b"sent"]
""",
    )
    service.start()
    assert "QueueFull: 1000 messages wait" in service.get("/1001").text
    service.wait_to_hear("stuck")
    assert service.get("/0").text == "sent"
    assert service.metrics().status_code == 200
    assert wait_until(lambda: service.hooks()["waiting"] == 1000 and service.hooks(), "all wait")["is_told"]
    assert "busy with 'message' of worker " in wait_until(
        lambda: "busy" in service.clusterctl("status").stdout and service.clusterctl("status").stdout, "it is busy"
    )
    assert "clusterd_hooks_waiting 1000.0" in service.metrics().text
    service.signal(signal.SIGTERM)
    service.wait_for_line("waiting for the hooks to handle the remaining events, for 5 s at most waiting=")
    service.wait_for_line("hooks process: clusterd is to end: still busy after 2.5 s")
    service.wait_for_line("killing the hooks process: it did not handle the remaining events before the end")
    assert service.wait() == 0
    assert "some events were not delivered" in service.log()


def test_what_is_stuck_is_said_once_with_the_line_and_may_be_asked_for_and_ended(make_hooked: MakeHooked) -> None:
    service = make_hooked(timeouts={"hang": "1s"})
    service.hook(STUCK + 'cluster.on("exit")(lambda worker, code, signal: say("exit", worker.id))')
    service.start()
    line = (service.directory / "hooks.py").read_text().splitlines().index("    time.sleep(1000)") + 1
    service.ask_to("send", slot=2, message="say")
    service.wait_to_hear("stuck")
    service.wait_for_line(
        r"warning: hooks process: busy with 'message' of worker 2 for 0\.\d s; it is not ended for that"
    )
    service.wait_for_line(rf'hooks\.py", line {line} in stick$')
    shown = service.clusterctl("stacks", "hooks")
    assert f'hooks.py", line {line} in stick' in shown.stdout
    pid = service.hooks_pid()
    assert service.clusterctl("kill", "hooks", "--signal", "KILL").returncode == 0
    wait_until(lambda: service.hooks_pid() != pid, "another process")
    assert service.log().count("it is not ended for that") == 1
    assert service.ask_to("restart", slot=1)["succeeded"]
    service.wait_to_hear("exit", 1)


def test_without_hooks_there_is_nothing_to_look_at(make_hooked: MakeHooked) -> None:
    service = make_hooked(hooks=None)
    service.start()
    asked = service.clusterctl("stacks", "hooks")
    assert asked.returncode == 1
    assert asked.stderr.startswith("there is no hooks process; ")
    assert service.clusterctl("restart", "hooks").returncode == 2


def test_a_stopped_process_stalls_nobody(hooked: Hooked) -> None:
    pid = hooked.hooks_pid()
    os.kill(pid, signal.SIGSTOP)
    for _ in range(3):
        assert hooked.ask_to("restart", slot=1)["succeeded"]
    assert hooked.clusterctl("status").returncode == 0
    os.kill(pid, signal.SIGCONT)
    hooked.wait_to_hear("exit", 1)


def test_who_dies_is_started_again_and_told_what_it_missed_but_not_what_killed_it(hooked: Hooked) -> None:
    pid = hooked.hooks_pid()
    workers = hooked.pids()
    hooked.ask_to("send", slot=1, message={"do": "os.kill(os.getpid(), signal.SIGKILL)", "number": 1000})
    hooked.wait_for_line("the hooks process died: SIGKILL")
    hooked.wait_for_line("the hooks process ended while it handled 'message'; this event is not delivered again")
    wait_until(lambda: hooked.hooks_pid() != pid, "another process")
    assert hooked.do("[worker.pid for worker in cluster.workers.values()]") == list(workers.values())
    assert hooked.pids() == workers
    assert "clusterd_hooks_restarts_total 1.0" in hooked.metrics().text
    assert 'clusterd_hooks_dropped_total{kind="cut"} 1.0' in hooked.metrics().text


def test_setup_finds_who_is_there(hooked: Hooked) -> None:
    hooked.hook(OBEYS + 'cluster.on("setup")(lambda _: say("found", list(cluster.workers), cluster.broadcast("say")))')
    os.kill(hooked.hooks_pid(), signal.SIGKILL)
    hooked.wait_to_hear("found", [1, 2], 2)
    hooked.wait_to_hear("message", 2, {"from": 2})


def test_who_keeps_dying_is_started_again_later_and_later_and_changes_nothing(hooked: Hooked) -> None:
    hooked.hook_bare("raise LookupError('no such thing')")
    os.kill(hooked.hooks_pid(), signal.SIGKILL)
    hooked.wait_for_line(r"the hooks process died: SIGKILL")
    hooked.wait_for_line(r"the hooks process died: hooks: hooks: LookupError.*; trying again in 0\.5 s")
    hooked.wait_for_line(r"; trying again in 1\.0 s")
    wait_until(
        lambda: re.search(
            r"; died: hooks: hooks: LookupError: .*, trying again in ", hooked.clusterctl("status").stdout
        ),
        "the status says why, and when the next one is started",
    )
    before = len(hooked.lines)
    assert hooked.ask_to("kill", slot=2, signal="KILL")["succeeded"]
    wait_until(lambda: len(hooked.pids()) == 2, "the worker is back")
    hooked.hook(version="2")
    hooked.wait_to_hear("setup", "2")
    hooked.wait_to_hear("exit", 2, after=before)
    assert hooked.hooks()["failure"] is None


def test_a_restart_imports_what_was_loaded_whatever_a_link_points_to_by_now(make_hooked: MakeHooked) -> None:
    service = make_hooked()
    releases = [service.directory / name for name in ("one", "two")]
    for version, release in enumerate(releases, start=1):
        release.mkdir()
        for name in ("app.py", "hooks.py"):
            text = (service.directory / name).read_text().replace('"1", settings', f'"{version}", settings')
            (release / name).write_text(text)
    current = service.directory / "current"
    current.symlink_to(releases[0])
    service.configure(directory=str(current))
    service.start()
    pid = service.hooks_pid()
    current.unlink()
    current.symlink_to(releases[1])
    before = len(service.lines)
    os.kill(pid, signal.SIGKILL)
    service.wait_to_hear("setup", "1", after=before)
    assert service.reload().returncode == 0
    service.wait_to_hear("setup", "2", after=before)


def test_a_request_that_was_being_answered_is_told_so(hooked: Hooked) -> None:
    hooked.hook(
        HEARS_ALL
        + """
@cluster.on("message")
def die(worker, message):
    os._exit(3)
"""
    )
    assert hooked.reload().returncode == 0
    wait_until(lambda: hooked.hooks()["generation"] == 2 and hooked.hooks()["is_told"], "the new hooks")
    assert "RequestFailed: the hooks process died before it had answered (exit status 3)" in hooked.get("/q").text


# ---- the end


def test_a_stop_tells_everything_up_to_the_end(make_hooked: MakeHooked) -> None:
    service = make_hooked()
    service.hook(
        HEARS_ALL
        + OBEYS
        + """
import atexit
atexit.register(say, "atexit")
cluster.on("exit")(lambda worker, code, signal: time.sleep(0.2))
"""
    )
    service.start()
    pid = service.hooks_pid()
    assert service.stop() == 0
    assert sorted(said[1] for said in service.said() if said[0] == "exit") == [1, 2]
    assert service.said()[-1] == ["atexit"]
    assert not is_alive(pid)
    assert "left behind" not in service.log()


def test_a_second_signal_does_not_wait_for_them(make_hooked: MakeHooked) -> None:
    service = make_hooked()
    service.hook("""
@cluster.on("exit")
def stick(worker, code, signal):
    say("stuck")
    time.sleep(1000)
""")
    service.start()
    service.signal(signal.SIGTERM)
    service.wait_to_hear("stuck")
    service.wait_for_line("clusterd ends: asked to stop")
    service.signal(signal.SIGINT)
    assert service.wait() == 0


def test_a_master_that_is_killed_leaves_none(make_hooked: MakeHooked) -> None:
    service = make_hooked()
    service.hook(STUCK)
    service.start()
    pid = service.hooks_pid()
    everybody = descendants(service.pid)
    service.ask_to("send", slot=1, message="say")
    service.wait_to_hear("stuck")
    service.signal(signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "the end of the hooks process")
    wait_until(lambda: not any(map(is_alive, everybody)), "the end of everybody")


def test_outside_of_a_hooks_process_the_module_may_be_imported_and_says_so(tmp_path: Path) -> None:
    script = """
from clusterd import cluster
cluster.on("exit")(print)
print(cluster.is_hooks, cluster.workers)
commands = cluster.disconnect, cluster.reload, lambda: cluster.scale(1), lambda: cluster.broadcast(1)
for command in (*commands, lambda: cluster.settings):
    try:
        command()
    except cluster.NotInHooks as error:
        print(error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=tmp_path, check=True
    )
    first, *rest = ran.stdout.splitlines()
    assert first == "False {}"
    assert rest == ["this process is no hooks process of clusterd, so it has no cluster"] * 5


def test_while_the_module_is_imported_it_knows_where_it_is_and_commands_say_when_they_may_be_given(
    make_hooked: MakeHooked,
) -> None:
    service = make_hooked()
    service.hook(
        HEARS_ALL
        + """
say("imported", cluster.is_hooks, cluster.settings["workers"], cluster.workers)
for command in (cluster.disconnect, lambda: cluster.scale(3), lambda: cluster.broadcast(1)):
    try:
        command()
    except cluster.NotInHooks as error:
        say("refused", str(error))
"""
    )
    service.start()
    service.wait_to_hear("imported", True, 2, {})
    refused = [words[1] for words in service.said() if words[0] == "refused"]
    assert refused == ['not while the hooks are imported: do this in a handler; the first is @cluster.on("setup")'] * 3


def test_a_program_that_is_its_own_master_has_handlers_of_its_own() -> None:
    from clusterd import Cluster

    with pytest.raises(ValueError, match="hooks: a program has handlers of its own"):
        Cluster("app:app", hooks="hooks")


def test_status_shows_them(hooked: Hooked) -> None:
    line = hooked.clusterctl("status").stdout.splitlines()[-1]
    assert line == f"hooks hooks: running, generation 1, pid {hooked.hooks_pid()}"
    shown = json.loads(hooked.clusterctl("status", "--json").stdout)["hooks"]
    assert (shown["module"], shown["state"], shown["restarts"]) == ("hooks", "running", 0)
