"""Results laid out as files, for whoever compares them. What nodes say of them is checked: it is a stranger's word."""

from __future__ import annotations

import asyncio
from pathlib import Path, PurePosixPath
from typing import Final

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import InvalidInput, NotFound, TooMuch
from fallow.ports.blobs import Blobs
from fallow.verticals.compute.core.outcome import Outcome, Output, decode_outcome

OUTCOME_BYTES_MAX: Final = 16 << 20
RESULT_BYTES_MAX: Final = 64 << 20
"""Larger results are not compared."""
FILES_MAX: Final = 1000
NAME_BYTES_MAX: Final = 1000
STDOUT: Final = "stdout"
OUT: Final = "out"


class _Broken(Exception):
    """A result is not what results are."""


class Results:
    """Reads one account's results."""

    def __init__(self, blobs: Blobs, owner: str) -> None:
        self._blobs = blobs
        self._owner = owner

    async def lay(self, result: str, folder: Path) -> bool:
        """Write a result's standard output to `stdout` and its files to `out/` in `folder`; False if it is broken.

        Raises:
            TooMuch: it has more than `RESULT_BYTES_MAX` bytes or `FILES_MAX` files.
        """
        try:
            outcome = decode_outcome(await self.read(result, OUTCOME_BYTES_MAX))
            _check_sizes(outcome)
            (folder / OUT).mkdir(parents=True)
            await self._write(outcome.stdout, folder / STDOUT)
            for output in outcome.outputs:
                await self._write(output, folder / OUT / _checked(output.name))
        except (_Broken, NotFound, InvalidInput, OSError, *UNREADABLE):
            return False
        return True

    async def read(self, sha256: str, bytes_max: int) -> bytes:
        """Read a blob whole.

        Raises:
            NotFound: it is not there.
            TooMuch: it has more bytes.
        """
        if await self._blobs.size(self._owner, sha256) > bytes_max:
            raise TooMuch("comparator.too_large", "It is too large to be compared.")
        return b"".join([piece async for piece in self._blobs.get(self._owner, sha256)])

    async def _write(self, output: Output, path: Path) -> None:
        try:
            data = await self.read(output.sha256, output.size)
        except TooMuch:
            raise _Broken from None  # than it says itself
        if len(data) != output.size:
            raise _Broken
        await asyncio.to_thread(_put, path, data)


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)


def _check_sizes(outcome: Outcome) -> None:
    sizes = [outcome.stdout.size, *(output.size for output in outcome.outputs)]
    if any(size < 0 for size in sizes):
        raise _Broken
    if sum(sizes) > RESULT_BYTES_MAX or len(sizes) > FILES_MAX:
        raise TooMuch("comparator.too_large", "It is too large to be compared.")


def _checked(name: str) -> PurePosixPath:
    """A name that leads nowhere else."""
    path = PurePosixPath(name)
    plain = all(part not in {"", ".", ".."} and part.isprintable() for part in name.split("/"))
    if not plain or len(name.encode()) > NAME_BYTES_MAX:
        raise _Broken
    return path
