"""The grid of docs/compatibility.md: every framework and every feature, under a whole clusterd with two workers."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.cells import Cell, Verdict, record
from tests.conformance.features import CHECKS, NOTHING, OF_SERVICES, ORDER, Seen
from tests.conformance.served import PYTHON, ByClusterd, Served, by_clusterd, by_uvicorn
from tests.conformance.special import CHECKS_OF
from tests.support.frameworks import APPLICATIONS, BY_TITLE, Feature

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="make conformance makes the frameworks' interpreter")

ENGINE = os.environ.get("CLUSTERD_ENGINE", "interpreted")
VERSIONS = """
import json, sys
from importlib.metadata import version
print(json.dumps({name: version(name) for name in sys.argv[1:]}))
"""


@pytest.fixture(scope="session")
def versions() -> dict[str, str]:
    names = {"uvicorn", *(name for each in APPLICATIONS for name in each.packages)}
    done = subprocess.run([PYTHON, "-c", VERSIONS, *names], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.fixture(
    scope="module", params=[pytest.param(title, marks=pytest.mark.xdist_group(title)) for title in BY_TITLE]
)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ByClusterd]:
    with by_clusterd(BY_TITLE[request.param], tmp_path_factory.mktemp("served")) as serving:
        yield serving


@pytest.mark.parametrize("feature", ORDER, ids=lambda feature: feature.value)
def test_the_grid(served: ByClusterd, feature: Feature, versions: dict[str, str], tmp_path: Path) -> None:
    application = served.application
    verdict, seen = Verdict.YES, NOTHING
    if feature in application.lacks:
        verdict = Verdict.NOT_OFFERED
    elif feature in application.troubles:
        with pytest.raises((AssertionError, OSError)):
            check(served, feature)
        why = f"{application.troubles[feature]}."
        if application.interface == "asgi":
            with by_uvicorn(application, tmp_path) as reference, pytest.raises((AssertionError, OSError)):
                check(reference, feature)
            why += f" The same under uvicorn {versions['uvicorn']}."
        verdict, seen = Verdict.NO, Seen(note=why)
    else:
        seen = check(served, feature)
    named = ", ".join(f"{name} {versions[name]}" for name in application.packages)
    record(Cell(application.title, named, ENGINE, feature.value, verdict, seen.measured, seen.note))


def check(served: Served, feature: Feature) -> Seen:
    if feature in OF_SERVICES:
        assert isinstance(served, ByClusterd)
        return OF_SERVICES[feature](served)
    return CHECKS_OF.get(served.application.title, CHECKS).get(feature, CHECKS[feature])(served)
