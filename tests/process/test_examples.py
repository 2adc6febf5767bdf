"""The examples do what their READMEs say."""

from pathlib import Path

from tests.process.service import Service

EXAMPLES = Path(__file__).parents[2] / "examples"


class Tasks(Service):
    """The program of examples/messages, with a control socket of its own."""

    below = 30_000

    @property
    def arguments(self) -> tuple[str, ...]:
        return str(EXAMPLES / "messages/tasks.py"), str(self.below)


def test_messages_distributes_tasks_and_those_of_a_dead_worker_anew(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path, environment={"XDG_RUNTIME_DIR": str(tmp_path), "RUNTIME_DIRECTORY": ""})
    tasks.below = 400_000
    tasks.control = tmp_path / "clusterd/control.sock"
    try:
        tasks.start(wait=False)
        tasks.wait_for_line("worker ready.*slot=2")
        for signal in ("STOP", "KILL"):  # stopped, it does not get through with what it has
            assert tasks.ask_to("kill", slot=2, signal=signal)["succeeded"]
        tasks.wait_for_line("^33860 primes below 400000$")
        assert tasks.wait() == 0
        assert "worker 2 has ended (SIGKILL): its task is another's" in tasks.log()
    finally:
        tasks.destroy()
        print(tasks.log())
