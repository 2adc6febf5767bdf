"""The metric of the requests that died with their worker."""

from collections.abc import Iterable

from clusterd.metrics.page.facts import ClusterFacts
from clusterd.metrics.page.families import CounterMetricFamily, Metric


def lost_family(facts: ClusterFacts, slots: Iterable[int]) -> Metric:
    """Return the family, with a series for each slot and reason."""
    family = CounterMetricFamily(
        "clusterd_http_lost", "Requests that died with their worker, by reason.", labels=["worker", "reason"]
    )
    for slot in slots:
        for reason in facts.loss_reasons:
            family.add_metric([str(slot), reason], facts.lost.get((slot, reason), 0))
    return family
