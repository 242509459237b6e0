"""A process that keeps pieces is killed in the middle of its work: every piece that it said it had is there, whole."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from blake3 import blake3

from fallow.verticals.storage.worker.store import PieceStore

ROUNDS = 6
KEEPER = """
import random, sys
from pathlib import Path
from blake3 import blake3
from fallow.verticals.storage.worker.store import PieceStore

seed, clock = int(sys.argv[2]), iter(range(10**15, 10**18, 10**9))
draw = random.Random(seed)
store = PieceStore(Path(sys.argv[1]), limit_bytes=1 << 30, now_ms=lambda: next(clock))
for number in range(10_000):
    data = random.Random(f"{seed} {number}").randbytes(draw.randrange(300_000))
    piece = seed.to_bytes(16) + number.to_bytes(16)
    with store.receive(piece, len(data)) as incoming:
        for at in range(0, len(data), 65_536):
            incoming.write(data[at : at + 65_536])
        incoming.commit(blake3(data).digest())
    print("put", number, flush=True)
    if number % 5 == 4:
        gone = seed.to_bytes(16) + (number - draw.randrange(5)).to_bytes(16)
        print("purging", int.from_bytes(gone[16:]), flush=True)
        store.purge([gone])
    if number % 20 == 19:
        store.sweep()
"""


def kept_until_killed(folder: Path, seed: int, lines: int) -> set[int]:
    """Let it work until it has said so many lines; returns the pieces that it must have."""
    command = [sys.executable, "-c", KEEPER, str(folder), str(seed)]
    there: set[int] = set()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout is not None
        for count, line in enumerate(keeper.stdout):
            if count == lines:
                keeper.kill()
            word, number = line.split()
            (there.add if word == "put" else there.discard)(int(number))
    return there


def test_what_was_acknowledged_outlives_kill_9(tmp_path: Path) -> None:
    draw = random.Random(4)
    acknowledged = [kept_until_killed(tmp_path, seed, draw.randrange(1, 60)) for seed in range(ROUNDS)]
    store = PieceStore(tmp_path, limit_bytes=1 << 30, now_ms=lambda: 0)
    for seed, numbers in enumerate(acknowledged):
        for number in numbers:
            expected = random.Random(f"{seed} {number}").randbytes(random_length(seed, number))
            piece = seed.to_bytes(16) + number.to_bytes(16)
            assert store.read(piece, 0, 300_000) == expected
            assert store.find(piece).hash == blake3(expected).digest()
    assert sum(map(len, acknowledged)) > ROUNDS
    assert abs(store.used_bytes - sum(path.stat().st_blocks * 512 for path in (tmp_path, *tmp_path.iterdir()))) < 65_536
    store.close()


def random_length(seed: int, number: int) -> int:
    """The length that the keeper drew for a piece."""
    draw = random.Random(seed)
    for earlier in range(number):
        draw.randrange(300_000)
        if earlier % 5 == 4:
            draw.randrange(5)
    return draw.randrange(300_000)
