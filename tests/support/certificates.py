"""Certificates for tests, from an authority that is made for them and forgotten."""

import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import trustme

from clusterd.app.tls import server_context
from clusterd.config.model import Tls, TlsVersion

NAME = "shop.example"


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key, in one file and in two, and whom to trust for it to be good."""

    combined: Path
    certificate: Path
    key: Path
    authority: Path

    def server(self, minimum: TlsVersion = TlsVersion.TLS_1_2) -> ssl.SSLContext:
        """What clusterd makes of it."""
        return server_context(Tls((), str(self.combined), None, minimum), {})

    def client(self) -> ssl.SSLContext:
        """A client that trusts this certificate alone."""
        context = ssl.create_default_context(cafile=str(self.authority))
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context


def make_certificate(directory: Path, name: str = NAME, ends: datetime | None = None) -> Certificate:
    """A certificate for `name` and for this machine. It `ends` in the distant future, unless told otherwise."""
    directory.mkdir(exist_ok=True)
    made = Certificate(*(directory / f"{name}.{kind}.pem" for kind in ("combined", "certificate", "key", "authority")))
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = authority.issue_cert(name, "127.0.0.1", key_type=trustme.KeyType.ECDSA, not_after=ends)
    issued.private_key_and_cert_chain_pem.write_to_path(made.combined)
    issued.private_key_pem.write_to_path(made.key)
    for blob in issued.cert_chain_pems:
        blob.write_to_path(made.certificate, append=True)
    authority.cert_pem.write_to_path(made.authority)
    return made
