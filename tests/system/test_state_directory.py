"""Where the application may write: a directory of its own, by the environment variable that names it."""

import stat

from tests.support.machines.asking import ask, ask_unix
from tests.support.machines.deployment import CONFIG, CURRENT, configure, deploy
from tests.support.machines.machine import Machine

# An SQLite database, as docs/deploying.md shows it.
COUNTS = """\
import os, sqlite3

PATH = os.path.join(os.environ["CLUSTERD_STATE_DIRECTORY"], "counts.db")
with sqlite3.connect(PATH) as database:
    database.execute("create table if not exists visits (at text)")


def app(environ, start_response):
    with sqlite3.connect(PATH) as database:
        database.execute("insert into visits values (datetime())")
        (count,) = database.execute("select count(*) from visits").fetchone()
    body = f"{PATH} {count}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
INSTANCE = f"app: application:app\ndirectory: {CURRENT}\nworkers: 1\n"


def test_what_an_application_writes_outlives_reload_restart_and_removal(machine: Machine) -> None:
    deploy(machine, "counts", COUNTS)
    configure(machine, CONFIG)
    machine.systemctl("start", "clusterd")
    path = "/var/lib/clusterd/counts.db"
    assert ask(machine).text == f"{path} 1"
    machine.systemctl("reload", "clusterd")
    assert ask(machine).text == f"{path} 2"
    machine.systemctl("restart", "clusterd")
    assert ask(machine).text == f"{path} 3"
    directory = (machine.root / "var/lib/clusterd").stat()
    assert stat.S_IMODE(directory.st_mode) == 0o750
    assert str(directory.st_uid) == machine.run("id", "--user", "clusterd").stdout.strip()
    purged = machine.run("dpkg", "--purge", "clusterd")
    assert "/var/lib/clusterd has files of an application and is left" in purged.stdout
    assert (machine.root / path.lstrip("/")).exists()


def test_each_instance_has_one_of_its_own(machine: Machine) -> None:
    deploy(machine, "counts", COUNTS)
    for name in ("shop", "blog"):
        configure(machine, INSTANCE, name)
        machine.systemctl("start", f"clusterd@{name}.socket")
        assert ask_unix(machine, f"/run/clusterd-{name}.http.sock").text == f"/var/lib/clusterd-{name}/counts.db 1"


def test_several_directories_and_the_first_is_named(machine: Machine) -> None:
    machine.write(
        "/etc/systemd/system/clusterd.service.d/state.conf",
        "[Service]\nStateDirectory=\nStateDirectory=shop shop-uploads\n",
    )
    machine.systemctl("daemon-reload")
    deploy(machine, "counts", COUNTS)
    configure(machine, CONFIG)
    machine.systemctl("start", "clusterd")
    assert ask(machine).text == "/var/lib/shop/counts.db 1"
    assert (machine.root / "var/lib/shop-uploads").is_dir()


def test_removing_it_removes_a_directory_that_is_empty(machine: Machine) -> None:
    machine.systemctl("start", "clusterd")
    assert (machine.root / "var/lib/clusterd").is_dir()
    machine.run("dpkg", "--purge", "clusterd")
    assert not (machine.root / "var/lib/clusterd").exists()
