"""What is written twice, because two worlds read it, says the same twice."""

import configparser
import re
import runpy
import tomllib
from pathlib import Path

import pytest

import clusterd
from clusterd.cli.after_stop import OTHERS_SECONDS
from clusterd.http import compilation
from clusterd.linux.wakeups import WAKEUPS
from clusterd.metrics.shared.scoreboard import MAXIMUM_ROWS
from clusterd.systemd.descriptor_store import MOST_BYTES_OF_NAMES, Kind
from clusterd.wire.messages import MOST_LISTENERS
from tests.support.interpreters import SUPPORTED

pytestmark = pytest.mark.engine_independent

_REPOSITORY = Path(__file__).parents[2]


def test_the_manual_page_of_the_settings_is_current() -> None:
    module = runpy.run_path(str(_REPOSITORY / "packaging/settings_manual.py"))
    assert module["MANUAL"].read_text(encoding="utf-8") == module["manual"](), "run `make docs`"


def test_the_reference_of_the_metrics_is_current() -> None:
    module = runpy.run_path(str(_REPOSITORY / "packaging/metrics_manual.py"))
    assert module["MANUAL"].read_text(encoding="utf-8") == module["manual"](), "run `make docs`"


def test_the_completions_are_those_of_the_command_line() -> None:
    module = runpy.run_path(str(_REPOSITORY / "packaging/completions.py"))
    for path, text in module["files"]().items():
        assert path.read_text(encoding="utf-8") == text, "run `make docs`"


def test_the_package_has_the_version_of_the_program() -> None:
    first = (_REPOSITORY / "debian/changelog").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith(f"clusterd ({clusterd.__version__}) ")


def test_the_locked_requirements_are_those_of_the_metadata() -> None:
    metadata = configparser.ConfigParser()
    metadata.read(_REPOSITORY / "setup.cfg")
    wanted = {_name(line) for line in metadata["options"]["install_requires"].split("\n") if line}
    listed = _named("requirements/run.in")
    locked = _named("requirements/run.txt")
    assert wanted == listed
    assert wanted <= locked


def test_the_package_depends_on_what_the_metadata_requires() -> None:
    control = (_REPOSITORY / "debian/control").read_text(encoding="utf-8")
    metadata = configparser.ConfigParser()
    metadata.read(_REPOSITORY / "setup.cfg")
    required = metadata["options"]["install_requires"] + metadata["options.extras_require"]["systemd"]
    for line in required.split("\n"):
        if line:
            debian = _name(line).removesuffix("-python").replace("pyyaml", "yaml")
            assert f"python3-{debian}" in control


