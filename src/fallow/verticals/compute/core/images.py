"""Names of container images, as buyers write them."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

REFERENCE_LENGTH_MAX: Final = 400
DOCKER_HUB: Final = "docker.io"
_HUB_HOST: Final = "registry-1.docker.io"

_HOST: Final = re.compile(
    r"(?=[a-z0-9.\-]{1,253}(?::|\Z))(?:[a-z0-9](?:[a-z0-9\-]*[a-z0-9])?\.)+[a-z]{2,63}(?::[0-9]{1,5})?"
)
_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH: Final = re.compile(rf"{_PART}(?:/{_PART}){{0,15}}")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


class Reference(NamedTuple):
    """Where an image lies: the registry's host (with port), its path there, and its tag or digest."""

    host: str
    path: str
    version: str

    @property
    def text(self) -> str:
        """Written out, for people."""
        return f"{self.host}/{self.path}{'@' if self.version.startswith('sha256:') else ':'}{self.version}"


def read_reference(text: str) -> Reference:
    """Read `[HOST[:PORT]/]PATH[:TAG][@sha256:DIGEST]` as the field's tools do; a digest wins over a tag.

    A host is a full domain name: addresses and names of a local network are the owner's, not the buyer's.

    Raises:
        ValueError: it is no such name.
    """
    if len(text) > REFERENCE_LENGTH_MAX:
        raise ValueError(f"an image's name has at most {REFERENCE_LENGTH_MAX} characters")
    rest, at, digest = text.partition("@")
    host, rest = _split_host(rest)
    path, _, tag = rest.partition(":")
    if host == DOCKER_HUB:
        host, path = _HUB_HOST, path if "/" in path else f"library/{path}"
    if not _HOST.fullmatch(host):
        raise ValueError(f"an image's registry is named by its full domain name, which {host[:100]!r} is not")
    if at and not _DIGEST.fullmatch(digest):
        raise ValueError("an image's digest is of the form sha256: and 64 digits of base 16")
    if not _PATH.fullmatch(path) or (":" in rest and not _TAG.fullmatch(tag)):
        raise ValueError(f"{text[:100]!r} is no name of an image")
    return Reference(host, path, digest or tag or "latest")


def _split_host(text: str) -> tuple[str, str]:
    """The first part is a host where it looks like one, as Docker has it."""
    first, slash, rest = text.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return first, rest
    return DOCKER_HUB, text
