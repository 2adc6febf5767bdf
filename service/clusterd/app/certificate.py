"""When the certificates of a PEM file end.

The ssl module tells it only of the peer of a connection (`getpeercert`) and of authorities (`get_ca_certs`), not of the
certificate that a context serves. So the few fields before the end of a certificate are skipped here, in DER (X.690).
OpenSSL has checked the file before.
"""

import re
import ssl
from datetime import UTC, datetime

_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_EXPLICIT_VERSION = 0xA0
_LONG_LENGTH = 0x80


def earliest_end(pem: str) -> float | None:
    """When the first of the certificates ends, in seconds since 1970. None if there is none that can be read.

    A client refuses a chain as soon as one of its certificates has ended.
    """
    try:
        return min((_end(ssl.PEM_cert_to_DER_cert(each)) for each in _CERTIFICATE.findall(pem)), default=None)
    except (ValueError, IndexError):
        return None


def _end(certificate: bytes) -> float:
    """RFC 5280 section 4.1: Certificate and TBSCertificate are sequences; validity is the fifth field of the latter."""
    _, content, _ = _element(certificate, 0)
    _, fields, _ = _element(content, 0)
    tag, _, at = _element(fields, 0)
    # The version may be left out. Then the first field is the serial number.
    for _ in range(3 if tag == _EXPLICIT_VERSION else 2):
        _, _, at = _element(fields, at)
    _, validity, _ = _element(fields, at)
    _, _, at = _element(validity, 0)
    tag, moment, _ = _element(validity, at)
    return _moment(tag, moment.decode("ascii"))


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """The tag and the content of the element at `at`, and where the next one begins."""
    tag, length, start = data[at], data[at + 1], at + 2
    if length & _LONG_LENGTH:
        size = length & ~_LONG_LENGTH
        length, start = int.from_bytes(data[start : start + size]), start + size
    return tag, data[start : start + length], start + length


def _moment(tag: int, text: str) -> float:
    """RFC 5280 section 4.1.2.5: a year of two digits is one from 1950 to 2049."""
    if tag == _UTC_TIME:
        text = f"{'19' if text >= '50' else '20'}{text}"
    elif tag != _GENERALIZED_TIME:
        raise ValueError(f"a time was expected, found the tag {tag}")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
