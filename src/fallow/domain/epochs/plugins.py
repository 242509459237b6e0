"""A vertical's policy in an epoch, held to its contract: whatever it does, the epoch closes. Pure.

What a vertical raises that is no FallowError, and what it returns that no epoch can hold, is a bug of its own. The
record at hand is rejected with the code `plugin.error`, the same wherever the epoch is computed, and the first such bug
is told to the operator. A policy that cannot begin or end its epoch has all its records rejected, or carries on what it
was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fallow.domain.encoding import encode
from fallow.domain.epochs.metering import ACCEPTED, Found, Known, Metering, Use, Verifier
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.state import Row
from fallow.domain.errors import FallowError
from fallow.domain.facts import Moved
from fallow.domain.identity import ADDRESS_BYTES, NODE_ID_BYTES
from fallow.domain.records import COUNT_MAX
from fallow.domain.verification import Standing, Verdict

PLUGIN_ERROR: Final = "plugin.error"
WORD_MAX: Final = 100
ERROR_MAX: Final = 300
ROW_BYTES_MAX: Final = 512
"""A thousand such rows are a frame."""
SCORE_MAX: Final = 1_000_000

_USE_TYPES: Final = (bytes, bytes, int)
_ACCOUNT_BYTES: Final = frozenset({0, ADDRESS_BYTES})
_BROKEN: Final = Found(Verdict.REJECTED, PLUGIN_ERROR)


class Contained:
    """One vertical in one epoch. `error` is what it raised first, for people; `stuck` that it did not begin or end."""

    def __init__(self, metering: Metering, carried: Sequence[Row], known: Known) -> None:
        self.error = ""
        self.stuck = False
        self._metering = metering
        self._opening = carried
        self._verifier = self._begin(known)

    def judge(self, filed: Filed) -> tuple[Found, Use | None]:
        """Decide on a record, and say what it meters."""
        if self._verifier is None:
            return _BROKEN, None
        try:
            found, use = self._judged(self._verifier, filed)
            if found is not ACCEPTED:
                check_found(found)
            if use is not None:
                check_use(use)
                _require(use.node == filed.node or not self._metering.by_node, use)
        except MemoryError:
            raise  # of this machine, not of the policy: closing it again is right
        except Exception as error:  # noqa: BLE001 - that is what it is for
            self._note(error)
            return _BROKEN, None
        return found, use

    def carried(self) -> Sequence[Row]:
        """What goes on to the next epoch."""
        if self._verifier is None:
            return self._opening
        try:
            rows = self._verifier.carried()
            check_rows(rows)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            self._note(error)
            self.stuck = True
            return self._opening
        return rows

    def _judged(self, verifier: Verifier, filed: Filed) -> tuple[Found, Use | None]:
        try:
            found = verifier.verify(filed)
            return found, self._metering.meter(filed) if found.verdict is Verdict.ACCEPTED else None
        except FallowError as error:
            return Found(Verdict.REJECTED, error.code), None

    def _begin(self, known: Known) -> Verifier | None:
        try:
            return self._metering.verifier(self._opening, known)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - as above
            self._note(error)
            self.stuck = True
            return None

    def _note(self, error: Exception) -> None:
        self.error = self.error or said(error)


def score_of(metering: Metering, standing: Standing, at: int, errors: dict[str, str]) -> int:
    """Ask a vertical for a score; nothing where it gives none that holds, which is noted in `errors`."""
    try:
        score = metering.score(standing, at)
        _require(_is(score, int) and 0 <= score <= SCORE_MAX, score)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        errors.setdefault(metering.name, said(error))
        return 0
    return score


def said(error: Exception) -> str:
    """Tell an error of a plugin in a line."""
    return f"{type(error).__name__}: {error}"[:ERROR_MAX]


def check_found(found: Found) -> None:
    """Raise TypeError or ValueError unless this is a verdict."""
    _require(_is(found, Found) and _is(found.verdict, Verdict), found)
    _word(found.code)


def check_use(use: Use) -> None:
    """Raise TypeError or ValueError unless an epoch can hold this."""
    _require(
        _is(use, Use)
        and tuple(map(type, use[: len(_USE_TYPES)])) == _USE_TYPES
        and len(use.node) == NODE_ID_BYTES
        and len(use.account) in _ACCOUNT_BYTES
        and 0 <= use.units <= COUNT_MAX,
        use,
    )
    for moved in use.moved:
        _require(_is(moved, Moved) and moved.credit in {1, 2, 3}, moved)
        for name in ("income", "fee", "reserve", "refunded", "made_good"):
            value = getattr(moved, name)
            _require(_is(value, int) and 0 <= value <= COUNT_MAX, moved)
    for word in use.ended or ():
        _word(word)


def check_rows(rows: Sequence[Row]) -> None:
    """Raise what does not let these rows be carried on: TypeError, ValueError or InvalidInput."""
    for row in sorted(rows):
        _require(_is(row, list) and 0 < len(encode(row)) <= ROW_BYTES_MAX, row)


def _word(word: str) -> None:
    _require(_is(word, str) and word.isascii() and len(word) <= WORD_MAX, word)


def _is(value: object, kind: type) -> bool:
    """Whether a value is of just this type, whatever its annotation says: a bool is no integer here."""
    return type(value) is kind


def _require(holds: bool, what: Any) -> None:  # noqa: ANN401 - a plugin can return anything
    if not holds:
        raise ValueError(f"No epoch holds {what!r}")
