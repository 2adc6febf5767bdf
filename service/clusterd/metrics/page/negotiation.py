"""What a request for the page asks for: the format and the compression."""

import re
from enum import Enum
from typing import Self

from clusterd.records import dataclass

_OPENMETRICS = "application/openmetrics-text"
_TEXT = "text/plain"
_WEIGHT = re.compile(r"q=(0(?:\.\d*)?|1(?:\.0*)?)")


class Form(Enum):
    """A format of the page. The value is its content type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    """https://prometheus.io/docs/instrumenting/exposition_formats/"""
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    """https://prometheus.io/docs/specs/om/open_metrics_spec/"""

    @property
    def end(self) -> str:
        """The last line of a page."""
        return "# EOF\n" if self is Form.OPENMETRICS else ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a client wants the page."""

    form: Form = Form.TEXT
    compressed: bool = False
    """By gzip, as Prometheus asks for."""

    @classmethod
    def by(cls, accept: str, accept_encoding: str) -> Self:
        """Decide by the values of the request's Accept and Accept-Encoding fields (RFC 9110 section 12.5)."""
        prefers_openmetrics = 0 < _weight(accept, _OPENMETRICS) >= _weight(accept, _TEXT)
        form = Form.OPENMETRICS if prefers_openmetrics else Form.TEXT
        return cls(form, compressed=_weight(accept_encoding, "gzip") > 0)


@dataclass(frozen=True, slots=True)
class Page:
    """The page as it is sent."""

    content_type: str
    content_encoding: str | None
    body: bytes


def _weight(field: str, wanted: str) -> float:
    """The weight that a field gives to the value `wanted`; 0 if it is not accepted. Wildcards are not asked for it."""
    for each in field.split(","):
        value, *parameters = (part.strip().lower() for part in each.split(";"))
        if value == wanted:
            found = (_WEIGHT.fullmatch(parameter) for parameter in parameters)
            return next((float(match[1]) for match in found if match), 1.0)
    return 0.0
