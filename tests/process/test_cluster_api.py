"""`from clusterd import Cluster`: what docs/node-cluster.md promises, each by a program that is its own master."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.dap import Debugger
from tests.support.outspoken import Raised
from tests.support.ports import free_port
from tests.support.program import HEARS_ALL, Program, program
from tests.support.service import wait_until

pytestmark = pytest.mark.engine_independent

APPLICATION = """
import os
from clusterd import worker

@worker.on("message")
def told(message):
    if message == "ask":
        return worker.request("question").result()
    if message == "say":
        worker.send({"from": worker.id})
    return [message, worker.id]

def app(environ, start_response):
    start_response("200 OK", [])
    return [os.environ.get("COLOUR", "none").encode()]
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Program]:
    with program(tmp_path) as made:
        yield made


@pytest.fixture
def talking(tmp_path: Path) -> Iterator[Program]:
    (tmp_path / "app.py").write_text(APPLICATION)
    source = """
@cluster.on("message")
def heard(worker, message):
    say("message", worker.id, message)
    if message == "fail":
        raise LookupError("no such thing")
    return f"answer to {worker.id}"
"""
    with program(tmp_path, source=HEARS_ALL + source) as made:
        yield made


# ---- the primary


def test_the_program_of_the_documentation_serves_and_tells_of_its_workers(tmp_path: Path) -> None:
    source = """
@cluster.on("online")
def online(worker):
    print(f"worker {worker.id} (pid {worker.pid}) is online", flush=True)

@cluster.on("exit")
def exited(worker, code, signal):
    print(f"worker {worker.id} has ended: {signal or code}", flush=True)
"""
    with program(tmp_path, source=source, epilogue="\nsys.exit(cluster.run())\n") as started:
        pids = started.pids()
        assert started.ask().pid in pids.values()
        for slot, pid in pids.items():
            started.wait_for_line(rf"^worker {slot} \(pid {pid}\) is online")
        assert started.ask_to("kill", slot=2, signal="KILL")["succeeded"]
        started.wait_for_line("^worker 2 has ended: SIGKILL")
        assert started.stop() == 0


def test_application_and_cluster_may_be_one_file_where_run_is_guarded(tmp_path: Path) -> None:
    application = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [str([cluster.is_primary, "clusterd.master.master" in sys.modules]).encode()]

if cluster.is_primary:
    cluster.run()
