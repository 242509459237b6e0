"""The network's certificates in its data folder.

secrets/ca.key       the private key of the network's own certificate authority (CA)
secrets/server.pem   the gateway's and the bus's private key and certificate, one file so that they always fit
ca.pem               the CA's certificate: public, its key is what join tokens pin

With the settings `tls_cert` and `tls_key` none of these are made: the operator's certificate is used as it is.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from fallow.adapters.engines.folders import write_private
from fallow.bootstrap.reach import Reach
from fallow.bootstrap.settings import Settings
from fallow.domain.errors import InvalidInput
from fallow.domain.pins import der_of, pin_of

_END = "-----END CERTIFICATE-----\n"


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """Files of the server's certificate and key; `ca` and `pin` are of the network's own CA, "" where it has none."""

    cert: str
    key: str
    ca: str = ""
    pin: str = ""

    def ca_pem(self) -> str:
        """Return the certificate of the network's own CA, or ""."""
        return Path(self.ca).read_text("ascii") if self.ca else ""


def prepare_tls(data: Path, settings: Settings, names: Sequence[str], now: datetime) -> Tls:
    """Make or renew what is needed, and say where it is. Runs once at each start, before anything listens.

    Raises:
        InvalidInput: files cannot be read or do not fit together, or the operator's own certificate has expired.
    """
    if settings.tls_cert or settings.tls_key:
        return _given(Path(settings.tls_cert), Path(settings.tls_key or settings.tls_cert), now)
    from fallow.adapters import certificates  # noqa: PLC0415 - heavy, and only needed here

    folder = data / "secrets"
    folder.mkdir(mode=0o700, exist_ok=True)
    ca_file, key_file, server_file = data / "ca.pem", folder / "ca.key", folder / "server.pem"
    key = _read(key_file) or _written(key_file, certificates.new_key())
    ca = _read(ca_file)
    if not ca or not certificates.is_of(key, ca) or not certificates.is_current(ca, now):
        # With the same key the pin stays what it is.
        ca = _written(ca_file, certificates.new_authority(key, "private CA", now).certificate)
    server = _read(server_file)
    if not (
        server
        and certificates.is_from(ca, server)
        and certificates.is_current(server, now)
        and set(names) <= set(certificates.names_of(server))
    ):
        issued = certificates.issue(certificates.Issued(ca, key), names, now)
        _written(server_file, issued.key + issued.certificate)
    return Tls(cert=str(server_file), key=str(server_file), ca=str(ca_file), pin=pin_of(der_of(ca)))


def server_context(tls: Tls) -> ssl.SSLContext:
    """Return what the gateway serves with: TLS 1.2 or newer.

    Raises:
        InvalidInput: certificate and key cannot be read, or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ValueError) as error:
        raise InvalidInput("tls.certificate", f"{tls.cert} and {tls.key} cannot be used: {error}.") from error
    return context


def own_context(tls: Tls | None) -> ssl.SSLContext | None:
    """Return what the network's own processes connect to its bus with: they trust its very certificate, nothing else.

    None where the bus is in plain text on this very machine.
    """
    if tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Its own processes come by a loopback address, which a certificate of the operator's need not be for.
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=der_of(first_certificate(Path(tls.cert).read_text("ascii"))))
    return context


def public_host(settings: Settings, reach: Reach, tls: Tls) -> str:
    """Return the name that others are told: one that the operator's own certificate is for, if he named none."""
    if tls.ca or settings.names or not reach.everywhere:
        return reach.host
    return next((name for name in _names_of(tls) if not name.startswith("*")), reach.host)


def own_names(reach: Reach, tls: Tls | None) -> list[str]:
    """Return all names and addresses that are the network's own; in one that begins with "*." that is any label.

    They are those that it was told, those of this machine, and those that the operator's own certificate is for.
    """
    certified = _names_of(tls) if tls is not None and not tls.ca else []
    return sorted({reach.host, *reach.names, *(name.lower() for name in certified)})


def first_certificate(pem: str) -> str:
    """Return the first certificate of a PEM file, which is the server's own."""
    begin = pem.find("-----BEGIN CERTIFICATE-----")
    return pem[max(0, begin) : pem.find(_END.strip(), max(0, begin)) + len(_END)]


def _names_of(tls: Tls) -> list[str]:
    from fallow.adapters import certificates  # noqa: PLC0415 - heavy, and only needed here

    return certificates.names_of(first_certificate(Path(tls.cert).read_text("ascii")))


def _given(cert: Path, key: Path, now: datetime) -> Tls:
    from fallow.adapters import certificates  # noqa: PLC0415 - heavy, and only needed here

    tls = Tls(cert=str(cert.absolute()), key=str(key.absolute()))
    server_context(tls)
    if certificates.is_expired(first_certificate(cert.read_text("ascii")), now):
        raise InvalidInput("tls.expired", f"The certificate {cert} has expired.", "Renew it.")
    return tls


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise InvalidInput("tls.file", f"{path} cannot be read: {error}.", "Restore it.") from error


def _written(path: Path, text: str) -> str:
    write_private(path, text)
    return text
