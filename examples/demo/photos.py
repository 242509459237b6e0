"""The demo's second job: a Python map over photographs, and the buyer's contact sheet of what comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fallow import AsyncClient, FallowError, Requirements

HERE = Path(__file__).parent
PHOTOS = HERE.parent / "photos"
sys.path.insert(0, str(HERE.parent / "pathtracer"))
from stitch import Tile, stitch, write_png  # noqa: E402 - an example beside this one

FALLOW = Path(sys.executable).with_name("fallow")
COLUMNS, GAP = 3, 14
CPU_MILLI, MEMORY_MIB = 250, 256
TIME_LIMIT_S = 120


class Spoiled(Exception):
    """The job ran and did not give what it must."""


async def develop(
    buyer: AsyncClient, output: Path, *, cpu_milli: int = CPU_MILLI, homes: Sequence[Path] = ()
) -> str | None:
    """Develop all photographs on the network and save `photos.png` into `output`.

    Returns None when that worked, or the sentence why it cannot be done on this machine. `homes` are those of agents
    that run here, and can be asked what they lack. Raises Spoiled or FallowError when it fails for another reason.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    offered = {node.attributes.get("compute.python") for node in await buyer.nodes() if node.state != "offline"}
    if version not in offered:
        return f"No machine here offers Python {version}: {reason(homes)}"
    photos = sorted(PHOTOS.glob("*.jpg"))
    try:
        order = await buyer.python_order(
            PHOTOS / "photos.py",
            items=photos,
            requirements=Requirements(cpu_milli=cpu_milli, memory_mib=MEMORY_MIB),
            time_limit_s=TIME_LIMIT_S,
            label="photographs",
        )
    except FallowError as error:
        if error.code.startswith("bundle."):
            return f"The script's dependency cannot be bundled here: {error}"
        raise
    await buyer.submit(order)
    cards: dict[int, tuple[int, int, bytes]] = {}
    async for result in buyer.results(order.id):
        if not result.ok:
            told = (await result.stderr()).decode(errors="replace")
            raise Spoiled(f"{photos[result.index].name} failed: {result.reason}\n{told}")
        cards[result.index] = read_ppm(await result.output("card.ppm"))
    if len(cards) != len(photos):
        raise Spoiled(f"{len(cards)} of {len(photos)} photographs came back")
    save(output / "photos.png", [cards[index] for index in sorted(cards)])
    return None


def save(path: Path, cards: Sequence[tuple[int, int, bytes]]) -> None:
    """Write the contact sheet."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(sheet(cards))


def sheet(cards: Sequence[tuple[int, int, bytes]]) -> bytes:
    """Lay cards of one size out in rows, as a PNG."""
    width, height, _ = cards[0]
    if any(card[:2] != (width, height) for card in cards):
        raise Spoiled("the cards are not of one size")
    rows = -(-len(cards) // COLUMNS)
    total = (COLUMNS * (width + GAP) + GAP, rows * (height + GAP) + GAP)
    places = [(GAP + at % COLUMNS * (width + GAP), GAP + at // COLUMNS * (height + GAP)) for at in range(len(cards))]
    tiles = [Tile(x, y, width, height, *total, card[2]) for (x, y), card in zip(places, cards, strict=True)]
    return bytes(write_png(*stitch(tiles)))


def read_ppm(data: bytes) -> tuple[int, int, bytes]:
    """Width, height and pixels of a picture that a stranger's machine sent."""
    parts = data.split(b"\n", 3)
    try:
        magic, size, depth, pixels = parts
        width, height = map(int, size.split())
    except ValueError:
        raise Spoiled("a card is not a picture") from None
    if (magic, depth, len(pixels)) != (b"P6", b"255", width * height * 3):
        raise Spoiled("a card is not a picture")
    return width, height, pixels


def reason(homes: Sequence[Path]) -> str:
    """Say what the agents say about it."""
    for home in homes:
        asked = [str(FALLOW), "agent", "status", "--home", str(home), "--json"]
        answer = subprocess.run(asked, capture_output=True, text=True, check=False)
        if answer.returncode == 0 and (why := json.loads(answer.stdout).get("missing", {}).get("python")):
            return str(why)
    return "`fallow agent status` on each says why."
