"""What nodes that mean harm make of honest records. Whatever can be signed and archived is among it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from fallow.domain.encoding import INT_MAX, INT_MIN
from fallow.domain.records import COUNT_MAX, Record

OTHER_NETWORK: Final = "another-network"
NESTED: Final[list[Any]] = [[[[[[[[1]]]]]]]]
ODD: Final[tuple[Any, ...]] = (
    0,
    1,
    -1,
    COUNT_MAX,
    COUNT_MAX + 1,
    INT_MAX,
    INT_MIN,
    None,
    True,
    "",
    "\x00",
    "x" * 4096,
    b"",
    bytes(20),
    bytes(32),
    b"\xff" * 4096,
    [],
    [None],
    {},
    {"": None},
    NESTED,
)
"""Values of each type that the encoding has, at the ends of what it can say."""


def twisted(record: Record, chance: random.Random) -> Record:
    """Change a record in one place, as only its signer can."""
    return chance.choice(_TWISTS)(record, chance)


def _value(record: Record, chance: random.Random) -> Record:
    """Some value, however deep it lies, is another one."""
    places = list(_places(record.body))
    if not places:
        return _more(record, chance)
    return msgspec.structs.replace(record, body=_put(record.body, chance.choice(places), chance.choice(ODD)))


def _less(record: Record, chance: random.Random) -> Record:
    kept = dict(record.body)
    if kept:
        del kept[chance.choice(sorted(kept))]
    return msgspec.structs.replace(record, body=kept)


def _more(record: Record, chance: random.Random) -> Record:
    return msgspec.structs.replace(record, body={**record.body, "beside": chance.choice(ODD)})


def _nothing(record: Record, _chance: random.Random) -> Record:
    return msgspec.structs.replace(record, body={})


def _version(record: Record, chance: random.Random) -> Record:
    return msgspec.structs.replace(record, v=chance.choice([0, record.v + 1, COUNT_MAX]))


def _time(record: Record, chance: random.Random) -> Record:
    return msgspec.structs.replace(record, at=chance.choice([0, COUNT_MAX]))


def _sealed(record: Record, chance: random.Random) -> Record:
    name = chance.choice([*sorted(record.body), "beside"])
    return msgspec.structs.replace(record, sealed={**record.sealed, name: chance.choice([b"", bytes(32), bytes(4096)])})


def _network(record: Record, _chance: random.Random) -> Record:
    return msgspec.structs.replace(record, net=OTHER_NETWORK)


_TWISTS: Final[tuple[Callable[[Record, random.Random], Record], ...]] = (
    *[_value] * 6,
    _less,
    _more,
    _nothing,
    _version,
    _time,
    _sealed,
    _network,
)

Path = tuple[str | int, ...]


def _places(value: object, path: Path = ()) -> Iterator[Path]:
    """Every place within a value, itself left out at the top."""
    if path:
        yield path
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield from _places(below, (*path, name))
    elif isinstance(value, list):
        for at, below in enumerate(value):
            yield from _places(below, (*path, at))


def _put(value: Any, path: Path, new: object) -> Any:  # noqa: ANN401 - a body holds anything
    """A copy of a value with something else at a place in it."""
    if not path:
        return new
    if isinstance(value, list):
        return [_put(each, path[1:], new) if at == path[0] else each for at, each in enumerate(value)]
    return {name: _put(each, path[1:], new) if name == path[0] else each for name, each in value.items()}