"""
    with program(tmp_path, settings={"app": "program:app"}, source=application, epilogue="") as started:
        assert started.get().text == "[False, False]"  # and no worker carries a master along


def test_run_in_a_template_says_how_to_guard_it(tmp_path: Path) -> None:
    application = "\ndef app(environ, start_response): ...\n"
    made = Program(tmp_path, settings={"app": "program:app"}, source=application, epilogue="sys.exit(cluster.run())")
    made.start(wait=False)
    try:
        assert made.wait() == 70
        assert "NotPrimaryError: Cluster.run() was reached in a process of the cluster itself" in made.log()
        assert "guard it with `if cluster.is_primary:`" in made.log()
    finally:
        made.destroy()


def test_workers_are_found_by_slot_and_know_who_they_are(started: Program) -> None:
    pids = started.pids()
    assert started.do("{str(slot): worker.pid for slot, worker in cluster.workers.items()}") == {
        str(slot): pid for slot, pid in pids.items()
    }
    assert started.do("[cluster.workers[2].id, cluster.workers[2].generation]") == [2, 1]
    assert started.do("repr(cluster.workers[1])") == f"<worker 1, generation 1, pid {pids[1]}>"


def test_fork_adds_a_worker_with_an_environment_that_its_successors_have_too(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION.replace("return [message,", "return [os.environ.get('COLOUR'),"))
    with program(tmp_path) as started:
        assert started.do("cluster.fork({'COLOUR': 'blue'}).request('?').result()") == ["blue", 3]
        assert started.do("cluster.fork().request('?').result()") == [None, 4]
        before = len(started.lines)
        started.do("cluster.workers[3].kill(signal.SIGKILL)")
        started.wait_to_hear("listening", 3, after=before)
        assert started.do("cluster.workers[3].request('?').result()") == ["blue", 3]
        for wrong in ("{'LISTEN_FDS': '1'}", "{'A-B': '1'}", "{'A': '\\0'}", "{'A': 'x' * 70000}"):
            with pytest.raises(Raised, match="ValueError"):
                started.do(f"cluster.fork({wrong})")


def test_settings_are_known_and_setup_changes_them_for_the_next_reload(talking: Program) -> None:
    assert talking.wait_to_hear("setup") == ["setup", 2]
    assert talking.do("[cluster.settings['workers'], cluster.settings['timeouts']['drain']]") == [2, "30s"]
    assert talking.get().text == "none"
    talking.do("cluster.setup(environment={'COLOUR': 'red'}, workers=1, timeouts={'drain': '5s'})")
    assert talking.wait_to_hear("setup", 1)
    assert talking.do("[cluster.settings['timeouts']['drain'], cluster.settings['metrics']['address']]") == [
        "5s",
        "off",
    ]
    assert talking.do("cluster.reload().result()") == 2
    for slot in (1, 2):  # the second has no successor, and is shed when the rollout is over
        talking.wait_to_hear("exit", slot)
    assert talking.get().text == "red"
    assert list(talking.pids()) == [1]
    with pytest.raises(Raised, match="workers: found 0, must be"):
        talking.do("cluster.setup(workers=0)")
    assert talking.do("cluster.settings['workers']") == 1


def test_a_reload_reads_the_environment_file_again(tmp_path: Path) -> None:
    file = tmp_path / "x.env"
    file.write_text("COLOUR=red")
    source = 'import os\ndef app(e, start): start("200 OK", []); return [os.environ["COLOUR"].encode()]'
    (tmp_path / "app.py").write_text(source)
    with program(tmp_path, settings={"environment_file": "x.env"}) as running:
        assert running.get().text == "red"
        file.write_text("COLOUR=blue")
        assert running.do("cluster.reload().result()") == 2
        # The last predecessor is told to drain when the reload has succeeded, and may accept until it hears that.
        wait_until(lambda: running.get().text == "blue", "the new value")


def test_what_is_watched_is_reloaded_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "x.env"
    file.write_text("COLOUR=red")
    (tmp_path / "code").mkdir()
    settings = {"watch": ["code"], "environment_file": "x.env", "directory": "code"}
    (tmp_path / "code/app.py").write_text(APPLICATION)
    with program(tmp_path, settings=settings) as running:
        running.wait_for_line("watching .*/code .*/x.env")
        assert "watch" not in running.do("cluster.settings")
        (tmp_path / "code/app.py").write_text(APPLICATION + "\n")
        running.wait_for_line("app.py has changed: reloading")
        running.wait_for_line("reload succeeded, generation 2 serves")
        file.write_text("COLOUR=blue")
        running.wait_for_line("x.env has changed: reloading")
        running.wait_for_line("reload succeeded, generation 3 serves")
        assert running.do("cluster.workers[1].generation") == 3
        assert running.stop() == 0


def test_what_cannot_be_watched_is_named(tmp_path: Path) -> None:
    script = """
from clusterd import Cluster
for wrong in (".", ["nothing"]):
    try:
        Cluster("app:app", listen=["unix:http.sock"], control="c.sock", watch=wrong).run()
    except (OSError, TypeError) as error:
        print(type(error).__name__, error)
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    first, second = ran.stdout.splitlines()
    assert first == "TypeError watch: found '.', must be a list of paths"
    assert second == f"OSError watch {tmp_path}/nothing: No such file or directory"


def test_a_reload_that_fails_says_why_and_the_old_code_serves(started: Program) -> None:
    started.deploy("2", "raise LookupError('no such thing')")
    with pytest.raises(Raised, match=r"RequestFailed.*LookupError: no such thing"):
        started.do("cluster.reload().result()")
    assert started.ask().generation == 1


def test_commands_that_nobody_waits_for_are_bounded(started: Program) -> None:
    started.deploy("2", "import threading; threading.Event().wait()")
    with pytest.raises(Raised, match=r"QueueFull.*1000 commands"):
        started.do("[cluster.reload() for _ in range(1200)]")
    assert started.ask().generation == 1


