"""Put tiles of the path tracer together into one PNG, with the standard library only.

    python stitch.py picture.png tile-0.ppm tile-1.ppm ...

Every tile says in its header where it belongs (`# tile X0 Y0 of WIDTH HEIGHT`), so their order does not matter.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Tile(NamedTuple):
    """A part of a picture: where it lies, how large the whole is, and its rows of 8-bit RGB."""

    x: int
    y: int
    columns: int
    rows: int
    width: int
    height: int
    pixels: bytes


def read_ppm(data: bytes) -> Tile:
    """Read a tile as the path tracer writes it. Raises ValueError when it is anything else."""
    parts = data.split(b"\n", 4)
    if len(parts) != 5:  # noqa: PLR2004 - four lines of header, then the pixels
        raise ValueError("this is not a tile of the path tracer")
    magic, place, size, depth, pixels = parts
    words = place.split()
    if magic != b"P6" or depth != b"255" or [*words[:2], *words[4:5]] != [b"#", b"tile", b"of"]:
        raise ValueError("this is not a tile of the path tracer")
    x, y, width, height = (int(words[index]) for index in (2, 3, 5, 6))
    columns, rows = map(int, size.split())
    if len(pixels) != columns * rows * 3 or x + columns > width or y + rows > height:
        raise ValueError(f"the tile at {x}, {y} has {len(pixels)} bytes, not {columns * rows * 3}")
    return Tile(x, y, columns, rows, width, height, pixels)


def stitch(tiles: Iterable[Tile]) -> tuple[int, int, bytes]:
    """The whole picture: its width, its height, its rows of RGB; what no tile covers is black."""
    width, height, picture = 0, 0, bytearray()
    for tile in tiles:
        if not picture:
            width, height = tile.width, tile.height
            picture = bytearray(width * height * 3)
        if (tile.width, tile.height) != (width, height):
            raise ValueError("the tiles are of different pictures")
        for row in range(tile.rows):
            start = ((tile.y + row) * width + tile.x) * 3
            picture[start : start + tile.columns * 3] = tile.pixels[row * tile.columns * 3 :][: tile.columns * 3]
    return width, height, bytes(picture)


def write_png(width: int, height: int, rgb: bytes) -> bytes:
    """The PNG file of a picture of 8-bit RGB rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = b"".join(b"\0" + rgb[y * width * 3 : (y + 1) * width * 3] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9)) + chunk(b"IEND", b"")


def main() -> None:
    """Stitch the tiles named on the command line."""
    if len(sys.argv) < 3:  # noqa: PLR2004
        sys.exit("usage: stitch.py PICTURE.png TILE.ppm ...")
    target, *names = map(Path, sys.argv[1:])
    width, height, rgb = stitch(read_ppm(name.read_bytes()) for name in names)
    target.write_bytes(write_png(width, height, rgb))
    print(f"{target}: {width} x {height} pixels from {len(names)} tiles")


if __name__ == "__main__":
    main()
