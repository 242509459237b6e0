"""Images pulled from registries, by our own hand: no engine of this machine ever dials out for a buyer.

Source of the protocol: OCI distribution specification 1.1, and Docker's token authentication. What is asked, and every
redirect and token server on the way, must be public: see `addresses`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

import httpx2
import msgspec

from fallow.domain.errors import InvalidInput, NotAllowed, NotFound, TooMuch, Unavailable
from fallow.ports.vertical.work import Line
from fallow.verticals.compute.core.images import Reference
from fallow.verticals.compute.worker.oci import (
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    DOCUMENT_BYTES_MAX,
    INDEX,
    MANIFEST,
    Descriptor,
    Document,
    blob_path,
    make_folders,
    write_index,
)

REDIRECTS_MAX: Final = 5
INDEXES_MAX: Final = 3
_ACCEPT: Final = f"{MANIFEST}, {INDEX}, {DOCKER_MANIFEST}, {DOCKER_INDEX}"
_CHALLENGE: Final = re.compile(r'([a-z]+)="([^"]*)"')


class Credentials(NamedTuple):
    """How a buyer is known to a registry."""

    user: str
    password: str


class Pulled(NamedTuple):
    """A manifest, as its registry has it, and what it says."""

    raw: bytes
    document: Document

    @property
    def config(self) -> Descriptor:
        """The image's config, whose hash is its id."""
        if self.document.config is None:
            raise InvalidInput("compute.image", "The image has no config.")
        return self.document.config

    @property
    def size(self) -> int:
        """Bytes that its parts have, as they come over the line."""
        return sum(part.size for part in (self.config, *self.document.layers))


