"""The application's own metrics, of an application that uses prometheus_client as anybody does."""

import os
import re
import signal
from collections import Counter
from collections.abc import Callable

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.support.service import Service, wait_until

MakeService = Callable[..., Service]
Series = tuple[str, frozenset[tuple[str, str]]]

UNPACED = {"burst": 1000, "per": "1s"}
REPLACEMENTS = 200

SHOP = """
import os, threading, time
from prometheus_client import REGISTRY, Counter, Enum, Gauge, Histogram, Info, Summary, generate_latest
IMPORTED = Counter("shop_imported", "Counted at import."); IMPORTED.inc(7)
ORDERS = Counter("shop_orders", "Orders.", ["kind"])
SECONDS = Histogram("shop_seconds", "Seconds.", buckets=(0.1, 1))
BYTES = Summary("shop_bytes", "Bytes.")
MODES = ("all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent")
GAUGES = {mode: Gauge(f"shop_{mode}", mode, multiprocess_mode=mode) for mode in MODES}
PRICE = Gauge("shop_price", "Set at import."); PRICE.set(5)
LABELLED = Gauge("shop_labelled", "Has a label worker.", ["worker"]); LABELLED.labels("w").set(1)
Info("shop_build", "Build.").info({"version": "3"})
STATE = Enum("shop_state", "State.", states=["open", "closed"])
Gauge("shop_pid", "By a function.").set_function(os.getpid)
Counter("clusterd_generation", "Another one's name.").inc()
Counter("shop_unregistered", "In no registry.", registry=None).inc()

def app(environ, start_response):
    path, _, number = environ["PATH_INFO"].strip("/").partition("/")
    body = b"%d" % os.getpid()
    if path == "metrics":
        body = generate_latest(REGISTRY)
    elif path == "order":
        ORDERS.labels("book").inc(); SECONDS.observe(0.05); SECONDS.observe(0.5); BYTES.observe(3)
    elif path == "late":
        if "LATE" not in globals():
            globals()["LATE"] = Counter("shop_late", "Made during a request.")
        LATE.inc()
    elif path == "set":
        for gauge in GAUGES.values():
            gauge.set(float(number))
    elif path == "hang":
        time.sleep(600)
    elif path == "many":
        for index in range(int(number)):
            ORDERS.labels(f"kind{index}").inc()
    elif path == "fork":
        child = os.fork()
        if child == 0:
            ORDERS.labels("child").inc()
            os._exit(0)
        os.waitpid(child, 0)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def page_of(text: str) -> dict[Series, float]:
    """Every series of a page, by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def series(name: str, **labels: str) -> Series:
    return name, frozenset(labels.items())


def scrape(service: Service) -> dict[Series, float]:
    return page_of(service.metrics().text)


def total(page: dict[Series, float], name: str) -> float:
    return sum(value for (found, _), value in page.items() if found == name)


@pytest.fixture
def shop(make_service: MakeService) -> Service:
    service = make_service(restarts=UNPACED)
    service.deploy("1", SHOP)
    return service


def kill(service: Service, slot: int) -> None:
    """Kill the worker of a slot, and wait for its successor."""
    (worker,) = [each for each in service.workers() if each["slot"] == slot]
    os.kill(worker["pid"], signal.SIGKILL)

    def replaced() -> bool:
        ready = [each for each in service.workers() if each["slot"] == slot]
        return bool(ready) and ready[0]["pid"] != worker["pid"]

    wait_until(replaced, "the successor")


def counters(page: dict[Series, float]) -> dict[Series, float]:
    return {key: value for key, value in page.items() if key[0].endswith(("_total", "_count", "_bucket", "_sum"))}