def test_what_pip_builds_with_is_what_the_package_is_compiled_with() -> None:
    """`make lock` changes the versions of the one, and not those of the other."""
    wanted = tomllib.loads((_REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    locked = (_REPOSITORY / "requirements/compile.txt").read_text(encoding="utf-8")
    assert {_name(each) for each in wanted} == _named("requirements/compile.in")
    for requirement in wanted:
        if not requirement.startswith("setuptools>="):
            assert f"\n{requirement} " in f"\n{locked}", (
                "write the version of requirements/compile.txt to pyproject.toml"
            )


def test_what_is_optional_is_an_extra_and_suggested_by_the_package() -> None:
    metadata = configparser.ConfigParser()
    metadata.read(_REPOSITORY / "setup.cfg")
    extras = {name: _name(lines.strip()) for name, lines in metadata["options.extras_require"].items()}
    assert extras.pop("systemd") == "systemd-python"  # The package depends on it: its units pass sockets.
    assert extras == {"debug": "debugpy"}
    control = (_REPOSITORY / "debian/control").read_text(encoding="utf-8")
    assert "Suggests: " + ", ".join(f"python3-{name}" for name in sorted(extras.values())) in control


def test_the_readme_says_what_an_interpreted_engine_costs_as_the_program_does() -> None:
    assert compilation.COST in (_REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_every_supported_python_is_in_the_metadata() -> None:
    metadata = (_REPOSITORY / "setup.cfg").read_text(encoding="utf-8")
    listed = re.findall(r"Programming Language :: Python :: (\d+)\.(\d+)", metadata)
    assert [(int(major), int(minor)) for major, minor in listed] == list(SUPPORTED)


def test_the_licence_of_the_package_and_of_the_metadata_is_that_of_the_program() -> None:
    name, copyright_line, *terms = (_REPOSITORY / "LICENSE").read_text(encoding="utf-8").split("\n\n")
    metadata = configparser.ConfigParser()
    metadata.read(_REPOSITORY / "setup.cfg")
    assert name == f"{metadata['metadata']['license_expression']} License"
    package = (_REPOSITORY / "debian/copyright").read_text(encoding="utf-8")
    holder = copyright_line.removeprefix("Copyright (c) ")
    assert f"\nFiles: *\nCopyright: {holder}\nLicense: Expat\n" in package  # as Debian calls it
    _, expat = package.split("\nLicense: Expat\n ")
    assert " ".join("\n".join(terms).split()) in " ".join(expat.replace("\n .\n", "\n").split())


def test_no_index_address_is_recorded_in_the_locks() -> None:
    for lock in (_REPOSITORY / "requirements").glob("*.txt"):
        assert "://" not in lock.read_text(encoding="utf-8")


def _named(path: str) -> set[str]:
    lines = (_REPOSITORY / path).read_text(encoding="utf-8").splitlines()
    return {_name(line) for line in lines if line[:1].isalpha()}


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9-]", requirement, maxsplit=1)[0].lower()


def test_every_restriction_of_the_units_and_every_drop_in_is_explained() -> None:
    explained = (_REPOSITORY / "docs/security.md").read_text()
    for unit in ("clusterd.service", "clusterd@.service"):
        _, _, sandbox = (
            (_REPOSITORY / "packaging/systemd" / unit).read_text().partition("# Sandboxing of the application.")
        )
        names = re.findall(r"^([A-Z]\w+)=", sandbox.partition("[Install]")[0], re.MULTILINE)
        assert len(names) > 15
        assert [name for name in names if f"`{name}=" not in explained and name != "SystemCallErrorNumber"] == []
    drop_ins = sorted((_REPOSITORY / "packaging/hardening").iterdir())
    assert len(drop_ins) > 2
    for path in drop_ins:
        assert f"`{path.name}`" in explained
        lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
        assert lines[0] == "[Service]"
        assert all(re.fullmatch(r"[A-Z]\w+=\S.*", line) for line in lines[1:])


@pytest.mark.parametrize("unit", ["clusterd.service", "clusterd@.service"])
def test_systemd_keeps_as_many_descriptors_as_there_can_be(unit: str) -> None:
    """A descriptor that it drops is a process that ends when the master dies."""
    text = (_REPOSITORY / "packaging/systemd" / unit).read_text()
    (most,) = map(int, re.findall(r"^FileDescriptorStoreMax=(\d+)$", text, re.MULTILINE))
    for_each_process = 2  # its channel and its stacks
    without_rows = 16  # templates and spares of all generations
    shared = 5  # the scoreboard, the arena, its journal, the state, and the next state while it replaces this one
    needed = for_each_process * (MAXIMUM_ROWS + without_rows) + WAKEUPS + MOST_LISTENERS + shared
    assert needed <= most <= needed + 200
    # Their names fit the one variable in which they are passed, also after a hundred thousand workers.
    assert most * len(f"{Kind.CHANNEL}-100000:") <= MOST_BYTES_OF_NAMES


@pytest.mark.parametrize("unit", ["clusterd.service", "clusterd@.service"])
def test_a_start_leaves_the_sockets_of_the_workers_as_they_are(unit: str) -> None:
    """systemd clears O_NONBLOCK of the open files otherwise, which workers of the last master share."""
    assert "\nNonBlocking=yes\n" in (_REPOSITORY / "packaging/systemd" / unit).read_text()


@pytest.mark.parametrize("unit", ["clusterd.service", "clusterd@.service"])
def test_what_is_left_is_ended_before_systemd_loses_its_patience(unit: str) -> None:
    text = (_REPOSITORY / "packaging/systemd" / unit).read_text()
    (drain,) = map(int, re.findall(r"^ExecStopPost=-/usr/lib/clusterd/clusterd-after-stop (\d+)$", text, re.MULTILINE))
    (patience,) = map(int, re.findall(r"^TimeoutStopSec=(\d+)s$", text, re.MULTILINE))
    assert drain + OTHERS_SECONDS < patience
