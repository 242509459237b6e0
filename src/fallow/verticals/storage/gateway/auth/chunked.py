"""Bodies in aws-chunked form, sans I/O: chunks with their own signatures, and headers that trail behind them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from typing import Final, Literal

from fallow.verticals.storage.gateway.auth.sigv4 import Scope, chunk_to_sign, signature, trailer_to_sign
from fallow.verticals.storage.gateway.errors import S3Error

LINE_BYTES_MAX: Final = 1024
TRAILERS_MAX: Final = 16
_SIGNATURE: Final = b"chunk-signature="
_TRAILER_SIGNATURE: Final = "x-amz-trailer-signature"
_SIZE_DIGITS_MAX: Final = 16


class ChunkSigning:
    """Checks one signature after the other, each of which covers the one before it."""

    def __init__(self, key: bytes, at: str, scope: Scope, seed: str) -> None:
        self._key, self._at, self._scope, self._before = key, at, scope, seed

    def check_chunk(self, digest: str, sent: str) -> None:
        """Check the signature of a chunk with this SHA-256, in hex."""
        self._check(chunk_to_sign(self._at, self._scope, self._before, digest), sent)

    def check_trailer(self, digest: str, sent: str) -> None:
        """Check the signature of the trailing headers."""
        self._check(trailer_to_sign(self._at, self._scope, self._before, digest), sent)

    def _check(self, text: str, sent: str) -> None:
        right = signature(self._key, text)
        if not hmac.compare_digest(right.encode(), sent.encode("latin-1", "replace")):
            raise S3Error("SignatureDoesNotMatch")
        self._before = right


class ChunkedDecoder:
    """Takes the body in any pieces and gives the content. `trailers` are there at the end, by lower-case name."""

    def __init__(self, signing: ChunkSigning | None) -> None:
        self.trailers: dict[str, str] = {}
        self._signing = signing
        self._state: Literal["size", "data", "after", "trailers", "done"] = "size"
        self._line = bytearray()
        self._left = 0
        self._digest = hashlib.sha256()
        self._sent = ""
        self._signed_trailers = hashlib.sha256()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what of the content is in `data`.

        Raises:
            S3Error: InvalidRequest (not that form), SignatureDoesNotMatch.
        """
        view = memoryview(data)
        while view:
            if self._state == "data":
                part = view[: self._left]
                view = view[len(part) :]
                self._left -= len(part)
                if self._signing is not None:
                    self._digest.update(part)
                yield bytes(part)
                if not self._left:
                    self._state = "after"
            elif self._state == "done":
                raise _malformed()
            else:
                view = self._take_line(view)

    def end(self) -> None:
        """Say that the body has ended.

        Raises:
            S3Error: IncompleteBody.
        """
        if self._state != "done":
            raise S3Error("IncompleteBody")

    def _take_line(self, view: memoryview) -> memoryview:
        """Add to the line that is being read, and act on it once it is whole."""
        window = bytes(view[: LINE_BYTES_MAX + 2])
        stop = window.find(b"\n")
        self._line += window if stop < 0 else window[: stop + 1]
        if len(self._line) > LINE_BYTES_MAX:
            raise _malformed()
        if stop >= 0:
            line, self._line = bytes(self._line), bytearray()
            self._act(line.removesuffix(b"\n").removesuffix(b"\r"))
        return view[len(window) if stop < 0 else stop + 1 :]

    def _act(self, line: bytes) -> None:
        if self._state == "size":
            self._begin_chunk(line)
        elif self._state == "after":
            if line:
                raise _malformed()
            self._end_chunk()
            self._state = "size"
        elif line:
            self._take_trailer(line)
        else:
            self._end_trailers()

    def _begin_chunk(self, line: bytes) -> None:
        size, _, extension = line.partition(b";")
        if not 0 < len(size) <= _SIZE_DIGITS_MAX or not all(digit in b"0123456789abcdefABCDEF" for digit in size):
            raise _malformed()
        self._left = int(size, 16)
        self._digest = hashlib.sha256()
        self._sent = extension.strip().removeprefix(_SIGNATURE).decode("latin-1")
        if self._left:
            self._state = "data"
        else:
            self._end_chunk()
            self._state = "trailers"

    def _end_chunk(self) -> None:
        if self._signing is not None:
            self._signing.check_chunk(self._digest.hexdigest(), self._sent)

    def _take_trailer(self, line: bytes) -> None:
        name, colon, value = line.decode("latin-1").partition(":")
        name = name.strip().lower()
        if not colon or name in self.trailers or len(self.trailers) >= TRAILERS_MAX:
            raise _malformed()
        if name != _TRAILER_SIGNATURE:
            self._signed_trailers.update(f"{name}:{value.strip()}\n".encode("latin-1"))
        self.trailers[name] = value.strip()

    def _end_trailers(self) -> None:
        sent = self.trailers.pop(_TRAILER_SIGNATURE, None)
        if self._signing is not None and (self.trailers or sent is not None):
            self._signing.check_trailer(self._signed_trailers.hexdigest(), sent or "")
        self._state = "done"


def _malformed() -> S3Error:
    return S3Error("InvalidRequest", "The body is not in aws-chunked form.")