def test_counts_are_exact_over_replacements_reloads_and_scalings(shop: Service) -> None:
    shop.start()
    ordered, most = 0, 0
    before: dict[Series, float] = {}
    for number in range(REPLACEMENTS):
        for _ in range(3):
            shop.get("/order")
            ordered += 1
        kill(shop, 1 + number % 2)
        if number % 40 == 10:
            assert shop.reload().returncode == 0
        if number % 40 == 20:
            shop.ask_to("scale", workers=4)
            wait_until(lambda: len(shop.workers()) == 4, "four workers")
        if number % 40 == 30:
            shop.ask_to("scale", workers=2)
            wait_until(lambda: len(shop.workers()) == 2, "two workers")
        page = counters(scrape(shop))
        assert {key: value for key, value in before.items() if page.get(key, -1) < value and is_the_shops(key)} == {}
        before = page
        most = max(most, sum(map(is_the_shops, page)))
    page = scrape(shop)
    assert total(page, "shop_orders_total") == total(page, "shop_bytes_count") == ordered
    assert total(page, "shop_bytes_sum") == 3 * ordered
    assert total(page, "shop_seconds_count") == 2 * ordered
    assert page[series("shop_imported_total", worker="template")] == total(page, "shop_imported_total") == 7
    slots_and_template = 5
    assert most <= slots_and_template * 10
    assert own(shop)[series("shop_orders_total", kind="book")] == ordered
    assert own(shop)[series("shop_imported_total")] == 7


def is_the_shops(key: Series) -> bool:
    return key[0].startswith("shop_")


def own(service: Service) -> dict[Series, float]:
    """The application's own page."""
    return page_of(service.get("/metrics").text)


def test_gauges_of_the_dead_are_kept_or_gone_as_their_mode_says(shop: Service) -> None:
    shop.configure(workers=1)
    shop.start()
    shop.get("/set/4")
    kept = dict.fromkeys(("all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum"), 4.0)
    assert modes(shop) == kept | {"mostrecent": 4.0, "livemostrecent": 4.0}
    kill(shop, 1)
    gone = dict.fromkeys(("liveall", "livemin", "livemax", "livesum"), 0.0)
    assert modes(shop) == {"all": 4.0, "min": 4.0, "max": 4.0, "sum": 4.0, "mostrecent": 4.0, **gone}
    shop.get("/set/6")
    assert modes(shop) == {
        **dict.fromkeys(("all", "liveall", "livemin", "max", "livemax", "livesum", "mostrecent"), 6.0),
        "livemostrecent": 6.0,
        "min": 4.0,
        "sum": 10.0,
    }
    assert own(shop)[series("shop_all", worker="1")] == 6
    assert own(shop)[series("shop_sum")] == 10
    assert scrape(shop)[series("shop_price", worker="1")] == 5


def modes(service: Service) -> dict[str, float]:
    page = scrape(service)
    names = re.findall(r'"(\w+)"', re.search(r"MODES = \((.*)\)", SHOP)[1])  # type: ignore[index]
    return {name: page[key] for name in names if (key := series(f"shop_{name}", worker="1")) in page}


def test_metrics_made_during_a_request_are_on_both_pages(shop: Service) -> None:
    shop.start()
    shop.get("/late")
    assert total(scrape(shop), "shop_late_total") == 1
    pages = [own(shop) for _ in range(20)]
    assert {page[series("shop_late_total")] for page in pages} == {1}
    assert not [key for page in pages for key in page if key[0].startswith("shop_unregistered")]


def test_what_only_a_process_can_tell_is_asked_for(shop: Service) -> None:
    shop.start()
    page = scrape(shop)
    for worker in shop.workers():
        slot = str(worker["slot"])
        assert page[series("shop_pid", worker=slot)] == worker["pid"]
        assert page[series("shop_build_info", worker=slot, version="3")] == 1
        assert page[series("shop_state", worker=slot, shop_state="open")] == 1
        assert page[series("process_open_fds", worker=slot)] > 0
        assert page[series("clusterd_application_answer_age_seconds", worker=slot)] < 1


def test_a_scrape_is_complete_while_all_workers_hang(shop: Service) -> None:
    shop.configure(workers=2, threads=1)
    shop.start()
    shop.get("/order")
    complete = scrape(shop)
    for worker in shop.workers():
        os.kill(worker["pid"], signal.SIGSTOP)
    try:
        page = scrape(shop)
        assert page.keys() >= complete.keys()  # The memory of a worker may have been measured meanwhile.
        assert total(page, "shop_orders_total") == 1
        again = scrape(shop)
        ages = [again[series("clusterd_application_answer_age_seconds", worker=slot)] for slot in "12"]
        assert min(ages) >= 0.5
    finally:
        for worker in shop.workers():
            os.kill(worker["pid"], signal.SIGCONT)


