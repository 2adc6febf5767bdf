from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterd.config import marks
from clusterd.config.model import (
    Config,
)
from clusterd.config.reading.document import parse_document
from clusterd.config.reading.files import LARGEST_FILE
from clusterd.config.reading.loader import ConfigError, load
from clusterd.config.reading.problems import Problem
from tests.support.configurations import complaint, complaints

pytestmark = pytest.mark.engine_independent

COUNT = "a whole number from 1 to 1024, auto, or a range such as {min: 2, max: 8}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wokers: 4", "1:1: wokers: unknown setting (did you mean 'workers'?)"),
        ("timeouts:\n  drian: 4s", "2:3: timeouts.drian: unknown setting (did you mean 'drain'?)"),
        ("root-path: /x", "1:1: root-path: unknown setting (did you mean 'root_path'?)"),
        ("drain: 4s", "1:1: drain: unknown setting (did you mean 'timeouts.drain'?)"),
        (
            "timeouts.drain: 4s",
            "1:1: timeouts.drain: unknown setting (in a file, write timeouts: and below it, indented, drain:)",
        ),
        (
            "log: {zzz: 1}",
            "1:7: log.zzz: unknown setting (known here are level, format, repeats, access, access_format, slow, ",
        ),
        (
            'log: {access_format: "{methd}"}',
            "1:22: log.access_format: found '{methd}', must be one of fields, common, ",
        ),
        ('log: {access_format: "{method"}', "a brace that is text is written twice: {{ or }}"),
        ("log: {access_format: apache}", "apache is no name of a format, and has no field like {method}"),
        ('"a\\nb": 1', "1:1: 'a\\nb': unknown setting (known here are app, run, interface, "),
        ("<<: {threads: 4}", "1:1: <<: unknown setting (known here are app, run, interface, "),
        ("threads: 2\nthreads: 3", "2:1: threads: given twice (it is already in line 1: keep one of them)"),
        ("threads: many", "1:10: threads: found 'many', must be a whole number from 0 to 1024"),
        ("threads: -3", "1:10: threads: found -3, must be a whole number from 0 to 1024 (too small)"),
        ("threads: 1025", "1:10: threads: found 1025, must be a whole number from 0 to 1024 (too large)"),
        ("threads: 010", "1:10: threads: found 010, must be a whole number from 0 to 1024 (without leading zeros"),
        ("threads: 4.0", "1:10: threads: found 4.0, must be a whole number from 0 to 1024"),
        ('threads: "4"', "1:10: threads: found '4', must be a whole number from 0 to 1024 (without quotes)"),
        ("threads: [4]", "1:10: threads: found a list, must be a whole number from 0 to 1024"),
        ("threads:", "1:9: threads: found nothing, must be a whole number from 0 to 1024 (leave the line out for the"),
        ("threads: null", "1:10: threads: found null, must be a whole number from 0 to 1024 (leave the line out for"),
        ("threads: " + "9" * 5000, "1:10: threads: found 99999"),
        ("workers: 0", f"1:10: workers: found 0, must be {COUNT} (too small)"),
        ("workers: Auto", f"1:10: workers: found 'Auto', must be {COUNT} (write auto)"),
        ("workers: two", f"1:10: workers: found 'two', must be {COUNT}"),
        ("workers: [2, 8]", f"1:10: workers: found a list, must be {COUNT}"),
        ("workers: 8-2", "1:10: workers: found '8-2', must be " + COUNT + " (min is 8 and max is 2: raise max, or "),
        ("workers: 0-2", f"1:10: workers: found '0-2', must be {COUNT} (too small)"),
        ("workers: {min: 2}", "1:10: workers.max: is missing (write a whole number from 1 to 1024, or auto)"),
        ("workers:\n  min: 9\n  max: 8", "2:3: workers: min is 9 and max is 8: raise max, or lower min"),
        ("workers: {min: 0, max: 8}", "1:16: workers.min: found 0, must be a whole number from 1 to 1024 (too small)"),
        (
            "workers: {min: 1, max: 1025}",
            "1:24: workers.max: found 1025, must be a whole number from 1 to 1024, or auto",
        ),
        (
            "workers: {min: '2', max: 8}",
            "1:16: workers.min: found '2', must be a whole number from 1 to 1024 (without ",
        ),
        ("workers: {min: auto, max: 8}", "1:16: workers.min: found 'auto', must be a whole number from 1 to 1024"),
        ("workers: {min: 1.5, max: 8}", "1:16: workers.min: found 1.5, must be a whole number from 1 to 1024"),
        ("workers: {min: {a: 1}, max: 8}", "1:16: workers.min: found a section (keys and values), must be a whole"),
        ("workers: {min: 2, max: 8, mx: 3}", "1:27: workers.mx: unknown setting (did you mean 'max'?)"),
        (
            "workers: {min: 2, max: 8, idle: 3s}",
            "1:27: workers.idle: unknown setting (known here are min, max, shrink_",
        ),
        (
            "workers: {min: 2, max: 8, shrink_after: 3}",
            "1:41: workers.shrink_after: found 3, must be a duration from 1s",
        ),
        ("workers: {min: 2, min: 3, max: 8}", "1:19: workers.min: given twice"),
        ("scheduling: random", "found 'random', must be least_connections, round_robin or shared"),
        ("preload: True", "1:10: preload: found True, must be auto, true or false (write true)"),
        ("preload: yes", "1:10: preload: found 'yes', must be auto, true or false"),
        ("log: {access: false}", "1:15: log.access: found false, must be off, errors, slow or all"),
        (
            "metrics: false",
            "1:10: metrics: found false, must be an address: host:port, [v6]:port or unix:/path, or off",
        ),
        ("metrics: OFF", "or off (write off)"),
        ("metrics: [a]", "1:10: metrics: found a list, must be an address"),
        ("metrics:\n  address: 8001", "2:12: metrics.address: found 8001, must be an address: host:port"),
        ("metrics: {application: no}", "1:24: metrics.application: found 'no', must be off or on"),
        ("metrics: {series: 0}", "1:19: metrics.series: found 0, must be a whole number from 1 to 100000 (too small)"),
        ("metrics: {adress: off}", "1:11: metrics.adress: unknown setting (did you mean 'address'?)"),
        ("metrics: 127.0.0.1:8000", "1:10: metrics: 127.0.0.1:8000 is one of listen too"),
        ("timeouts: {drain: 30}", "1:19: timeouts.drain: found 30, must be a duration from 100ms to 24h (the unit is"),
        ("timeouts: {drain: 30}", "(the unit is missing: write 30s)"),
        ("timeouts: {drain: 1:30}", "found '1:30', must be a duration from 100ms to 24h (write a number and a unit"),
        ("timeouts: {drain: 5 s}", "(the units are ms, s, m or h, right behind the number, as in 5s)"),
        ("timeouts: {drain: 25h}", "found '25h', must be a duration from 100ms to 24h (too large)"),
        ("timeouts: {drain: 5s, drain_idle: 6s}", "1:35: timeouts.drain_idle: 6 s is longer than timeouts.drain (5 s)"),
        ("timeouts: 5s", "1:11: timeouts: found '5s', must be a section (keys and values)"),
        ("limits: {body: 16MB}", "1:16: limits.body: found '16MB', must be a size from 0 to 1T (write 16M)"),
        ("limits: {body: 1.5G}", "limits.body: found '1.5G', must be a size from 0 to 1T (write a whole number"),
        ("limits: {max_memory: 1K}", "must be a size from 16M to 1T, or 0 for no limit (too small)"),
        ("listen: 127.0.0.1:80", "1:9: listen: found '127.0.0.1:80', must be a list, each item an address: host:port"),
        ("listen: 127.0.0.1:80", '(write ["127.0.0.1:80"])'),
        ("listen: [8000]", "1:10: listen[0]: found 8000, must be an address"),
        ("listen: [8000]", "(a host is missing: 127.0.0.1:8000 for this machine"),
        ('listen: ["a:1", "a:1"]', "1:9: listen: a:1 is given twice (keep one of them)"),
        ('listen: ["127.0.0.1:8001"]', "metrics: 127.0.0.1:8001 is one of listen too (give it an address of its own"),
        ('listen: ["0.0.0.0:8001"]', "metrics: 127.0.0.1:8001 is one of listen too"),
        ('listen: ["http://a:80/"]', "(without the scheme: a:80)"),
        ("rollout: {health_check: /up}", "must be a section (keys and values) (such as {path: /up})"),
        ("environment: [A=b]", "must be a section of names and values (write {A: b})"),
        ("environment:\n  A=b", "must be a section of names and values (write {A: b})"),
        ("timeouts:\n  drain:30s", "(with a space after the colon: drain: 30s)"),
        ('tls: {listen: ["a:1"]}', "tls.certificate: tls.listen is given, and no certificate (name its file in tls"),
        ("tls: {key: credential:a}", "1:12: tls.certificate: tls.key is given, and no certificate"),
        (
            "tls: {certificate: 'credential:'}",
            "1:20: tls.certificate: found 'credential:', must be a path, or credential",
        ),
        ("tls: {certificate: /none.pem}", "1:20: tls.certificate: /none.pem does not exist"),
        ("tls: {certificate: /etc}", "1:20: tls.certificate: /etc is not a file"),
        ("tls: {minimum_version: 1.1}", "1:24: tls.minimum_version: found 1.1, must be 1.2 or 1.3"),
        (
            'listen: ["a:1"]\ntls: {listen: ["a:1"], certificate: "credential:a"}',
            "2:15: tls.listen: a:1 is one of listen too (HTTP and HTTPS need one each)",
        ),
        (
            'tls: {listen: ["127.0.0.1:8001"], certificate: "credential:a"}',
            "metrics: 127.0.0.1:8001 is one of tls.listen too",
        ),
        (
            "unix_sockets: {mode: 660}",
            "1:22: unix_sockets.mode: found 660, must be a mode from 0000 to 0777 (write four",
        ),
        ("unix_sockets: {mode: 0o660}", "unix_sockets.mode: found 0o660, must be a mode"),
        ("unix_sockets: {owner: nobodyhere}", "1:23: unix_sockets.owner: there is no user 'nobodyhere'"),
        ("unix_sockets: {group: nobodyhere}", "1:23: unix_sockets.group: there is no group 'nobodyhere'"),
        ("unix_sockets: {owner: a b}", "1:23: unix_sockets.owner: found 'a b', must be a name, or null"),
        (f"control: /{'a' * 107}", "(the path is 108 bytes long, and the system allows 107)"),
        ('listen: ["unix:/a"]\ncontrol: /a', "2:10: control: /a is one of the other addresses too"),
        ("root_path: /", "1:12: root_path: found '/', must be \"\", or a path that begins with /"),
        ("root_path: shop", "(write /shop)"),
        ("root_path: 5", "found 5, must be"),
        (
            "directory: ~/shop",
            "1:12: directory: found '~/shop', must be a path (~ is not expanded: write the whole path)",
        ),
        ("directory: nowhere", "1:12: directory: nowhere does not exist"),
        ("directory: clusterd.yaml", "1:12: directory: clusterd.yaml is not a directory"),
        ("python: /", "1:9: python: / is not an interpreter"),
        ("environment: [A]", "1:14: environment: found a list, must be a section of names and values"),
        ("environment: {A: [1]}", "1:18: environment.A: found a list, must be text"),
        ("environment: {1A: x}", "1:15: environment.1A: found '1A', must be a name of letters, digits and _ that"),
        ("environment: {LISTEN_FDS: 3}", "environment.LISTEN_FDS: LISTEN_FDS is set by clusterd or systemd (choose"),
        *(
            (f"environment: {{{name}: x}}", f"environment.{name}: {name} is set by clusterd or systemd (choose")
            for name in sorted(marks.ALL)
        ),
        ("rollout: {health_check: {host: a}}", "1:11: rollout.health_check.path: is missing"),
        ("rollout: {health_check: {path: x}}", "found 'x', must be a path that begins with /"),
        ("rollout: {health_check: {path: /, expect: 299}}", "found 299, must be a status like 204, or a class of them"),
        (
            "rollout: {boot_timeout: 1s, health_check: {path: /, timeout: 2s}}",
            "rollout.health_check.timeout: 2 s is longer than rollout.boot_timeout (1 s)",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_and_its_cure(tmp_path: Path, text: str, expected: str) -> None:
    # `app` comes last so that lines and columns are those of `text`.
    assert expected in complaint(tmp_path, f"{text}\napp: a:b\n")


@pytest.mark.parametrize(
    ("app", "hint"),
    [
        ("shop.py:app", "(a module, not a file: write shop:app)"),
        ("shop/wsgi.py", "(a module, not a file: write shop.wsgi)"),
        ("shop:make(1)", "must be module:attribute, module:factory() or module"),
        ("__main__:app", "(workers import it: write the name of the file's module, as in myapp:app for myapp.py)"),
        ("5", "found 5, must be module:attribute, module:factory() or module"),
    ],
)
def test_the_application_is_a_reference(tmp_path: Path, app: str, hint: str) -> None:
    assert hint in complaint(tmp_path, f"app: {app}\n")


def test_a_dangling_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("gone")
    assert "does not exist (a symbolic link to gone, which does not exist)" in complaint(
        tmp_path, "app: a:b\ndirectory: current\n"
    )


def test_a_virtual_environment_is_not_its_interpreter(tmp_path: Path) -> None:
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python").touch()
    assert "is not an interpreter (write venv/bin/python)" in complaint(tmp_path, "app: a:b\npython: venv\n")


def test_all_problems_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "threads: x\nwokers: 1\nlisten: [1, 2]\nlog: {level: loud}\n"
    starts = [line.split(" ")[0] for line in complaints(tmp_path, text)]
    assert starts == [
        "clusterd.yaml:1:10:",
        "clusterd.yaml:2:1:",
        "clusterd.yaml:3:10:",
        "clusterd.yaml:3:13:",
        "clusterd.yaml:4:14:",
        "clusterd.yaml:",
    ]


def test_what_does_not_go_together_is_told_beside_other_problems(tmp_path: Path) -> None:
    text = "app: a:b\nrun: c:d\nwokers: 1\ntimeouts: {drain: 1s, drain_idle: 2s}\nlisten: [x]\ntls: {key: nowhere}\n"
    starts = [line.split(" ")[0] for line in complaints(tmp_path, text)]
    assert starts == [f"clusterd.yaml:{place}:" for place in ("2:6", "3:1", "4:35", "5:10", "6:12", "6:12")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "there is no setting in this file (at least name the application, as in app: myapp:app)"),
        ("# nothing\n---\n", "there is no setting in this file"),
        ("{}", "clusterd.yaml: app is missing (write module:attribute, module:factory() or module)"),
        ("just text", "1:1: found 'just text' where settings were expected"),
        ("- a", "1:1: found a list where settings were expected"),
        ("app: a:b\n\tthreads: 1", "2:1: this is not YAML: found character '\\t'"),
        ("app: a:b\n\tthreads: 1", "(indent with spaces, never with tabs)"),
        ("app: a: b", "1:7: this is not YAML: mapping values are not allowed here (quote text that contains ': '"),
        ("listen: [a\nb: 1", "in what starts in line 1"),
        ("app: a:b\n---\napp: c:d", "2:1: a second document starts here"),
        ("app: &x a:b", "1:6: app: anchors (&name) and aliases (*name) are not supported"),
        ("app: *x", "1:6: app: anchors"),
        ("&x app: 1", "1:1: anchors"),
        ("app: !!python/name:os.system", "1:6: app: the tag 'tag:yaml.org,2002:python/name:os.system' is not"),
        ("{{ app }}: 1", "found a list or section where a key was expected"),
        ("a: " + "[" * 100_000, "nested deeper than 8 levels"),
        ('app: "\\0"', "1:6: app: a NUL or half a surrogate pair"),
        ('app: "\\ud800"', "1:6: app: a NUL or half a surrogate pair"),
        ('app: "\\UFFFFFFFF"', "an escape stands for no character"),
        ("app: \x07", "1:6: the character '\\x07' is not allowed"),
        (b"app: a:b\n# caf\xe9\n", "2:6: byte 0xe9 is not UTF-8 (save the file as UTF-8)"),
        (b"# \xc3\xa9\xff", "1:4: byte 0xff is not UTF-8"),
        ("#" * (LARGEST_FILE + 1), "larger than 256K (is this the configuration?)"),
    ],
)
def test_what_is_no_configuration_is_refused_clearly(tmp_path: Path, text: str | bytes, expected: str) -> None:
    assert expected in complaint(tmp_path, text)


