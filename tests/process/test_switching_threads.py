"""How long a thread of a worker keeps the interpreter while others wait for it."""

from collections.abc import Callable

import pytest

from tests.support.service import Service

MakeService = Callable[..., Service]

pytestmark = pytest.mark.engine_independent

TELLS = """
import sys
CHOSEN
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(sys.getswitchinterval()).encode()]
"""


@pytest.mark.parametrize("preload", [True, False])
@pytest.mark.parametrize(("chosen", "seconds"), [("", 0.001), ("sys.setswitchinterval(0.02)", 0.02)])
def test_a_thread_hands_over_sooner_unless_the_application_has_chosen(
    make_service: MakeService, chosen: str, seconds: float, *, preload: bool
) -> None:
    service = make_service(preload=preload)
    service.deploy("1", TELLS.replace("CHOSEN", chosen))
    service.start()
    assert float(service.get("/").text) == pytest.approx(seconds)
    assert service.stop() == 0
