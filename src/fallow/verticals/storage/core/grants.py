"""What a grant of storage allows: which calls, of which sealed names, when. Pure.

Every caveat says all of it by itself, and a call has to satisfy each one: so a further one can only take away. Calls
that stand not in the table below are refused, whatever a grant says.

The network sees sealed names alone (ADR 51), and that is enough: names with one beginning have sealed ones with one
beginning, and the number of a "/" is no other byte's, so that what is sealed below `a/` begins with the sealed `a/`,
and `ab` does not. Where a grant is for one object, the whole sealed name has to be the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import NotAllowed
from fallow.domain.records import Count
from fallow.verticals.storage.core.calls.base import BucketName, Call, Sealed
from fallow.verticals.storage.core.calls.buckets import GetBucket
from fallow.verticals.storage.core.calls.objects import DeleteObjects, GetObject, ListObjects, PutObject
from fallow.verticals.storage.core.calls.segments import BeginSegment, EndSegment, MorePlaces, ReadSegments, SayAltered
from fallow.verticals.storage.core.calls.uploads import (
    AbortUpload,
    BeginUpload,
    CompleteUpload,
    GetUpload,
    ListParts,
    ListUploads,
    PutPart,
)

PREFIX: Final = "fgrant_"
"""How a grant begins that is handed over: what the network is shown, and keys."""

Operation = Literal["read", "write", "list", "delete"]
OPERATIONS: Final[tuple[Operation, ...]] = ("read", "write", "list", "delete")


class Caveat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A restriction. `sealed` is the beginning that sealed names must have, or with `exact` the one that they must be.

    It holds from `from_ms` on and before `until_ms` (None: until it is revoked), by the network's clock.
    """

    bucket: BucketName
    sealed: Sealed = b""
    exact: bool = False
    allow: Annotated[list[Operation], Meta(max_length=len(OPERATIONS))]
    from_ms: Count = 0
    until_ms: Count | None = None

    def covers(self, name: bytes) -> bool:
        """Whether a sealed name is one of those."""
        return name == self.sealed if self.exact else name.startswith(self.sealed)


def read_caveats(data: Sequence[bytes]) -> list[Caveat]:
    """Read the caveats of a credential.

    Raises:
        NotAllowed: `storage.grant`: one is not understood, and so nothing is allowed.
    """
    try:
        return [msgspec.msgpack.decode(one, type=Caveat) for one in data]
    except UNREADABLE as error:
        raise _no("A restriction of the grant is not understood here.") from error


class _Wanted(NamedTuple):
    """What a call wants: an operation (None: that any is allowed) in a bucket (None: in none), on names, or a list."""

    operation: Operation | None
    bucket: str | None
    names: Sequence[bytes] = ()
    beginning: bytes | None = None
    sound: bool = True
    """Not so: it asks for more than any grant allows."""


def _named(operation: Operation) -> Callable[[Any], _Wanted]:
    return lambda call: _Wanted(operation, call.bucket, (call.object,))


def _listed(call: ListObjects | ListUploads) -> _Wanted:
    return _Wanted("list", call.bucket, beginning=call.prefix)


def _new(call: PutObject | BeginUpload) -> _Wanted:
    """What nobody could delete, and its owner would pay for, is not stored by others."""
    return _Wanted("write", call.bucket, (call.object,), sound=not call.retention and not call.hold)


def _deleted(call: DeleteObjects) -> _Wanted:
    """A bucket that keeps versions keeps them from whoever has a grant."""
    latest = not call.bypass and not call.purge and not any(one.version or one.null for one in call.deletions)
    return _Wanted("delete", call.bucket, [one.object for one in call.deletions], sound=latest)


_TABLE: Final[Mapping[type[Call[Any]], Callable[[Any], _Wanted]]] = {
    GetBucket: lambda call: _Wanted(None, call.bucket),
    GetObject: _named("read"),
    ReadSegments: _named("read"),
    ListObjects: _listed,
    ListUploads: _listed,
    PutObject: _new,
    BeginUpload: _new,
    GetUpload: _named("write"),
    PutPart: _named("write"),
    ListParts: _named("write"),
    CompleteUpload: _named("write"),
    AbortUpload: _named("write"),
    # Of segments, whose ids are 16 random bytes that their readers alone are told, and streams that their writer drew.
    SayAltered: lambda call: _Wanted("read", call.bucket),
    BeginSegment: lambda call: _Wanted("write", call.bucket),
    MorePlaces: lambda _: _Wanted("write", None),
    EndSegment: lambda _: _Wanted("write", None),
    DeleteObjects: _deleted,
}


def admit(call: Call[Any], caveats: Sequence[Caveat], now_ms: int) -> Call[Any]:
    """Return the call that is to be done: the same, but that who may not delete replaces nothing, either.

    Raises:
        NotAllowed: `storage.grant`, or where it is the time's fault alone `storage.grant_time`.
    """
    wanted = _TABLE.get(type(call), lambda _: _Wanted(None, None, sound=False))(call)
    if not wanted.sound or not caveats:
        raise _no("No grant allows this.")
    for caveat in caveats:
        _check(caveat, wanted)
    for caveat in caveats:
        if now_ms < caveat.from_ms or (caveat.until_ms is not None and now_ms >= caveat.until_ms):
            early = now_ms < caveat.from_ms
            said = "does not hold yet" if early else "has ended"
            raise NotAllowed("storage.grant_time", f"This grant {said}.", "Ask who gave it to you for another one.")
    if isinstance(call, PutObject | CompleteUpload) and not all("delete" in caveat.allow for caveat in caveats):
        return msgspec.structs.replace(call, only_if=msgspec.structs.replace(call.only_if, absent=True))
    return call


def _check(caveat: Caveat, wanted: _Wanted) -> None:
    if not caveat.allow or (wanted.operation is not None and wanted.operation not in caveat.allow):
        raise _no(f"The grant does not allow to {wanted.operation or 'do anything'}.")
    inside = all(caveat.covers(name) for name in wanted.names)
    if wanted.beginning is not None:  # a list: of one object there is none, since other names may begin as its does
        inside = not caveat.exact and wanted.beginning.startswith(caveat.sealed)
    if wanted.bucket not in {None, caveat.bucket} or not inside:
        raise _no("This lies outside of what the grant is for.")


def _no(why: str) -> NotAllowed:
    return NotAllowed("storage.grant", why, "See what it is for: fallow storage grant")