def test_what_is_no_file_is_refused_clearly(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml: there is no such file \(name another with --config"):
        load(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match=r"this is a directory \(name the file in it\)"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="this is not a regular file"):
        load(Path("/dev/null"))


YAML_PIECES = st.sampled_from(
    [
        *("app: a:b\n", "threads", ": ", "\n", "  ", "- ", "[", "]", "{", "}", "'", '"', "\\", "&a ", "*a", "!t "),
        *("|", ">", "\t", "timeouts:\n", "  drain: ", "5s", "null", "%", "---\n", "...\n", "? ", "# ", "\ufeff"),
        *("\x85", "é", ",", "environment:\n"),
    ]
)


@settings(max_examples=400, database=None, derandomize=True)
@given(st.lists(YAML_PIECES | st.text(max_size=3), max_size=25).map("".join))
def test_no_text_ends_in_anything_but_problems_of_one_line(text: str) -> None:
    problems: list[Problem] = []
    try:
        parse_document(text, "clusterd.yaml", "/", problems)
    except ConfigError as error:
        problems.extend(error.problems)
    for problem in problems:
        assert len(str(problem).splitlines()) == 1


@settings(max_examples=200, database=None, derandomize=True)
@given(
    st.lists(st.tuples(st.sampled_from(["threads", "app", "timeouts", "environment", "listen"]), st.text(max_size=9)))
)
def test_any_value_is_taken_or_refused(tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in lines), encoding="utf-8", errors="replace")
    try:
        assert isinstance(load(path), Config)
    except ConfigError as error:
        assert error.problems
        assert all(len(str(problem).splitlines()) == 1 for problem in error.problems)
