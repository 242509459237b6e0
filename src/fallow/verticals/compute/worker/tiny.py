"""The smallest image there is, written on the spot: what runs it runs containers here, and no network is needed."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
from pathlib import Path
from typing import Final

import msgspec

from fallow.verticals.compute.worker.oci import ImageConfig, RootFs, write_layout

EXIT_CODE: Final = 42
"""What its program returns, and does nothing else."""

# exit(42), by processor: the ELF machine's number, and its code.
_PROGRAMS: Final = {
    "amd64": (62, bytes.fromhex("bf2a000000 b83c000000 0f05")),
    "arm64": (183, bytes.fromhex("400580d2 a80b80d2 010000d4")),
}
_ADDRESS: Final = 0x400000
_HEADERS_BYTES: Final = 64 + 56


def write_tiny_image(folder: Path, architecture: str) -> str | None:
    """Write the image's layout into a new folder and return its id; None for a processor that it is not made for."""
    if architecture not in _PROGRAMS:
        return None
    layer = io.BytesIO()
    program = _elf(*_PROGRAMS[architecture])
    with tarfile.open(fileobj=layer, mode="w") as archive:
        entry = tarfile.TarInfo("exit")
        entry.mode, entry.size = 0o755, len(program)
        archive.addfile(entry, io.BytesIO(program))
    diff_id = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    config = ImageConfig(architecture=architecture, os="linux", rootfs=RootFs(type="layers", diff_ids=[diff_id]))
    return write_layout(folder, msgspec.json.encode(config), [layer.getvalue()])


def _elf(machine: int, code: bytes) -> bytes:
    """One executable segment that holds the whole file (System V ABI, ELF-64)."""
    size = _HEADERS_BYTES + len(code)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _ADDRESS + _HEADERS_BYTES, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _ADDRESS, _ADDRESS, size, size, 0x1000)
    return ident + header + segment + code
