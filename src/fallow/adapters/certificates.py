"""A private certificate authority (CA): its own certificate, and those that it issues. No files are touched here."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fallow.domain.errors import InvalidInput

CA_YEARS = 10
SERVER_VALID = timedelta(days=825)
"""What the strictest of the usual clients takes."""

SPARE = timedelta(days=30)
"""A certificate that ends sooner is made anew."""

BACKDATED = timedelta(days=1)
"""For machines whose clocks are behind."""

_KEY_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


class Issued(NamedTuple):
    """A certificate with its private key, both PEM."""

    certificate: str
    key: str


def new_key() -> str:
    """Make a private key (PEM). P-256: Ed25519 would be refused by browsers."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def new_authority(key: str, label: str, now: datetime) -> Issued:
    """Make a CA's own certificate, valid from `now` on for ten years.

    Raises:
        InvalidInput: the key cannot be used.
    """
    private = _private(key)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Fallow {label}"[:64])])
    certificate = (
        _builder(name, name, private, private, now, now + timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .sign(private, hashes.SHA256())
    )
    return Issued(_pem(certificate), key)


def issue(authority: Issued, names: Iterable[str], now: datetime) -> Issued:
    """Issue a server's certificate, with a key of its own, for DNS names and IP addresses."""
    issuer, issuer_key = _certificate(authority.certificate), _private(authority.key)
    key = new_key()
    ends = min(now + SERVER_VALID, issuer.not_valid_after_utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Fallow gateway")])
    certificate = (
        _builder(subject, issuer.subject, _private(key), issuer_key, now, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in sorted(set(names))]), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return Issued(_pem(certificate), key)


def self_signed(name: str, now: datetime, valid: timedelta) -> Issued:
    """Make a certificate that nobody vouches for, with a key of its own, for one DNS name: it is trusted by itself."""
    key = new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    private = _private(key)
    certificate = (
        _builder(subject, subject, private, private, now, now + valid)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(name)]), critical=False)
        .sign(private, hashes.SHA256())
    )
    return Issued(_pem(certificate), key)


def is_current(certificate: str, now: datetime) -> bool:
    """Whether it is valid now and for 30 days more. Only the first one of a PEM text is looked at.

    Raises:
        InvalidInput: it is no certificate.
    """
    found = _certificate(certificate)
    return found.not_valid_before_utc <= now and now + SPARE < found.not_valid_after_utc


def is_expired(certificate: str, now: datetime) -> bool:
    """Whether its time is over. Raises as `is_current`."""
    return _certificate(certificate).not_valid_after_utc < now


def is_from(authority: str, certificate: str) -> bool:
    """Whether this CA signed it. Raises as `is_current`."""
    try:
        _certificate(certificate).verify_directly_issued_by(_certificate(authority))
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is not ours
        return False
    return True


def is_of(key: str, certificate: str) -> bool:
    """Whether a certificate is for this private key. Raises as `is_current`."""
    ours, its = _private(key).public_key(), _certificate(certificate).public_key()
    return _spki(ours) == _spki(its)


def names_of(certificate: str) -> list[str]:
    """DNS names, then IP addresses, that it is for. Raises as `is_current`."""
    try:
        found = _certificate(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = found.get_values_for_type(x509.IPAddress)
    return [*found.get_values_for_type(x509.DNSName), *(str(address) for address in addresses)]


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )


def _usage(*used: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in used for name in _KEY_USAGES})


def _general(name: str) -> x509.GeneralName:
    address = _address(name)
    if address is not None:
        return x509.IPAddress(address)
    try:
        return x509.DNSName(name.encode("idna").decode())
    except UnicodeError as error:
        raise InvalidInput("tls.name", f"{name!r} is no name of a machine: {error}.") from error


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(name)
    except ValueError:
        return None


def _certificate(pem: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise InvalidInput("tls.certificate", f"This is no certificate: {error}.") from error


def _private(pem: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError) as error:
        raise InvalidInput("tls.key", f"The private key cannot be used: {error}.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidInput("tls.key", "The authority's private key is of another kind than Fallow makes.")
    return key


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _spki(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]
