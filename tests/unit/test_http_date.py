"""The date of an HTTP message is that of the standard library."""

from email.utils import formatdate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clusterd.http_date import http_date

pytestmark = pytest.mark.engine_independent


@given(st.integers(min_value=0, max_value=253_402_300_799))
@example(0)
@example(784111777)  # RFC 9110 has this one.
def test_it_is_that_of_the_standard_library(seconds: int) -> None:
    assert http_date(seconds) == formatdate(seconds, usegmt=True)
