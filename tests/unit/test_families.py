"""What the page writes is what Prometheus's own parsers read, whatever the values are."""

import math

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from clusterd.metrics.page.families import CounterMetricFamily, GaugeMetricFamily, Metric
from clusterd.metrics.page.negotiation import Form, Wanted

pytestmark = pytest.mark.engine_independent

AS_PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
ODD = 'C:\\new "line"\nand {braces}, a=b'


def read(family: Metric, form: Form) -> tuple[str, str, list[tuple[dict[str, str], float]]]:
    text = family.header(form) + "".join(family.lines) + form.end
    parse = openmetrics.text_string_to_metric_families if form is Form.OPENMETRICS else text_string_to_metric_families
    (found,) = parse(text)
    return found.type, found.documentation, [(sample.labels, sample.value) for sample in found.samples]


@pytest.mark.parametrize("form", Form)
def test_every_character_of_a_label_and_of_a_help_survives(form: Form) -> None:
    family = CounterMetricFamily("shop_orders", f"Orders, {ODD}", labels=["kind", "a"])
    family.add_metric([ODD, ""], 3)
    assert read(family, form) == ("counter", f"Orders, {ODD}", [({"kind": ODD, "a": ""}, 3.0)])


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize(
    "value", [0, 1, True, -7, 0.1, 1e-9, 1e300, 2**53, 123456789, 1e16, math.inf, -math.inf, 1 / 3]
)
def test_every_number_survives(form: Form, value: float) -> None:
    assert read(GaugeMetricFamily("shop_level", "Level.", value), form)[2] == [({}, float(value))]


@pytest.mark.parametrize("form", Form)
def test_what_is_not_a_number_survives(form: Form) -> None:
    ((_, value),) = read(GaugeMetricFamily("shop_level", "Level.", math.nan), form)[2]
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("accept", "accept_encoding", "wanted"),
    [
        ("", "", Wanted(Form.TEXT)),
        ("*/*", "*", Wanted(Form.TEXT)),
        ("text/plain", "identity", Wanted(Form.TEXT)),
        (AS_PROMETHEUS, "gzip", Wanted(Form.OPENMETRICS, compressed=True)),
        ("text/plain;version=0.0.4;q=0.5,application/openmetrics-text;q=0.4", "", Wanted(Form.TEXT)),
        ("application/openmetrics-text;q=0, text/html", "gzip;q=0", Wanted(Form.TEXT)),
        ("APPLICATION/OpenMetrics-Text", "deflate , GZIP ; Q=0.1", Wanted(Form.OPENMETRICS, compressed=True)),
        ("application/openmetrics-text;q=abc", "gzip;;;", Wanted(Form.OPENMETRICS, compressed=True)),
    ],
)
def test_a_client_gets_what_it_prefers(accept: str, accept_encoding: str, wanted: Wanted) -> None:
    assert Wanted.by(accept, accept_encoding) == wanted
