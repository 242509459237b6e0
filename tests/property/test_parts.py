"""An epoch that several processes judge is the epoch that one judges, to the last byte."""

# ruff: noqa: D101, D102

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from bench import records as field
from bench._devices import DAY_MS, DeviceReading, Devices, DeviceVerifier
from fallow.domain.epochs.closing import close, close_filed
from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.judgements import read_records
from fallow.domain.epochs.metering import Known, Metering, Verifier
from fallow.domain.epochs.parts import FiledEpoch, Spread, read_spread
from fallow.domain.epochs.reading import filed_records
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.state import NOTHING, Row, State, read_state, write_state
from fallow.domain.facts import LeaseAccepted, NodeShown, UsageReceipt
from fallow.domain.records import Body
from fallow.sdk.epochs import read_file
from fallow.verticals.compute.core.metering import ComputeMetering
from tests.epoch_files import NET, NETWORK, NETWORK_KEY, EpochFiles, Node
from tests.epoch_world import NODES, enrolled, settled

DAY = 20_000
VERTICALS: dict[str, Metering] = {"compute": ComputeMetering(), "devices": Devices()}


class Signer(Node):
    """One of the nodes that accounts can be bound to, or the network."""

    def __init__(self, key: SigningKey) -> None:
        super().__init__(0)
        self.key, self.id = key, bytes(key.verify_key)


def some_files(seed: int, day: int = DAY) -> EpochFiles:
    """What nodes and the network may have signed: for both verticals, honest and not, bindings in between."""
    chance = random.Random(seed)
    nodes = [*(Signer(SigningKey(bytes([number]) * 32)) for number in range(1, 4)), Signer(NETWORK), Node(1), Node(2)]
    batches = []
    for _ in range(chance.randrange(30)):
        node = chance.choice(nodes)
        batches.append(node.batch(*(word(chance, node, day) for _ in range(chance.randrange(1, 6)))))
    return EpochFiles(day, batches)


def word(chance: random.Random, node: Node, day: int) -> Body:
    number = chance.randrange(4).to_bytes(16)
    return chance.choice(
        [
            *(
                DeviceReading(
                    device=chance.randrange(4), measured_ms=day * DAY_MS + chance.choice([-1, 5]), watt_hours=1
                )
                for _ in range(4)
            ),
            LeaseAccepted(lease=number),
            UsageReceipt(lease=number, window=0, used_ms=1000, final=True, ok=True),
            enrolled(NODES.index(node.id) if node.id in NODES else 0, chance.randrange(3)),
            NodeShown(node=node.id, what="wrong", code="result.wrong"),
            settled(chance.randrange(4), chance.randrange(3), chance.randrange(3)),
        ]
    )


def epoch(day: int = DAY) -> Epoch:
    return Epoch(NET, day, (day + 1) * DAY_MS, NETWORK_KEY)


@given(st.integers(0, 1 << 32), st.integers(2, 4))
def test_parts_give_the_same_files_as_the_plain_fold(seed: int, parts: int) -> None:
    opening = b""
    for day in (DAY, DAY + 1):
        files = some_files(seed + day, day)
        filed = FiledEpoch(epoch(day), files.manifest, files.read)
        plain = close(opening, epoch(day), filed_records(files.manifest, files.read), Rules(), VERTICALS)
        spread = close_filed(opening, filed, Rules(), VERTICALS, Spread(parts, map))
        assert spread.files == plain.files
        assert spread.fields == plain.fields
        assert close_filed(opening, filed, Rules(), VERTICALS).files == plain.files, "and so does one part"
        opening = plain.files["state"]


class Touchy(Devices):
    """Cannot begin with the state of one node, or not end."""

    def __init__(self, at: str) -> None:
        self._at = at

    def verifier(self, carried: Sequence[Row], known: Known) -> Verifier:
        return TouchyVerifier(carried, known, self._at)


class TouchyVerifier(DeviceVerifier):
    def __init__(self, carried: Sequence[Row], known: Known, at: str) -> None:
        super().__init__(carried, known)
        self._at = at
        if at == "begin" and any(node == Node(2).id for node, _ in carried):
            raise ZeroDivisionError

    def carried(self) -> Sequence[Row]:
        rows = super().carried()
        if self._at == "end" and any(node == Node(2).id for node, _ in rows):
            raise ZeroDivisionError
        return rows


@pytest.mark.parametrize("at", ["begin", "end"])
def test_a_policy_that_cannot_begin_or_end_does_so_for_all_nodes_or_for_none(at: str) -> None:
    files = EpochFiles(DAY, [Node(number).batch(reading(0), reading(1)) for number in range(1, 8)])
    rows: list[Row] = [[Node(number).id, 1] for number in range(1, 8)]
    state = write_state(NOTHING._replace(carried={"devices": rows}))
    filed = FiledEpoch(epoch(), files.manifest, files.read)
    verticals: dict[str, Metering] = {"devices": Touchy(at)}
    plain = close(state, epoch(), filed_records(files.manifest, files.read), Rules(), verticals)
    assert plain.folded.errors
    assert close_filed(state, filed, Rules(), verticals, Spread(3, map)).files == plain.files


def reading(device: int) -> Body:
    return DeviceReading(device=device, measured_ms=DAY * DAY_MS + 7, watt_hours=1)


def test_a_policy_that_cannot_be_given_to_others_is_run_here() -> None:
    files = some_files(1)
    here = Devices()
    vars(here)["not_to_be_pickled"] = lambda: None

    def never(_judge: Any, jobs: Any) -> Any:
        assert list(jobs) == [], "nothing goes elsewhere"
        return []

    filed = FiledEpoch(epoch(), files.manifest, files.read)
    read = read_spread(b"", filed, {"devices": here}, Spread(2, never))
    plain = read_records(NOTHING, epoch(), filed_records(files.manifest, files.read), {"devices": here})
    assert read.tallies.keys() == plain.tallies.keys()


def owing(state: State) -> bytes:
    """A state file of who is owed something, for a tree of three leaves."""
    owed = {(bytes([number]) * 20, Rules().settlement): number for number in range(1, 4)}
    return write_state(state._replace(owed=owed))


def test_the_tree_is_hashed_by_what_an_epoch_is_spread_over() -> None:
    files, opening, hashed = some_files(1), owing(NOTHING), []

    def hashing(work: Callable[[bytes], bytes], pieces: Iterable[bytes]) -> Iterable[bytes]:
        for piece in pieces:
            hashed.append(len(piece))
            yield work(piece)

    filed = FiledEpoch(epoch(), files.manifest, files.read)
    spread = close_filed(opening, filed, Rules(), VERTICALS, Spread(2, map, hashing))
    assert spread.tree == close_filed(opening, filed, Rules(), VERTICALS).tree
    assert hashed[0] == len(spread.files["leaves"])
    assert sum(hashed[1:]) == len(spread.tree) - 32, "every node but the root is a child once"


def test_the_benchmarks_epoch_in_processes_is_the_plain_one(tmp_path: Path) -> None:
    opening = owing(read_state(field.opening_of(2000)))
    manifest = field.write_files(tmp_path, 2000, (field.batches_of(some, 2000) for some in field.numbered(2000)))
    made = field.closed(tmp_path, manifest, opening, 2)
    read = partial(read_file, tmp_path, field.DAY)
    at = Epoch(field.NET, field.DAY, (field.DAY + 1) * DAY_MS, field.NETWORK_KEY)
    plain = close(opening, at, filed_records(manifest, read), Rules(), {"devices": Devices()})
    assert made.files == plain.files
    assert made.tree == plain.tree
    assert sum(line.units for line in made.folded.lines) == 2000
