"""The example picture: the same pixels however it is cut, the same bytes wherever it is built."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import zlib
from pathlib import Path
from types import ModuleType

import pytest

from fallow.verticals.compute.worker.wasm import WasmJob, WasmOutcome, run_wasm
from tests.capability import require

EXAMPLE = Path(__file__).parents[2] / "examples" / "pathtracer"
GOLDEN = "8569204df917392884c1a319f4f9366e83ff2c9cd5cb0789cbd2e03dc5a8717b"


@pytest.fixture(scope="module")
def stitch() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pathtracer_stitch", EXAMPLE / "stitch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def render(
    workspace: Path, args: tuple[str, ...] = (), given: str | None = None, stdin: Path | None = None
) -> tuple[WasmOutcome, bytes]:
    """Render one tile: how it ended, and the file it made."""
    (workspace / "in").mkdir(parents=True)
    if given is not None:
        (workspace / "in" / "input").write_text(given)
    job = WasmJob(
        program=EXAMPLE / "pathtracer.wasm",
        workspace=workspace,
        args=args,
        stdin=stdin,
        seed=bytes(32),
        fuel_max=10**11,
        memory_bytes_max=16 << 20,
        output_bytes_max=1 << 20,
        time_limit_s=60,
    )
    outcome = await run_wasm(job, cache_dir=workspace.parent / "cache")
    tile = workspace / "out" / "tile.ppm"
    return outcome, tile.read_bytes() if tile.exists() else b""


async def test_two_cuts_give_the_same_picture(tmp_path: Path, stitch: ModuleType) -> None:
    pictures = []
    for cut in ([(0, 0, 24, 16)], [(0, 0, 7, 5), (7, 0, 24, 5), (0, 5, 24, 6), (0, 6, 24, 16)]):
        tiles = []
        for index, corners in enumerate(cut):
            args = tuple(map(str, (*corners, 24, 16, 2)))
            outcome, tile = await render(tmp_path / f"{len(cut)}-{index}", args)
            assert outcome.exit_code == 0, outcome
            tiles.append(stitch.read_ppm(tile))
        pictures.append(stitch.stitch(reversed(tiles)))
    assert pictures[0] == pictures[1]
    assert pictures[0][:2] == (24, 16)
    assert len(set(pictures[0][2])) > 50


async def test_a_tile_is_the_same_bytes_everywhere_and_for_ever(tmp_path: Path) -> None:
    outcome, tile = await render(tmp_path / "args", ("230", "130", "246", "142", "480", "320", "3"))
    assert (outcome.reason, outcome.exit_code) == ("exited", 0)
    assert hashlib.sha256(tile).hexdigest() == GOLDEN
    line = "230 130 246 142 480 320 3\n"
    assert (await render(tmp_path / "input", given=line))[1] == tile
    (tmp_path / "line").write_text(line)
    assert (await render(tmp_path / "stdin", stdin=tmp_path / "line"))[1] == tile


async def test_a_tile_is_the_same_bytes_on_every_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From SSE3 alone to AVX2 with fused multiplication, and two makers: each gets machine code of its own."""
    require("qemu-user")
    args = ("230", "130", "238", "134", "480", "320", "1")
    outcome, tile = await render(tmp_path / "here" / "run", args)
    found = {(tile, outcome.fuel_used)}
    machine_code: set[bytes] = set()
    for model in ("Conroe", "Nehalem", "Haswell", "EPYC"):
        python = tmp_path / f"python-{model}"
        python.write_text(f'#!/bin/sh\nexec qemu-x86_64 -cpu {model} {sys.executable} "$@"\n')
        python.chmod(0o755)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", str(python))
            outcome, tile = await render(tmp_path / model / "run", args)
        assert (outcome.reason, outcome.exit_code) == ("exited", 0), (model, outcome)
        found.add((tile, outcome.fuel_used))
        machine_code.update(path.read_bytes() for path in (tmp_path / model / "cache").glob("*.cwasm"))
    assert len(found) == 1
    assert len(machine_code) > 1  # or no other processor was there at all


@pytest.mark.parametrize("line", ["", "1 2 3", "0 0 9 9 8 8 1", "-1 0 1 1 8 8 1", "0 0 1 1 8 8 0"])
async def test_nonsense_is_refused(tmp_path: Path, line: str) -> None:
    outcome, tile = await render(tmp_path / "run", given=line)
    assert (outcome.reason, outcome.exit_code, tile) == ("exited", 2, b"")


def test_the_png_holds_the_pixels(stitch: ModuleType) -> None:
    png = stitch.write_png(2, 1, b"abcdef")
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    start = png.index(b"IDAT") + 4
    assert zlib.decompressobj().decompress(png[start:]) == b"\0abcdef"
    with pytest.raises(ValueError, match="not a tile"):
        stitch.read_ppm(b"P6\n1 1\n255\nabc")


@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")
def test_the_committed_program_is_what_its_source_builds_to() -> None:
    subprocess.run([sys.executable, str(EXAMPLE / "check.py")], check=True)