def test_the_scheduling_is_a_setting(tmp_path: Path) -> None:
    with program(tmp_path, settings={"scheduling": "round_robin"}) as started:
        assert started.do("cluster.scheduling") == "round_robin"
        assert [started.ask().slot for _ in range(4)] in ([1, 2, 1, 2], [2, 1, 2, 1])


def test_an_environment_goes_with_the_slot_that_it_was_for(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION.replace("return [message,", "return [os.environ.get('COLOUR'),"))
    with program(tmp_path) as started:
        assert started.do("cluster.fork({'COLOUR': 'blue'}).request('?').result()") == ["blue", 3]
        started.do("cluster.scale(2)")
        started.wait_to_hear("exit", 3)
        assert started.do("cluster.fork().request('?').result()") == [None, 3]
        with pytest.raises(Raised, match="half a surrogate pair"):
            started.do("cluster.fork({'COLOUR': '\\ud800'})")


def test_scale_changes_how_many_there_are(started: Program) -> None:
    started.do("cluster.scale(3)")
    started.wait_to_hear("listening", 3)
    started.do("cluster.scale(1)")
    assert started.wait_to_hear("exit", 3)[-2:] == [True, True]
    with pytest.raises(Raised, match="ValueError"):
        started.do("cluster.scale(0)")


def test_disconnect_drains_all_and_run_returns(started: Program) -> None:
    started.do("cluster.disconnect()")
    assert started.wait() == 0
    assert started.wait_to_hear("ended") == ["ended", 0]
    exits = [said for said in started.said() if said[0] == "exit"]
    assert sorted(said[1] for said in exits) == [1, 2]
    assert all(said[3:] == [0, None, True, True] for said in exits)


# ---- events


def test_the_events_of_a_worker_come_in_order(started: Program) -> None:
    (pid,) = [pid for slot, pid in started.pids().items() if slot == 2]
    started.do("cluster.scale(1)")
    started.wait_to_hear("exit", 2)
    told = [said for said in started.said() if said[0] not in ("setup", "done") and said[1] == 2]
    assert told == [
        ["fork", 2, told[0][2], True],
        ["online", 2, pid],
        ["listening", 2, [f"127.0.0.1:{started.port}"]],
        ["disconnect", 2, False],
        ["exit", 2, pid, 0, None, True, True],
    ]


def test_a_worker_has_events_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION)
    source = """
@cluster.on("fork")
def forked(worker):
    if worker.id == 2:
        worker.on("online")(lambda: say("own online"))
        worker.on("listening")(lambda addresses: say("own listening", addresses))
        worker.on("message")(lambda message: say("own message", message))
        worker.on("disconnect")(lambda: say("own disconnect"))
        worker.on("exit")(lambda code, signal: say("own exit", code, signal))
"""
    with program(tmp_path, source=source) as started:
        started.do("[worker.send('say') for worker in cluster.workers.values()]")
        started.wait_to_hear("own message")
        started.do("cluster.workers[2].kill(signal.SIGKILL)")
        started.wait_to_hear("own exit")
        assert [said for said in started.said() if said[0].startswith("own")] == [
            ["own online"],
            ["own listening", [f"127.0.0.1:{started.port}"]],
            ["own message", {"from": 2}],
            ["own disconnect"],
            ["own exit", None, "SIGKILL"],
        ]
        with pytest.raises(Raised, match="there is no event 'fork'"):
            started.do("cluster.workers[1].on('fork')")


# ---- messages


def test_messages_go_both_ways_and_to_all(talking: Program) -> None:
    talking.do("cluster.workers[1].send('say')")
    assert talking.wait_to_hear("message", 1) == ["message", 1, {"from": 1}]
    assert talking.do("cluster.broadcast('say')") == 2
    assert talking.wait_to_hear("message", 2) == ["message", 2, {"from": 2}]
    with pytest.raises(Raised, match="TypeError"):
        talking.do("cluster.broadcast({1, 2})")


