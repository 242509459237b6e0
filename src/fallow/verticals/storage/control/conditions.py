"""Conditions of writes. Pure."""

from __future__ import annotations

from fallow.domain.errors import Conflict, NotFound
from fallow.verticals.storage.control import ids
from fallow.verticals.storage.control.standing import Held
from fallow.verticals.storage.core.calls.objects import If

_ALWAYS = If()
_SECOND_MS = 1000


def is_conditional(only_if: If) -> bool:
    """Whether there is a condition at all."""
    return only_if != _ALWAYS


def holds(only_if: If, there: Held) -> bool:
    """Whether an object that is there fulfils a condition. Times are compared by the second, as headers have them."""
    made_s = ids.made_ms(there.version) // _SECOND_MS
    return (
        not only_if.absent
        and not (only_if.older and there.is_latest)
        and only_if.etag in {"", "*", there.etag}
        and (only_if.modified_ms is None or only_if.modified_ms // _SECOND_MS == made_s)
        and only_if.size in {None, there.size}
    )


def check(only_if: If, there: Held | None) -> None:
    """Check a write's condition on the latest object, if there is one (a delete marker is none).

    Raises:
        NotFound: `storage.no_object`.
        Conflict: `storage.condition`.
    """
    if there is None and only_if.etag:
        raise NotFound("storage.no_object", "There is no object of this name.")
    compares = only_if.modified_ms is not None or only_if.size is not None
    if not holds(only_if, there) if there is not None else compares:
        raise Conflict("storage.condition", "The object is not as the request's condition says.")
