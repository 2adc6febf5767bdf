"""The TLS context for HTTPS: the template reads certificate and key once for all workers of a generation.

Reading them in the template has three effects. A bad certificate only fails the reload. A worker that is forked again
has the same certificate as the others. All workers have the same keys for session tickets, so a client can resume its
TLS session with any worker.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path

from clusterd.app.certificate import earliest_end
from clusterd.app.errors import LoadError
from clusterd.config.model import Tls, TlsVersion

CREDENTIAL = "credential:"

_VERSIONS = {TlsVersion.TLS_1_2: ssl.TLSVersion.TLSv1_2, TlsVersion.TLS_1_3: ssl.TLSVersion.TLSv1_3}

_TLS_1_2_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Only ciphers with forward secrecy and authenticated encryption (RFC 9325 section 4.2). Those of 1.3 have both."""


class _PassphraseNeeded(Exception):
    """OpenSSL asks for a passphrase. Without our callback it would ask on the terminal."""


def server_context(tls: Tls, environ: Mapping[str, str]) -> ssl.SSLContext:
    """Return the context for every connection of a generation. Raises LoadError with the setting and the file."""
    if tls.certificate is None:
        raise LoadError("tls.certificate: there is a socket for HTTPS, but no certificate is set", "")
    certificate = _readable("tls.certificate", tls.certificate, environ)
    key = certificate if tls.key is None else _readable("tls.key", tls.key, environ)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.minimum_version]
    context.set_ciphers(_TLS_1_2_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(certificate, key, password=_refuse_passphrase)
    except _PassphraseNeeded:
        raise LoadError(f"tls.key: {key} is encrypted; clusterd needs a key without a passphrase", "") from None
    except ssl.SSLError as error:
        raise LoadError(_what_is_wrong(error, certificate, key), "") from error
    except OSError as error:  # The file was readable a moment ago: it is being replaced.
        raise LoadError(f"tls.certificate: {certificate} or {key} cannot be read: {error.strerror}", "") from error
    return context


def certificate_end(tls: Tls, environ: Mapping[str, str]) -> float | None:
    """When the certificate of a context ends, or the first of its chain, in seconds since 1970. None if unknown.

    Raises LoadError as `server_context`.
    """
    if tls.certificate is None:
        return None
    return earliest_end(Path(_readable("tls.certificate", tls.certificate, environ)).read_text("latin-1"))


def _readable(setting: str, written: str, environ: Mapping[str, str]) -> str:
    path = written
    if written.startswith(CREDENTIAL):
        directory = environ.get("CREDENTIALS_DIRECTORY")
        name = written.removeprefix(CREDENTIAL)
        if not directory:
            how = f"LoadCredential={name}:/path in the unit passes it; outside of the unit there are none"
            raise LoadError(f"{setting}: there is no credential {name}: {how}", "")
        path = f"{directory}/{name}"
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise LoadError(f"{setting}: {path} cannot be read: {error.strerror}", "") from error
    return path


def _refuse_passphrase() -> str:
    raise _PassphraseNeeded


def _what_is_wrong(error: ssl.SSLError, certificate: str, key: str) -> str:
    """Describe the error with its file: OpenSSL hardly ever names the file."""
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"tls.key: {key} is not the key of the certificate in {certificate}"
    if "BEGIN CERTIFICATE" not in Path(certificate).read_text(errors="replace"):
        return f"tls.certificate: there is no certificate in PEM in {certificate}"
    if "PRIVATE KEY" not in Path(key).read_text(errors="replace"):
        return f"tls.key: there is no private key in PEM in {key}"
    return f"tls.certificate: OpenSSL cannot use {certificate} with the key in {key}: {error.reason or error}"