def test_the_page_is_valid_in_both_formats_and_what_collides_is_left_out(shop: Service) -> None:
    shop.start()
    shop.get("/order")
    answer = shop.metrics()
    assert scrape(shop)[series("shop_labelled", worker="1", exported_worker="w")] == 1
    names = Counter(re.findall(r"^# TYPE (\S+)", answer.text, re.M))
    assert names.most_common(1)[0][1] == 1
    assert shop.wait_for_line("clusterd_generation is not on /metrics")
    import requests

    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    opened = requests.get(f"http://127.0.0.1:{shop.metrics_port}/metrics", headers=accept, timeout=60).text
    families = {family.name: family for family in openmetrics.text_string_to_metric_families(opened)}  # type: ignore[no-untyped-call]
    assert families["shop_orders"].type == "counter"
    assert families["shop_build"].type == "info"
    assert families["shop_state"].type == "stateset"
    assert opened.endswith("# EOF\n")


def test_more_series_than_allowed_are_dropped_logged_once_and_counted(shop: Service) -> None:
    shop.configure(workers=1, metrics={"address": f"127.0.0.1:{shop.metrics_port}", "series": 50})
    shop.start()
    shop.get("/many/100")
    page = scrape(shop)
    dropped = page[series("clusterd_application_series_dropped_total", worker="1")]
    assert 0 < len([key for key in page if key[0] == "shop_orders_total"]) == 100 - dropped
    kill(shop, 1)
    shop.get("/many/100")
    page = scrape(shop)
    assert page[series("clusterd_application_series_dropped_total", worker="1")] == 2 * dropped
    assert len(re.findall("metrics.series", shop.log())) == 1


def test_a_process_that_the_application_forks_counts_for_itself(shop: Service) -> None:
    shop.configure(workers=1)
    shop.start()
    shop.get("/fork")
    shop.get("/order")
    page = scrape(shop)
    assert total(page, "shop_orders_total") == 1


@pytest.mark.parametrize("preload", ["auto", "false"])
def test_metrics_of_an_application_that_is_loaded_anywhere(shop: Service, preload: str) -> None:
    shop.configure(preload=preload, workers=1)
    shop.start()
    shop.get("/order")
    kill(shop, 1)
    shop.get("/order")
    assert scrape(shop)[series("shop_orders_total", worker="1", kind="book")] == 2


def test_nothing_of_the_application_is_there_when_it_is_off(shop: Service) -> None:
    shop.configure(metrics={"address": f"127.0.0.1:{shop.metrics_port}", "application": "off"})
    shop.start()
    shop.get("/order")
    assert not [key for key in scrape(shop) if key[0].startswith("shop_")]
    assert own(shop)


STUCK = """
import threading
from prometheus_client import REGISTRY, Counter
from prometheus_client.core import GaugeMetricFamily
ORDERS = Counter("shop_orders", "Orders.")
CALLS = []
class Collector:
    def describe(self):
        return []
    def collect(self):
        CALLS.append(1)
        if len(CALLS) > 1:
            threading.Event().wait()
        yield GaugeMetricFamily("shop_calls", "Calls.", len(CALLS))
class Broken(Collector):
    def collect(self):
        raise SystemExit("broken")
REGISTRY.register(Broken())
REGISTRY.register(Collector())
def app(environ, start_response):
    ORDERS.inc()
    start_response("200 OK", [])
    return [b""]
"""


def test_a_collector_that_is_stuck_delays_one_scrape_and_no_stop(make_service: MakeService) -> None:
    service = make_service(workers=1)
    service.deploy("1", STUCK)
    service.start()
    service.get("/")
    calls, age = series("shop_calls", worker="1"), series("clusterd_application_answer_age_seconds", worker="1")
    assert scrape(service)[calls] == 1
    pages = [scrape(service) for _ in range(3)]
    assert {page[calls] for page in pages} == {1}
    assert pages[0][age] < pages[1][age] < pages[2][age]
    assert {total(page, "shop_orders_total") for page in pages} == {1}
    assert service.stop() == 0
    assert "killing" not in service.log()
