"""Which application a setting names, and what is said where it names none."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from clusterd.app.application import LoadedApplication, load
from clusterd.app.errors import LoadError
from clusterd.config.model import Config, Interface
from tests.support.settings import DEFAULT

_NUMBERS = count()


class Package:
    """A directory to import from, with module names that no other test uses."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def module(self, text: str, name: str = "shop-{}") -> str:
        made = name.format(next(_NUMBERS))
        (self.directory / f"{made}.py").write_text(text)
        return made

    def load(self, reference: str, interface: Interface = Interface.AUTO) -> LoadedApplication:
        config: Config = replace(DEFAULT, app=reference, interface=interface)
        loaded = load(config)
        assert isinstance(loaded, LoadedApplication)
        return loaded


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield Package(tmp_path)
    for name in set(sys.modules) - before:
        del sys.modules[name]


WSGI = "def {}(environ, start_response): return ['{}']\n"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (WSGI.format("application", "application") + WSGI.format("app", "app"), "application"),
        (WSGI.format("app", "app"), "app"),
    ],
)
def test_a_module_alone_means_application_or_else_app(package: Package, text: str, answer: str) -> None:
    loaded = package.load(package.module(text))
    assert loaded.application({}, None) == [answer]
    assert loaded.interface is Interface.WSGI


def test_a_module_without_either_says_which_names_are_looked_for(package: Package) -> None:
    name = package.module("server = 1\n")
    with pytest.raises(LoadError, match="has no application or app: name what is the application, as in") as caught:
        package.load(name)
    assert caught.value.permanent


def test_the_nearest_name_in_the_module_is_told(package: Package) -> None:
    name = package.module(WSGI.format("app", "here"))
    with pytest.raises(LoadError, match="has no attribute 'aap'; did you mean app") as caught:
        package.load(f"{name}:aap")
    assert caught.value.permanent


def test_so_is_the_usual_name_and_a_module_of_a_package(package: Package) -> None:
    name = package.module(WSGI.format("application", "here"))
    with pytest.raises(LoadError, match="has no attribute 'app'; did you mean application"):
        package.load(f"{name}:app")
    (package.directory / "shop_of_modules").mkdir()
    for each in ("__init__", "wsgi"):
        (package.directory / "shop_of_modules" / f"{each}.py").touch()
    with pytest.raises(LoadError, match="wsgi is a module of that package: write shop_of_modules"):
        package.load("shop_of_modules:wsgi")


def test_a_module_may_have_a_hyphen(package: Package) -> None:
    name = package.module(WSGI.format("app", "here"), "my-shop-{}")
    assert package.load(f"{name}:app").application({}, None) == ["here"]


def test_a_plain_function_with_the_arguments_of_asgi_is_told_of_interface(package: Package) -> None:
    asynchronous = "async def answer(scope, receive, send): ...\n"
    name = package.module(f"{asynchronous}def app(scope, receive, send): return answer(scope, receive, send)\n")
    with pytest.raises(LoadError, match=r"takes \(scope, receive, send\).*write interface: asgi"):
        package.load(f"{name}:app")
    assert package.load(f"{name}:app", Interface.ASGI).interface is Interface.ASGI


def test_an_application_of_wsgi_is_told_of_interface_asgi(package: Package) -> None:
    name = package.module(WSGI.format("app", "here"))
    with pytest.raises(LoadError, match="it has those of WSGI: leave out interface"):
        package.load(name, Interface.ASGI)


def test_a_factory_in_a_module_alone_is_named_with_it(package: Package) -> None:
    name = package.module("def app(): ...\n")
    with pytest.raises(LoadError, match=rf"if it makes the application, write {name}:app\(\)"):
        package.load(name)


def test_a_factory_without_its_parentheses_is_told_of_them(package: Package) -> None:
    name = package.module("def make(): ...\n")
    with pytest.raises(LoadError, match=r"if it makes the application, write .*:make\(\)"):
        package.load(f"{name}:make")
