"""The wheel of the very code that runs here, so that a network can hand its agents what fits it.

It is made from the installed package, whether that was installed from a wheel or is a checkout. The same files make the
same bytes on every machine: names in order, one date, nothing compressed (releases of zlib differ in what they write).
"""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import fallow

NAME = "fallow"
# PEP 427. The file says which version of the format it is, and that it holds Python without compiled parts.
_WHEEL = f"Wheel-Version: 1.0\nGenerator: {NAME}\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_KEPT = ("METADATA", "entry_points.txt")
_LICENSES = "licenses"
_DATE = (1980, 1, 1, 0, 0, 0)
_FILE_MODE = 0o100644


class Wheel(NamedTuple):
    """A wheel: the file's name, and what is in it."""

    name: str
    data: bytes

    @property
    def sha256(self) -> str:
        """Its SHA-256 in hex."""
        return hashlib.sha256(self.data).hexdigest()


def pack_wheel() -> Wheel:
    """Pack the installed package.

    Raises:
        PackageNotFoundError: Fallow runs without having been installed.
    """
    version = distribution(NAME).version
    info = f"{NAME}-{version}.dist-info"
    files = {**dict(_code(Path(fallow.__file__).parent)), **dict(_described(info)), f"{info}/WHEEL": _WHEEL.encode()}
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    return Wheel(f"{NAME}-{version}-py3-none-any.whl", _zipped(files))


def _code(package: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(package.rglob("*")):
        if path.is_file() and path.parent.name != "__pycache__":
            yield f"{NAME}/{path.relative_to(package).as_posix()}", path.read_bytes()


def _described(info: str) -> Iterator[tuple[str, bytes]]:
    """What the installer has kept of the package's own description."""
    for path in distribution(NAME).files or []:
        parts = path.parts
        if parts[0].endswith(".dist-info") and (parts[-1] in _KEPT or _LICENSES in parts):
            yield "/".join((info, *parts[1:])), path.read_binary()


def _record(files: dict[str, bytes], itself: str) -> bytes:
    """List the files with their hashes, as installers check them."""
    lines = [f"{name},sha256={_base64(hashlib.sha256(data).digest())},{len(data)}" for name, data in files.items()]
    return ("\n".join([*lines, f"{itself},,"]) + "\n").encode()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _zipped(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = _FILE_MODE << 16
            archive.writestr(entry, data)
    return target.getvalue()
