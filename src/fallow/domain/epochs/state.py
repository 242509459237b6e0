"""What is carried from epoch to epoch, and the file that holds it: hashed like everything else of an epoch. Pure.

The file `state` is made of frames (see `fallow.domain.epochs.manifest`), each a list whose first element says what it
is: ["state", 1, epochs, minted], then ["node", rows], ["owed", rows] and [vertical, rows], each with up to 1,000 rows
in ascending order. Amounts of tokens, and what is owed, are 32 bytes, most significant first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from fallow.domain.encoding import Value
from fallow.domain.epochs.manifest import File, frame, read_frames
from fallow.domain.errors import FallowError, InvalidInput
from fallow.domain.records import convert
from fallow.domain.verification import Standing

STATE: Final = "state"
FORMAT: Final = 1
ROWS_A_FRAME: Final = 1000

NODE, OWED = "node", "owed"
SECTIONS: Final = frozenset({STATE, NODE, OWED})
"""Names that no vertical can have; those with a dot are the core's."""

Row = list[Any]
Owed = tuple[bytes, bytes]
"""Account and asset."""


class State(NamedTuple):
    """`epochs` were closed until now, in which `minted` units of the token came to be.

    `owners` says to which account each node is bound, `owed` what each account was owed of each asset since the
    beginning; `carried` is what each vertical wants to know again, as rows that begin with a key.
    """

    epochs: int
    minted: int
    owners: Mapping[bytes, bytes]
    standings: Mapping[bytes, Standing]
    owed: Mapping[Owed, int]
    carried: Mapping[str, Sequence[Row]]


NOTHING: Final = State(0, 0, {}, {}, {}, {})
"""Before the first epoch."""


class _Node(NamedTuple):
    node: bytes
    owner: bytes
    confirmed: int
    wrong: int
    wrong_at: int | None
    why: str
    missed: int


class _OwedRow(NamedTuple):
    account: bytes
    asset: bytes
    amount: bytes


def amount(value: int) -> bytes:
    """Write an amount that 64 bits may not hold.

    Raises:
        InvalidInput: it is negative, or 256 bits do not hold it.
    """
    try:
        return value.to_bytes(32)
    except OverflowError as error:
        raise InvalidInput("epoch.amount", "An amount is not negative and fits into 256 bits.") from error


def write_state(state: State) -> bytes:
    """Return the file."""
    nodes = sorted(state.owners.keys() | state.standings.keys())
    return b"".join(
        [
            frame([STATE, FORMAT, state.epochs, amount(state.minted)]),
            *_section(NODE, (_node_row(state, node) for node in nodes)),
            *_section(OWED, ([*key, amount(owed)] for key, owed in sorted(state.owed.items()))),
            *(part for name, rows in sorted(state.carried.items()) for part in _section(name, sorted(rows))),
        ]
    )


def read_state(data: bytes) -> State:
    """Read the file; of no bytes at all, the state before the first epoch.

    Raises:
        InvalidInput: `epoch.state`: it is not as `write_state` writes it.
    """
    if not data:
        return NOTHING
    try:
        state = _read(data)
        again = write_state(state)
    except (FallowError, TypeError, ValueError) as error:
        raise InvalidInput("epoch.state", f"The carried state is malformed: {error}") from error
    if again != data:
        raise InvalidInput("epoch.state", "The carried state is not in its one form.")
    return state


def _read(data: bytes) -> State:
    file = File(name=STATE, size=len(data), sha256=hashlib.sha256(data).digest(), count=0)
    (name, version, epochs, minted), *parts = read_frames(file, [data])
    if (name, version) != (STATE, FORMAT) or not isinstance(epochs, int):
        raise InvalidInput("epoch.state", "It does not begin as version 1 does.")
    owners: dict[bytes, bytes] = {}
    standings: dict[bytes, Standing] = {}
    owed: dict[Owed, int] = {}
    carried: dict[str, list[Row]] = {}
    for section, rows in parts:
        if section == NODE:
            for node in convert(rows, list[_Node], "epoch.state"):
                if node.owner:
                    owners[node.node] = node.owner
                standing = _standing(node)
                if standing != Standing():
                    standings[node.node] = standing
        elif section == OWED:
            owed |= {(one.account, one.asset): int.from_bytes(one.amount) for one in convert(rows, list[_OwedRow], "")}
        else:
            carried.setdefault(section, []).extend(rows)
    return State(epochs, int.from_bytes(minted), owners, standings, owed, carried)


def _node_row(state: State, node: bytes) -> Row:
    shown = state.standings.get(node, Standing())
    owner = state.owners.get(node, b"")
    return [node, owner, shown.confirmed, shown.wrong, shown.wrong_at, shown.why, shown.missed]


def _standing(row: _Node) -> Standing:
    return Standing(confirmed=row.confirmed, wrong=row.wrong, wrong_at=row.wrong_at, why=row.why, missed=row.missed)


def _section(name: str, rows: Iterable[Row]) -> Iterator[bytes]:
    gathered: list[Value] = []
    for row in rows:
        gathered.append(row)
        if len(gathered) == ROWS_A_FRAME:
            yield frame([name, gathered])
            gathered = []
    if gathered:
        yield frame([name, gathered])