class _Token(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""


class Registry:
    """One image's registry. `client` must reach public addresses alone, and follow no redirects by itself.

    `line` is told of all that comes.
    """

    def __init__(
        self, client: httpx2.AsyncClient, reference: Reference, credentials: Credentials | None, line: Line
    ) -> None:
        self._client = client
        self._line = line
        self._reference = reference
        self._credentials = credentials
        self._authorization = ""

    async def manifest(self, platform: str) -> Pulled:
        """Ask for the image's manifest for a platform.

        Raises:
            InvalidInput: there is none, or it is not valid.
            NotAllowed: the registry does not let this buyer have it.
            Unavailable: the registry cannot be reached.
        """
        version = self._reference.version
        for _ in range(INDEXES_MAX):
            raw = await self._document(f"manifests/{version}", version)
            document = _decoded(raw)
            if document.config is not None:
                return Pulled(raw, document)
            fitting = [one for one in document.manifests if one.platform and one.platform.text == platform]
            if not fitting:
                raise InvalidInput("compute.image", f"{self._reference.text} has no image for {platform}.")
            version = fitting[0].digest
        raise InvalidInput("compute.image", f"{self._reference.text} leads from index to index.")

    async def download(self, pulled: Pulled, layout: Path, *, bytes_max: int) -> None:
        """Write an image's blobs into a new layout, each checked against its hash.

        Raises:
            TooMuch: they have more than `bytes_max` bytes.
            Others: see `manifest`.
        """
        if pulled.size > bytes_max:
            raise TooMuch("compute.image_too_large", f"The image has more than {bytes_max >> 20} MiB.")
        await asyncio.to_thread(make_folders, layout)
        for blob in (pulled.config, *pulled.document.layers):
            await self._blob(blob, blob_path(layout, blob))
        await asyncio.to_thread(write_index, layout, pulled.raw)

    async def _document(self, path: str, version: str) -> bytes:
        async with self._answer(path) as answer:
            data = await self._read(answer)
        if version.startswith("sha256:") and hashlib.sha256(data).hexdigest() != version.removeprefix("sha256:"):
            raise InvalidInput("compute.image", "The registry's manifest does not have the hash that was asked for.")
        return data

    async def _blob(self, blob: Descriptor, to: Path) -> None:
        digest, size = hashlib.sha256(), 0
        with to.open("wb") as file:
            async with self._answer(f"blobs/{blob.digest}") as answer:
                async for piece in answer.aiter_raw():
                    size += len(piece)
                    self._line.count(len(piece))
                    if size > blob.size:
                        break
                    digest.update(piece)
                    await asyncio.to_thread(file.write, piece)
        if (digest.hexdigest(), size) != (blob.hex, blob.size):
            raise InvalidInput("compute.image", "A part of the image is not what its manifest names.")

    @asynccontextmanager
    async def _answer(self, path: str) -> AsyncIterator[httpx2.Response]:
        """Ask the registry, once more with a token where it wants one; the answer is a good one."""
        url = f"https://{self._reference.host}/v2/{self._reference.path}/{path}"
        try:
            async with self._opened(url) as answer:
                if answer.status_code != httpx2.codes.UNAUTHORIZED or self._authorization:
                    yield self._good(answer)
                    return
                challenge = answer.headers.get("WWW-Authenticate", "")
            self._authorization = await self._authorized(challenge)
            async with self._opened(url) as answer:
                yield self._good(answer)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise Unavailable("compute.registry", f"{self._reference.host} cannot be asked: {error}.") from error

    @asynccontextmanager
    async def _opened(self, url: str) -> AsyncIterator[httpx2.Response]:
        """Ask, and follow redirects; what proves who asks goes to the registry alone."""
        at = httpx2.URL(url)
        for _ in range(REDIRECTS_MAX + 1):
            ours = (at.host, at.port) == (httpx2.URL(url).host, httpx2.URL(url).port)
            headers = {"Accept-Encoding": "identity", "Accept": _ACCEPT}
            if ours and self._authorization:
                headers["Authorization"] = self._authorization
            async with self._client.stream("GET", at, headers=headers, follow_redirects=False) as answer:
                if answer.next_request is None:
                    yield answer
                    return
                at = answer.next_request.url
        raise Unavailable("compute.registry", f"{self._reference.host} leads from place to place.")

    async def _authorized(self, challenge: str) -> str:
        """What to show the registry after it has asked who is there."""
        scheme, _, rest = challenge.partition(" ")
        told = dict(_CHALLENGE.findall(rest))
        known = httpx2.BasicAuth(*self._credentials) if self._credentials else None
        if scheme.lower() == "basic" and self._credentials:
            return f"Basic {base64.b64encode(':'.join(self._credentials).encode()).decode()}"
        if scheme.lower() != "bearer" or "realm" not in told:
            raise NotAllowed("compute.registry_denied", f"{self._reference.text} is not given to this buyer.")
        asked = {"service": told.get("service", ""), "scope": f"repository:{self._reference.path}:pull"}
        asking = self._client.stream("GET", told["realm"], params=asked, auth=known, follow_redirects=False)
        async with asking as answer:
            if answer.status_code != httpx2.codes.OK:
                raise NotAllowed("compute.registry_denied", f"{self._reference.text} is not given to this buyer.")
            said = await self._read(answer)
        try:
            token = msgspec.json.decode(said, type=_Token)
        except msgspec.MsgspecError as error:
            raise Unavailable("compute.registry", "The registry's token is not understood.") from error
        return f"Bearer {token.token or token.access_token}"

    async def _read(self, answer: httpx2.Response) -> bytes:
        """Read a document, as it comes over the line. Raises TooMuch when it does not end."""
        data = bytearray()
        async for piece in answer.aiter_raw():
            data += piece
            self._line.count(len(piece))
            if len(data) > DOCUMENT_BYTES_MAX:
                raise TooMuch("compute.image_too_large", "What the registry says is too long.")
        return bytes(data)

    def _good(self, answer: httpx2.Response) -> httpx2.Response:
        if answer.status_code == httpx2.codes.OK:
            return answer
        text = self._reference.text
        if answer.status_code in {httpx2.codes.UNAUTHORIZED, httpx2.codes.FORBIDDEN}:
            raise NotAllowed("compute.registry_denied", f"{text} is not given to this buyer.")
        if answer.status_code == httpx2.codes.NOT_FOUND:
            raise NotFound("compute.no_image", f"There is no image {text}.")
        raise Unavailable("compute.registry", f"{self._reference.host} answers {answer.status_code}.")


def _decoded(raw: bytes) -> Document:
    try:
        return msgspec.json.decode(raw, type=Document)
    except msgspec.MsgspecError as error:
        raise InvalidInput("compute.image", f"The image's manifest is not valid: {error}.") from error
