"""Which files systemd has read for a unit at its start, and which of them have changed since."""

import os
from pathlib import Path

import pytest

from clusterd.systemd.start_files import StartFile, StartFiles, own_unit_path, read_answer

ANSWER_OF_252 = """\
{"type":"u","data":42}
{"type":"t","data":1795711928224454}
{"type":"a(sb)","data":[["/etc/app/env",false],["/etc/default/app",true]]}
{"type":"a(ss)","data":[["db","/etc/app/db"]]}
{"type":"a(ss)","data":[["key","key.cred"]]}
"""


@pytest.mark.parametrize(
    ("lines", "path"),
    [
        (
            ["4:memory:/\n", "1:name=systemd:/system.slice/app.service\n", "0::/system.slice/app.service\n"],
            "app.service",
        ),
        (["0::/system.slice/system-clusterd.slice/clusterd@shop.service\n"], "clusterd@shop.service"),
        (["0::/user.slice/user-1000.slice/session-2.scope\n"], None),
        (["0::/\n"], None),
        ([], None),
    ],
)
def test_the_unit_is_known_by_the_control_group(lines: list[str], path: str | None) -> None:
    found = own_unit_path(lines)
    assert (found and found.rpartition("/")[2]) == path


def test_the_answer_has_what_this_systemd_knows() -> None:
    files = read_answer(ANSWER_OF_252, "app.service", 42)
    assert files is not None
    assert files.started_at == pytest.approx(1795711928.224454)
    assert [file.setting for file in files.files] == [
        "EnvironmentFile=/etc/app/env",
        "EnvironmentFile=/etc/default/app",
        "LoadCredential=db:/etc/app/db",
        "LoadCredentialEncrypted=key:key.cred",
    ]
    newer = read_answer(ANSWER_OF_252 + '{"type":"as","data":["app.*"]}\n', "app.service", 42)
    assert newer is not None and newer.files[-1] == StartFile("ImportCredential=app.*", "")


@pytest.mark.parametrize("answer", ["", "no bus\n", "{}\n", ANSWER_OF_252[:40], "null\n" * 6])
def test_whatever_else_is_answered_says_nothing(answer: str) -> None:
    assert read_answer(answer, "app.service", 42) is None


def test_another_process_of_the_unit_is_not_told() -> None:
    assert read_answer(ANSWER_OF_252, "app.service", 43) is None


def test_what_has_changed_is_named_and_what_has_not_is_not(tmp_path: Path) -> None:
    old, new, target = tmp_path / "old.env", tmp_path / "new.env", tmp_path / "target"
    for path in (old, new, target):
        path.touch()
    (tmp_path / "creds").mkdir()
    started_at = max(path.stat().st_ctime for path in tmp_path.iterdir())
    files = StartFiles(
        "app.service",
        started_at,
        (
            StartFile("EnvironmentFile=old", str(old), is_pattern=True),
            StartFile("EnvironmentFile=none", str(tmp_path / "none"), is_optional=True, is_pattern=True),
            StartFile("EnvironmentFile=new", str(tmp_path / "n*.env"), is_pattern=True),
            StartFile("LoadCredential=link", str(tmp_path / "link")),
            StartFile("LoadCredential=dir", str(tmp_path / "creds")),
        ),
    )
    assert files.changed() == []
    for changed in (new, tmp_path / "creds" / "one"):
        changed.touch()
        os.utime(changed, (started_at + 10, started_at + 10))
    changed_lines = files.changed()
    assert [line.partition(" ")[0] for line in changed_lines] == ["EnvironmentFile=new", "LoadCredential=dir"]
    assert all("a reload does not read it, `systemctl restart app.service` does" in line for line in changed_lines)
    assert "LoadCredential=link: the values date from the start, " in (files.unseen() or "")


def test_what_can_not_be_seen_is_not_said_to_have_changed(tmp_path: Path) -> None:
    settings = ("EnvironmentFile=gone", str(tmp_path / "gone" / "env")), ("LoadCredential=key:key.cred", "key.cred")
    files = StartFiles("app.service", 0.0, tuple(StartFile(*each) for each in settings))
    assert files.changed() == []
    unseen = files.unseen()
    assert unseen is not None and unseen.startswith(
        "EnvironmentFile=gone, LoadCredential=key:key.cred: the values date"
    )
    assert StartFiles("app.service", 0.0, ()).unseen() is None
