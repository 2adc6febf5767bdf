"""When certificates end, and when the log warns of it."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from clusterd.app.certificate import earliest_end
from clusterd.log import Level
from clusterd.master.observing.certificates import CertificateWatch

pytestmark = pytest.mark.engine_independent

DAY = 86400.0
KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(ends: datetime, names: int = 1) -> str:
    """A certificate in PEM. Its subject, which stands after its end, and its issuer have `names` parts."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, f"part {part}") for part in range(names)])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(KEY.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(datetime(1960, 1, 1, tzinfo=UTC))
    return builder.not_valid_after(ends).sign(KEY, SHA256()).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize("names", [1, 100], ids=["short lengths", "long lengths"])
@pytest.mark.parametrize(
    "ends",
    [
        datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2027, 2, 28, 12, 30, 15, tzinfo=UTC),
        datetime(2049, 12, 31, tzinfo=UTC),
        datetime(2050, 1, 1, tzinfo=UTC),  # From here on the year has four digits.
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    ],
)
def test_the_end_is_the_one_that_others_read(ends: datetime, names: int) -> None:
    assert earliest_end(certificate(ends, names)) == ends.timestamp()


def test_a_chain_ends_with_the_first_of_its_certificates() -> None:
    late, early = datetime(2030, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
    chain = f"subject: leaf\n{certificate(late)}\n\n{certificate(early)}-----BEGIN PRIVATE KEY-----\nAA==\n"
    assert earliest_end(chain) == early.timestamp()


def test_a_certificate_of_version_1_has_no_version_field() -> None:
    whole = ssl.PEM_cert_to_DER_cert(certificate(datetime(2028, 1, 1, tzinfo=UTC)))
    # The outer lengths say more than there is then, which nothing here depends on.
    without = whole.replace(b"\xa0\x03\x02\x01\x02", b"", 1)
    assert earliest_end(ssl.DER_cert_to_PEM_cert(without)) == datetime(2028, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("length", [0, 1, 4, 20, 60, 90])
def test_what_is_no_whole_certificate_has_no_end(length: int) -> None:
    whole = ssl.PEM_cert_to_DER_cert(certificate(datetime(2028, 1, 1, tzinfo=UTC)))
    assert earliest_end(ssl.DER_cert_to_PEM_cert(whole[:length])) is None
    assert earliest_end("") is None


def test_the_log_warns_once_a_day_from_14_days_before() -> None:
    ends, watch = datetime(2027, 1, 15, 12, tzinfo=UTC).timestamp(), CertificateWatch()

    def look(days_before: float) -> tuple[Level, str] | None:
        return watch.look("/etc/shop.pem", ends, ends - days_before * DAY)

    assert look(14.1) is None
    end = "at 2027-01-15 12:00:00 UTC: renew it, then reload"
    assert look(14) == (Level.WARNING, f"tls.certificate: /etc/shop.pem expires in 14 days, {end}")
    assert [look(13.9), look(13.01)] == [None, None]
    assert look(1.5) == (Level.WARNING, f"tls.certificate: /etc/shop.pem expires in 1 day, {end}")
    assert look(0.4) == (Level.WARNING, f"tls.certificate: /etc/shop.pem expires in less than a day, {end}")
    expired = "tls.certificate: /etc/shop.pem expired at 2027-01-15 12:00:00 UTC, so clients refuse it: renew it, then"
    assert look(-0.7) == (Level.ERROR, f"{expired} reload")


def test_another_certificate_is_warned_of_at_once_and_a_good_one_not() -> None:
    watch, now = CertificateWatch(), datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    assert watch.look("credential:tls", now + DAY, now) is not None
    assert watch.look("credential:tls", now + 90 * DAY, now + 1) is None
    found = watch.look("credential:tls", now + 2 * DAY, now + 2)
    assert found is not None and found[1].endswith("renew it, then restart the service")


def test_a_clock_that_is_set_back_warns_no_more_often() -> None:
    watch, now = CertificateWatch(), datetime(2027, 1, 1, tzinfo=UTC).timestamp()
    assert watch.look("x", now + DAY, now) is not None
    assert watch.look("x", now + DAY, now - timedelta(hours=1).total_seconds()) is None
