"""Payload bytes a second from plain segments to hashed pieces, on one core: sealed, coded and hashed (BLAKE3).

Segments of 64 MiB, in each profile; the way back from the pieces that lie worst (no payload's piece that can be missing
is there), opened again. Each figure is the best of some runs, for this is about processor time.

Baseline, in the same run: pyeclib's own interface over the same ISA-L, which does the coding alone.

    python bench/coding.py [--segments 4] [--runs 3]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable

from pyeclib.ec_iface import ECDriver

from fallow.verticals.storage.coding.code import Code
from fallow.verticals.storage.coding.segments import Encoder, rebuild, sealed_of
from fallow.verticals.storage.core.layout import SEGMENT_BYTES, Layout
from fallow.verticals.storage.core.profiles import LAB, PROFILES, SMALL, WIDE, Profile
from fallow.verticals.storage.core.sealing import SegmentSeal, open_blocks

GOALS_GB_S = {LAB.name: None, SMALL.name: 2.6, WIDE.name: 1.1}


def best_gb_s(work: Callable[[], object], payload: int, runs: int) -> float:
    """Payload gigabytes a second of the fastest run."""
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return payload / min(times) / 1e9


def forth(code: Code, segment: memoryview, segments: int) -> None:
    """Seal, code and hash segments; the pieces go nowhere."""
    for _ in range(segments):
        encoder = Encoder(code, os.urandom(32), len(segment))
        for _ in encoder.stripes(segment):
            pass
        encoder.hashes()


class Back:
    """Segments from the pieces that remain when as many of the payload's as possible are gone."""

    def __init__(self, code: Code, segment: memoryview) -> None:
        self.code, self.segment, self.key = code, segment, os.urandom(32)
        self.layout = Layout(len(segment), code.needed)
        pieces = [memoryview(bytearray(self.layout.piece_bytes)) for _ in range(code.pieces)]
        at = 0
        for stripe in Encoder(code, self.key, len(segment)).stripes(segment):
            share = len(stripe.shares[0])
            for piece, one in zip(pieces, stripe.shares, strict=True):
                piece[at : at + share] = one
            at += share
        gone = min(code.needed, code.pieces - code.needed)
        self.have = dict(list(enumerate(pieces))[gone : gone + code.needed])
        self.want = {number: memoryview(bytearray(self.layout.piece_bytes)) for number in range(gone)}
        self.sealed = memoryview(bytearray(self.layout.sealed_bytes))
        self.opened = memoryview(bytearray(len(segment)))

    def go(self) -> None:
        """Rebuild, put together, open."""
        rebuild(self.code, self.layout, self.have, self.want)
        sealed_of(self.layout, self.have | self.want, self.sealed)
        seal = SegmentSeal(self.key, self.layout.blocks)
        open_blocks(seal, range(self.layout.blocks), self.sealed, self.opened)


def pyeclib_gb_s(profile: Profile, segment: bytes, runs: int) -> float:
    """Coding alone, by pyeclib's interface."""
    driver = ECDriver(k=profile.needed, m=profile.pieces - profile.needed, ec_type="isa_l_rs_cauchy")
    return best_gb_s(lambda: driver.encode(segment), len(segment), runs)


def measure(profile: Profile, segments: int, runs: int) -> list[dict[str, object]]:
    """One profile there and back."""
    code, segment = Code(profile.needed, profile.pieces), memoryview(os.urandom(SEGMENT_BYTES))
    encoded = best_gb_s(lambda: forth(code, segment, segments), segments * len(segment), runs)
    back = Back(code, segment)
    decoded = best_gb_s(back.go, len(segment), runs)
    assert bytes(back.opened) == bytes(segment)
    other = pyeclib_gb_s(profile, bytes(segment), runs)
    name = f"{profile.needed}/{profile.pieces}"
    print(
        f"{name}: {encoded:.2f} GB/s sealed, coded, hashed; {decoded:.2f} back; pyeclib codes {other:.2f}", flush=True
    )
    goal = GOALS_GB_S[profile.name]
    return [
        {
            "name": f"coding-{profile.name}",
            "value": round(encoded, 2),
            "unit": f"GB/s of payload at {name}, sealed, coded and hashed on one core",
            "baseline": round(other, 2),
            "baseline_name": "pyeclib's own interface, coding alone",
            "ratio": round(encoded / other, 1),
            "goal": goal,
            "ok": goal is None or encoded >= goal,
        },
        {
            "name": f"coding-{profile.name}-back",
            "value": round(decoded, 2),
            "unit": f"GB/s of payload at {name}, from the worst pieces, opened",
            "baseline": None,
            "baseline_name": None,
            "ratio": None,
            "goal": None,
            "ok": True,
        },
    ]


def main() -> int:
    """Measure, and print one line of JSON for `make bench`."""
    parser = argparse.ArgumentParser(description="speed of sealing, coding and hashing")
    parser.add_argument("--segments", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    found = [row for profile in PROFILES.values() for row in measure(profile, options.segments, options.runs)]
    print(json.dumps(found))
    return 0 if all(row["ok"] for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
