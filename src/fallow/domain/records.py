"""Records: the immutable facts that everything downstream is computed from.

A record is one deterministic CBOR map. Private fields stand in it only as salted commitments; their openings travel
beside it and live in a store that can be erased without touching any signed byte. How records are signed is in
`fallow.domain.batches`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self, TypeVar

import msgspec
from msgspec import Meta

from fallow.domain.encoding import decode, decode_all, encode, tagged_hash
from fallow.domain.errors import InvalidInput

COMMITMENT_TAG = "fallow/commitment/1"
RECORD_TAG = "fallow/record/1"
RECORD_BYTES_MAX = 16 << 10
SALT_BYTES = 32
COUNT_MAX = 1 << 62

Count = Annotated[int, Meta(ge=0, le=COUNT_MAX)]
"""A number that fits into a signed 64-bit column."""

T = TypeVar("T")
BodyT = TypeVar("BodyT", bound="Body")


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a record of one kind says.

    Subclasses name their kind, their schema version and the class of each field that is not public. A private field
    has a default, which stands for "sealed". A released version is never edited: a changed body is a new version
    with a class of its own.
    """

    kind: ClassVar[str]
    version: ClassVar[int]
    private: ClassVar[frozenset[str]] = frozenset()


class Opening(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What turns a commitment back into its value."""

    salt: bytes
    value: Any


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fact. `at` is the node's own claim of the time, in milliseconds since 1970."""

    net: str
    kind: str
    v: Count
    node: bytes
    boot: Count
    seq: Count
    at: Count
    body: dict[str, Any]
    sealed: dict[str, bytes]

    def encode(self) -> bytes:
        """Return the exact bytes that are hashed and signed."""
        return encode({name: getattr(self, name) for name in self.__struct_fields__})

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a record.

        Raises:
            InvalidInput: malformed, oversized, or with fields of the wrong type.
        """
        if len(data) > RECORD_BYTES_MAX:
            raise InvalidInput("record.too_large", f"A record has at most {RECORD_BYTES_MAX} bytes, not {len(data)}.")
        return convert(decode(data), cls, "record.malformed")

    def read(self, body_type: type[BodyT]) -> BodyT:
        """Return the body as `body_type`, its private fields at their defaults.

        Raises:
            InvalidInput: the record is of another kind or version, or its body does not fit.
        """
        if (self.kind, self.v) != (body_type.kind, body_type.version):
            raise InvalidInput(
                "record.kind", f"The record is {self.kind}/{self.v}, not {body_type.kind}/{body_type.version}."
            )
        private = body_type.private
        if (self.sealed or private) and (set(self.sealed) != private or private & set(self.body)):
            raise InvalidInput("record.sealed", f"A {self.kind} record seals exactly {sorted(body_type.private)}.")
        return convert(self.body, body_type, "record.body")


def decode_records(several: Sequence[bytes]) -> list[Record]:
    """Read records, in less time than one by one; raises as `Record.decode`."""
    if any(len(data) > RECORD_BYTES_MAX for data in several):
        raise InvalidInput("record.too_large", f"A record has at most {RECORD_BYTES_MAX} bytes.")
    return convert(decode_all(several), list[Record], "record.malformed")


def make_record(
    body: Body, *, net: str, node: bytes, boot: int, seq: int, at: int, new_salt: Callable[[], bytes]
) -> tuple[Record, dict[str, Opening]]:
    """Build a record and the openings of its private fields. `new_salt` gives 32 fresh random bytes a call."""
    fields = to_builtins(body)
    openings = {name: Opening(new_salt(), fields.pop(name)) for name in sorted(type(body).private)}
    sealed = {name: commitment(net, body.kind, name, opening) for name, opening in openings.items()}
    record = Record(
        net=net, kind=body.kind, v=body.version, node=node, boot=boot, seq=seq, at=at, body=fields, sealed=sealed
    )
    return record, openings


def record_name(encoded: bytes) -> bytes:
    """32 bytes that name a record by what was signed of it; its private values are kept under this name."""
    return tagged_hash(RECORD_TAG, encoded)


def commitment(net: str, kind: str, field: str, opening: Opening) -> bytes:
    """32 bytes that bind a private value without telling it, as long as the salt is kept from the reader.

    Raises:
        InvalidInput: the salt has another length than 32 bytes.
    """
    if len(opening.salt) != SALT_BYTES:
        raise InvalidInput("record.salt", f"A salt has {SALT_BYTES} bytes, not {len(opening.salt)}.")
    return tagged_hash(COMMITMENT_TAG, encode([net, kind, field, opening.salt, opening.value]))


def check_openings(record: Record, openings: Mapping[str, Opening]) -> None:
    """Raise InvalidInput unless `openings` are exactly those of the record's sealed fields."""
    if openings.keys() != record.sealed.keys():
        raise InvalidInput("record.openings", "The openings do not name the record's sealed fields.")
    for field, opening in openings.items():
        if commitment(record.net, record.kind, field, opening) != record.sealed[field]:
            raise InvalidInput("record.openings", f"The opening of {field!r} does not fit its commitment.")


def to_builtins(value: msgspec.Struct) -> dict[str, Any]:
    """Turn a struct into the types of the encoding."""
    fields = msgspec.to_builtins(value, builtin_types=(bytes,))
    if not isinstance(fields, dict):
        raise TypeError(f"{type(value).__name__} does not encode as a map")
    return fields


def convert(value: Any, to: type[T], code: str) -> T:  # noqa: ANN401 - what was decoded can be anything
    """Turn decoded data into a struct, strictly.

    Raises:
        InvalidInput: with `code`, when it does not fit.
    """
    try:
        return msgspec.convert(value, to, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise InvalidInput(code, f"The data does not fit {to.__name__}: {error}.") from error
