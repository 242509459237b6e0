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
NO_OWNER: Final = "node.no_owner"
"""Of what would pay for a node of which nobody has said whose it is: there is no account to owe it to."""

WORD_MAX: Final = 60
"""As of a lease's reason: `lines.LINES_A_FRAME` counts on it."""
ERROR_MAX: Final = 300
ROW_BYTES_MAX: Final = 512
"""A thousand such rows are a frame."""
SCORE_MAX: Final = 1_000_000

_CAUSES: Final = frozenset({"buyer", "provider", "owner", "nobody", "network", ""})
_ACCOUNT_BYTES: Final = frozenset({0, ADDRESS_BYTES})
_BROKEN: Final = Found(Verdict.REJECTED, PLUGIN_ERROR)
_UNOWNED: Final = Found(Verdict.REJECTED, NO_OWNER)


class Contained:
    """One vertical in one epoch. `error` is what it raised first, for people; `stuck` that it did not begin or end."""

    def __init__(self, metering: Metering, carried: Sequence[Row], known: Known) -> None:
        self.error = ""
        self.stuck = False
        self._metering = metering
        self._opening = carried
        self._owners = known.owners
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
                if use.moved and not (use.account or use.node in self._owners):
                    return _UNOWNED, None
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
            rows = list(self._verifier.carried())
            check_rows(rows, by_node=self._metering.by_node)
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
        and _is(use.node, bytes)
        and _is(use.account, bytes)
        and _is(use.units, int)
        and isinstance(use.moved, list | tuple)
        and _is(use.bought, bool)
        and _is(use.attested, bool)
        and _is(use.weigh, bool)
        and len(use.node) == NODE_ID_BYTES
        and len(use.account) in _ACCOUNT_BYTES
        and 0 <= use.units <= COUNT_MAX,
        use,
    )
    for moved in use.moved:
        _require(_is(moved, Moved) and _is(moved.credit, int) and moved.credit in {1, 2, 3}, moved)
        for name in ("income", "fee", "reserve", "refunded", "made_good"):
            value = getattr(moved, name)
            _require(_is(value, int) and 0 <= value <= COUNT_MAX, moved)
    if use.ended is not None:
        reason, caused_by = use.ended
        _word(reason)
        _require(caused_by in _CAUSES, use)


def check_rows(rows: Sequence[Row], *, by_node: bool) -> None:
    """Raise what does not let these rows be carried on: TypeError, ValueError, IndexError or InvalidInput.

    Those of a policy that judges nodes apart begin with a node: who reads them in parts would find others in none.
    """
    for row in sorted(rows):
        _require(_is(row, list) and 0 < len(encode(row)) <= ROW_BYTES_MAX, row)
        _require(not by_node or (_is(row[0], bytes) and len(row[0]) == NODE_ID_BYTES), row)


def _word(word: str) -> None:
    _require(_is(word, str) and word.isascii() and len(word) <= WORD_MAX, word)


def _is(value: object, kind: type) -> bool:
    """Whether a value is of just this type, whatever its annotation says: a bool is no integer here."""
    return type(value) is kind


def _require(holds: bool, what: Any) -> None:  # noqa: ANN401 - a plugin can return anything
    if not holds:
        raise ValueError(f"No epoch holds {what!r}")