def test_requests_are_answered_both_ways(talking: Program) -> None:
    assert talking.do("cluster.workers[2].request({'a': 1}).result()") == [{"a": 1}, 2]
    # A request of the worker within that of the program: what the program's handler returns is the reply.
    assert talking.do("cluster.workers[2].request('ask').result()") == "answer to 2"


def test_a_message_before_the_worker_is_online_waits_for_it(talking: Program) -> None:
    assert talking.do("cluster.fork().request('early').result()") == ["early", 3]


# ---- one worker


def test_kill_sends_a_signal_and_the_worker_was_to_end(started: Program) -> None:
    pid = started.pids()[2]
    started.do("globals().update(second=cluster.workers[2])")
    started.do("second.kill('SIGKILL')")
    assert started.wait_to_hear("exit", 2) == ["exit", 2, pid, None, "SIGKILL", True, True]
    assert started.do("[second.is_dead(), second.is_connected(), second.exited_after_disconnect]") == [
        True,
        False,
        True,
    ]
    started.do("second.kill()")  # nobody is there any more, and nobody else is hit
    with pytest.raises(Raised, match="Disconnected"):
        started.do("second.send(1)")
    wait_until(lambda: started.pids().get(2) not in (None, pid), "another worker in slot 2")


def test_a_killed_worker_drains_by_default(started: Program) -> None:
    started.do("cluster.workers[1].kill()")
    assert started.wait_to_hear("exit", 1)[3:] == [0, None, True, True]


def test_disconnect_of_a_worker_lets_it_leave_when_its_successor_serves(started: Program) -> None:
    pid = started.pids()[1]
    started.do("globals().update(first=cluster.workers[1])")
    assert started.do("[first.is_connected(), first.is_dead(), first.exited_after_disconnect]") == [True, False, None]
    before = len(started.lines)
    started.do("first.disconnect()")
    assert started.wait_to_hear("exit", 1) == ["exit", 1, pid, 0, None, True, True]
    told = [line for line in started.lines[before:] if line.startswith("@ ")]
    kinds = [line.split('"')[1] for line in told if '"done"' not in line]
    assert kinds == ["fork", "online", "listening", "disconnect", "exit"]
    assert started.do("cluster.workers[1].is_connected()") is True
    assert started.do("cluster.workers[1].pid") not in (None, pid)


# ---- workers that serve nobody


def test_a_debugger_attaches_to_a_worker(tmp_path: Path) -> None:
    port = free_port()
    with program(tmp_path, settings={"workers": 1, "debug": {"port": port - 1}}) as started:
        assert started.do("cluster.workers[1].debug().result()") == f"127.0.0.1:{port}"
        with closing(Debugger(port)) as debugger:
            assert debugger.process["systemProcessId"] == started.pids()[1]
        started.do("cluster.setup(debug={'port': 'off'})")
        assert started.do("cluster.reload().result()") == 2
        with pytest.raises(Raised, match=r"RequestFailed.*debug\.port is off in generation 2"):
            started.do("cluster.workers[1].debug().result()")


def test_workers_may_run_a_function(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(
        "from clusterd import worker\n"
        "def main():\n"
        "    worker.send(worker.request('what').result())\n"
        "    worker.stop_event.wait()\n"
    )
    source = """
@cluster.on("message")
def heard(worker, message):
    say("message", worker.id, message)
    return ["task", worker.id]
"""
    settings = {"app": None, "run": "jobs:main", "listen": None}
    with program(tmp_path, settings=settings, source=source) as started:
        for slot in (1, 2):
            started.wait_to_hear("message", slot, ["task", slot])
        assert started.stop() == 0


def test_signals_stop_it_and_are_the_programs_again_afterwards(tmp_path: Path) -> None:
    epilogue = """
threading.Thread(target=obey, daemon=True).start()
status = cluster.run()
blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
say("ended", status, signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, sorted(blocked))
"""
    with program(tmp_path, epilogue=epilogue) as started:
        started.signal(signal.SIGINT)
        assert started.wait() == 0
        assert started.wait_to_hear("ended") == ["ended", 0, True, []]
