"""Whom to trust at the other end of a TLS connection: the system's authorities, or one that the user names."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx2

from fallow.domain.errors import InvalidInput, NotAllowed, Unavailable
from fallow.domain.pins import der_of, fits, pem_of

CA_PATH = "/v1/ca.pem"
CA_BYTES_MAX = 16_384
TIMEOUT_S = 30.0


async def fetch_ca(url: str, pin: str, *, transport: httpx2.AsyncBaseTransport | None = None) -> str:
    """Download the certificate of a network's own authority, as PEM, and check that it is the one that `pin` names.

    The connection for it is not to be trusted: nothing is sent but the request, and only the pin makes the answer
    worth anything. Use `trusting` for everything that follows.

    Raises:
        InvalidInput: the URL is not https, or the answer is no certificate.
        NotAllowed: it is another authority's certificate (`tls.wrong_ca`).
        Unavailable: the network cannot be reached.
    """
    where = _ca_url(url)
    # verify=False is what TLS without knowing anybody means; see above.
    async with httpx2.AsyncClient(verify=False, timeout=TIMEOUT_S, transport=transport) as client:
        try:
            pem = await _body(client, where)
        except httpx2.TransportError as error:
            raise Unavailable(
                "tls.unreachable", f"{url} cannot be reached: {error}.", "Is the address right, and the network up?"
            ) from error
    certificate = der_of(pem)
    if not fits(certificate, pin):
        raise NotAllowed(
            "tls.wrong_ca",
            f"{url} has another certificate authority than the one you were told of. Nothing was sent to it.",
            "Somebody may be in between, or the network was set up anew: ask its operator for a new token or pin.",
        )
    return pem_of(certificate)


def trusting(pem: str) -> ssl.SSLContext:
    """Trust this one authority (PEM) and no other; names are checked.

    Raises:
        InvalidInput: it is not one certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=der_of(pem))
    except ssl.SSLError as error:
        raise InvalidInput("tls.ca_malformed", f"This certificate cannot be used: {error}.") from error
    return context


def verifying(ca: Path | ssl.SSLContext | None) -> ssl.SSLContext | bool:
    """Return what `ca` means to an HTTP client: a file of authorities (PEM), a context, or the system's authorities.

    Raises:
        InvalidInput: the file cannot be read, or holds no certificate.
    """
    if not isinstance(ca, Path):
        return ca or True
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise InvalidInput("tls.ca_file", f"{ca} cannot be used: {error}.", "It is a PEM file.") from error


def is_untrusted(error: BaseException | None) -> bool:
    """Whether a connection failed because the other end could not show that it is who it should be."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None


def _ca_url(url: str) -> httpx2.URL:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise InvalidInput("tls.url", f"{url!r} is no URL: {error}.") from error
    if parsed.scheme != "https" or not parsed.host:
        raise InvalidInput(
            "tls.url", f"A network with a certificate authority of its own is reached by https, not by {url[:200]!r}."
        )
    # Put together anew: whatever else the URL held (a password) stays here.
    return httpx2.URL(scheme="https", host=parsed.host, port=parsed.port, path=parsed.path.rstrip("/") + CA_PATH)


async def _body(client: httpx2.AsyncClient, url: httpx2.URL) -> str:
    async with client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer:
        if not answer.is_success:
            raise InvalidInput(
                "tls.no_ca", f"{url} answered {answer.status_code}: this network has no authority of its own."
            )
        body = b""
        async for chunk in answer.aiter_raw():  # a stranger's compressed answer may be a bomb
            body += chunk
            if len(body) > CA_BYTES_MAX:
                break  # longer than any certificate, and so none
    return body.decode("ascii", "replace")
