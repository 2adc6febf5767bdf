"""The page for browsers of a real service, in a real browser: during a rollout, during a crash, and on a telephone."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusterd.dashboard.model import parse
from tests.support.browser import Browser, browser, find
from tests.support.neighbours import needs
from tests.support.service import HELLO, Service, wait_until

pytestmark = pytest.mark.engine_independent

MakeService = Callable[..., Service]

STARTS = (
    HELLO
    + """
import threading
def start():
    directory = os.path.dirname(__file__)
    while os.path.exists(f"{directory}/wait"):
        threading.Event().wait(0.01)
    if os.path.exists(f"{directory}/fail-{os.environ['CLUSTERD_WORKER']}"):
        raise RuntimeError("no database at <10.0.0.5>")
"""
)
TELEPHONE = 390


@pytest.fixture
def service(make_service: MakeService) -> Service:
    service = make_service(workers=2, worker_start="app:start")
    service.deploy("1", STARTS)
    return service.start()


@pytest.fixture
def page(service: Service, tmp_path: Path) -> Iterator[Browser]:
    needs("chromium-headless-shell", "chromium-headless-shell")
    program = find()
    assert program is not None
    with browser(program, tmp_path / "profile") as opened:
        opened.size(1280)
        opened.prefer("light")
        opened.open(f"http://127.0.0.1:{service.metrics_port}/")
        yield opened
        assert not opened.complaints


def states(page: Browser) -> list[list[str]]:
    """The slot, the state and the generation of each row."""
    rows = "[...document.querySelectorAll('tbody tr:first-child')]"
    found: list[list[str]] = page.value(f"{rows}.map(row => [...row.cells].slice(0, 3).map(cell => cell.innerText))")
    return found


def fits(page: Browser) -> bool:
    """Whether nothing is wider than the window."""
    page.size(TELEPHONE)
    wide = page.value("document.documentElement.scrollWidth")
    page.size(1280)
    return bool(wide == TELEPHONE)


def test_a_browser_follows_a_rollout_and_a_crash(service: Service, page: Browser) -> None:
    assert states(page) == [["1", "ready", "1"], ["2", "ready", "1"]]
    assert fits(page)
    page.value("window.kept = true")
    (service.directory / "wait").touch()
    service.ask_to("reload", wait=False)
    page.wait_for("!!document.querySelector('.rollout .booting')")
    assert "Rollout of generation 2" in page.value("document.querySelector('.rollout').innerText")
    assert fits(page)
    (service.directory / "wait").unlink()
    page.wait_for("!document.querySelector('.rollout')")
    wait_until(lambda: states(page) == [["1", "ready", "2"], ["2", "ready", "2"]], "the new generation is shown")
    (service.directory / "fail-2").touch()
    service.ask_to("kill", slot=2, signal="KILL")
    said = page.wait_for("document.querySelector('tr.why')?.innerText")
    assert said.startswith("slot 2: next try in ") and said.count("no database at <10.0.0.5>") == 1
    assert page.value("getComputedStyle(document.querySelector('tr.why td')).color") == "rgb(179, 38, 30)"
    assert fits(page)
    assert page.value("kept"), "the page was not loaded again: its script has replaced what had changed"
    page.prefer("dark")
    assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(14, 18, 23)"


def test_a_browser_says_when_the_service_has_gone(service: Service, page: Browser) -> None:
    assert page.value("document.getElementById('stale').hidden")
    assert service.stop() == 0
    said = page.wait_for("!document.getElementById('stale').hidden && document.getElementById('stale').innerText")
    assert said.startswith("clusterd has not answered since ")
    # What the browser says of the request that has failed.
    page.complaints = [each for each in page.complaints if "ERR_CONNECTION_REFUSED" not in each]


def test_without_scripts_the_page_is_complete(service: Service, page: Browser) -> None:
    page.prefer("light", scripts=False)
    page.open(f"http://127.0.0.1:{service.metrics_port}/?again")
    assert states(page) == [["1", "ready", "1"], ["2", "ready", "1"]]
    assert page.value("document.querySelectorAll('.tile').length") == 6


def test_page_and_top_say_the_same_and_the_history_grows(service: Service) -> None:
    before = parse(service.ask_to("top")["data"])
    assert [(slot.number, slot.state) for slot in before.slots] == [(1, "ready"), (2, "ready")]
    for _ in range(10):
        service.ask()
    points = wait_until(lambda: parse(service.ask_to("top")["data"]).points[len(before.points) :], "a sample is taken")
    assert sum(point.rate for point in points) > 0
    document = service.metrics("/").text
    assert "None" not in document
    for worker in service.workers():
        assert f">{worker['pid']}<" in document
