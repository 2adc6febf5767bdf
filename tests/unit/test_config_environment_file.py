"""The file of environment variables."""

from pathlib import Path

import pytest

from clusterd.cli.arguments import parse_arguments
from clusterd.config.changes import changes
from clusterd.config.reading.environment_file import parse_environment
from clusterd.config.reading.loader import load
from clusterd.config.reading.platform import notes
from clusterd.config.written import written
from tests.support.configurations import complaint, complaints, read, write

pytestmark = pytest.mark.engine_independent


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("\n  \n# A=1\n   # B=2", {}),
        ("A=1", {"A": "1"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("export A=1\n\texport  B = 2 ", {"A": "1", "B": "2"}),
        ("exported=1", {"exported": "1"}),
        ("A=\nB= # nothing", {"A": "", "B": ""}),
        ("A=one two # three", {"A": "one two"}),
        ("A=postgres://u:p#ss@h/db?x=1", {"A": "postgres://u:p#ss@h/db?x=1"}),
        ("A=cost$5\\n", {"A": "cost$5\\n"}),
        ("A='a # \\n ${B} \"'  # said", {"A": 'a # \\n ${B} "'}),
        (r'A="a # \n\t\"\\ \$x \d"', {"A": 'a # \n\t"\\ $x \\d'}),
        (r'A="\${B}"', {"A": "${B}"}),
        ("A='one\ntwo'\nB=\"three\n\nfour\"", {"A": "one\ntwo", "B": "three\n\nfour"}),
        ("A=1\nA=2", {"A": "2"}),
        ("A=it's", {"A": "it's"}),
    ],
)
def test_it_is_read_as_compose_and_dotenv_read_it(text: str, expected: dict[str, str]) -> None:
    found = parse_environment(text, "x.env")
    assert (found.variables, found.problems) == (expected, [])


NO_ASSIGNMENT = (
    "this is not NAME=VALUE (a name has letters, digits and _, and does not begin with a digit; "
    "a value of several lines needs quotes)"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A", [f"1: {NO_ASSIGNMENT}"]),
        ("A=1\nMIIE+pAIBAAKCAQEA==", [f"2: {NO_ASSIGNMENT}"]),
        ("\n=1\n1A=1", [f"2: {NO_ASSIGNMENT}", f"3: {NO_ASSIGNMENT}"]),
        ("A='1\nB=2\n", ["1: this quote has no end"]),
        ("A='1'2\nB=\"1\"#2", [f"{line}: text follows the closing quote (quote the whole value)" for line in (1, 2)]),
        (
            'A=${B}\nC="a${B}"\nD="\\\\${B}"',
            [
                f"{line}: ${{...}} is not replaced by a variable's value "
                "(write the value out; if these characters are meant, put it in single quotes)"
                for line in (1, 2, 3)
            ],
        ),
        ("A='1\n2'\nNOTIFY_SOCKET=x", ["3: NOTIFY_SOCKET is set by clusterd or systemd (choose another name)"]),
        ("CLUSTERD_WORKER=1", ["1: CLUSTERD_WORKER is set by clusterd or systemd (choose another name)"]),
        ("A=\0", ["1: a NUL cannot be part of an environment variable"]),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_never_its_value(text: str, expected: list[str]) -> None:
    problems = parse_environment(text, "x.env").problems
    assert [str(problem) for problem in problems] == [f"x.env:{each}" for each in expected]


def test_it_is_part_of_the_environment_and_what_the_configuration_says_goes_before_it(tmp_path: Path) -> None:
    (tmp_path / "x.env").write_text("A=file\nB=file\nC=file\n")
    config = read(tmp_path, "app: a:b\nenvironment_file: x.env\nenvironment: {A: section, B: section}")
    assert dict(config.environment) == {"A": "section", "B": "section", "C": "file"}
    flags = {"environment": ["A=flag"]}
    config = load(write(tmp_path, "app: a:b\nenvironment_file: x.env\nenvironment: {A: section}"), flags)
    assert dict(config.environment) == {"A": "flag", "B": "file", "C": "file"}


@pytest.mark.parametrize("flag", ["--env-file", "--env_file", "--environment-file", "--environment_file"])
def test_its_flag_has_the_name_that_it_has_elsewhere(flag: str) -> None:
    assert parse_arguments(["a:b", flag, "x.env"]).overrides == {"app": ("a:b",), "environment_file": ("x.env",)}


def test_its_problems_are_among_those_of_the_configuration(tmp_path: Path) -> None:
    text = "app: a:b\nenvironment_file: x.env\nthreads: -1\n"
    assert complaint(tmp_path, text.replace("threads: -1", "")) == (
        "x.env: there is no such file (environment_file names it; leave that out, or create the file)"
    )
    (tmp_path / "x.env").write_text("A\n")
    assert [line.partition(": ")[0] for line in complaints(tmp_path, text)] == ["x.env:1", "clusterd.yaml:3:10"]
    (tmp_path / "x.env").write_bytes(b"A=1\nB=\xff")
    assert complaints(tmp_path, text)[0] == "x.env:2:3: byte 0xff is not UTF-8 (save the file as UTF-8)"
    assert complaint(tmp_path, "app: a:b\nenvironment_file: .").endswith(": this is a directory (name the file in it)")


def test_platform_variables_in_it_are_defaults_before_those_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "x.env").write_text("PORT=5000\nWEB_CONCURRENCY=3\n")
    text, elsewhere = "app: a:b\nenvironment_file: x.env\n", {"listen": "0.0.0.0:9", "workers": "9"}
    config = load(write(tmp_path, text), defaults=elsewhere)
    assert ([str(each) for each in config.listen], config.workers) == (["0.0.0.0:5000"], 3)
    config = load(write(tmp_path, f"{text}listen: ['127.0.0.1:8005']"), {"workers": ["7"]}, elsewhere)
    assert ([str(each) for each in config.listen], config.workers) == (["127.0.0.1:8005"], 7)
    assert config.environment["PORT"] == "5000"
    (tmp_path / "x.env").write_text("A=1\nPORT=http\n")
    assert complaint(tmp_path, text).startswith("x.env:2: PORT is 'http' (it is the default of listen, which must be ")


def test_the_log_names_its_variables_without_their_values(tmp_path: Path) -> None:
    file = tmp_path / "x.env"
    file.write_text("SECRET=hunter2\nPORT=5000\n")
    assert notes({"listen": "0.0.0.0:9", "workers": "3"}, str(file)) == [
        f"the environment file {file} sets SECRET, PORT",
        f"PORT in {file}: the default of listen is 0.0.0.0:5000",
        "WEB_CONCURRENCY in the environment: the default of workers is 3",
    ]


def test_a_reload_tells_what_has_changed_in_it(tmp_path: Path) -> None:
    text = "app: a:b\nenvironment_file: x.env\n"
    (tmp_path / "x.env").write_text("A=1\nB=2\n")
    before = written(read(tmp_path, text))
    (tmp_path / "x.env").write_text("A=1\nB=3\n")
    [change] = changes(before, written(read(tmp_path, text)))
    assert [row["key"] for row in change.shown()] == ["environment.B"]
