"""A validator's part of the seeds that checks are drawn from: pledged, shown, and looked for when the epoch is closed.

See `fallow.domain.epochs.seeds` for when each is done. Methods block.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial

import msgspec

from fallow.domain.draws import Commitment
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.seeds import Pledge, drawn_seed
from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotAllowed, NotFound
from fallow.domain.network_facts import SeedDrawn
from fallow.ports.published import Published
from fallow.services.validator.book import Book, Part

_log = logging.getLogger(__name__)


SignPledge = Callable[[str, int, bytes], Pledge]
"""Pledges a part of a network's seed with the validator's key, which stays where it is."""


class Parts:
    """What one validator adds to the seeds of one network. `new_part` gives 32 fresh random bytes."""

    def __init__(
        self,
        *,
        network_key: bytes,
        sign: SignPledge,
        published: Published,
        book: Book,
        new_part: Callable[[], bytes],
    ) -> None:
        self._key = network_key
        self._sign = sign
        self._published = published
        self._book = book
        self._new_part = new_part
        self._done: set[tuple[str, int]] = set()

    def take_turn(self) -> None:
        """Show the part of the next seed, and pledge one of the seed after it; each once.

        What fails is only told: epochs are judged all the same.
        """
        try:
            sealed = self._published.next_seed()
            if sealed is None:
                return
            said = Commitment.open(sealed, self._key)
            self._once("show", said.number, partial(self._show, said, sealed))
            self._once("pledge", said.number + 1, partial(self._pledge, said.net, said.number + 1))
        except FallowError as error:
            _log.warning("nothing is added to seeds for now: %s", error)

    def check(self, net: str, records: Iterable[Filed]) -> None:
        """Look at what an epoch's records say of seeds.

        Raises:
            InvalidInput, NotAllowed: a seed does not hold; `seed.left_out`, `seed.other_parts`: it was not made of what
                this validator saw before it showed its own part.
        """
        for filed in records:
            if filed.node != self._key:
                continue  # anybody may sign a record of this kind
            drawn = filed.record.read(SeedDrawn)
            parts = drawn_seed(drawn, net, self._key).parts
            mine = self._book.part(drawn.number)
            if mine is None or not mine.shown:
                continue
            if mine.value not in parts.values():
                raise InvalidInput("seed.left_out", f"This validator's part of seed {drawn.number} was left out.", HINT)
            if (mine.commitment, mine.pledges) != (drawn.commitment, sorted(drawn.pledges)):
                raise InvalidInput(
                    "seed.other_parts",
                    f"Seed {drawn.number} is made of other pledges than those that stood when this validator showed "
                    "its part: somebody may have chosen his after he knew it.",
                    HINT,
                )

    def _once(self, what: str, number: int, act: Callable[[], None]) -> None:
        if (what, number) in self._done:
            return
        try:
            act()
        except NotAllowed:
            pass  # who is not listed just judges
        except (InvalidInput, Conflict, NotFound) as error:
            _log.warning("no part of seed %d: %s", number, error)
        self._done.add((what, number))

    def _pledge(self, net: str, number: int) -> None:
        part = self._book.part(number)
        if part is None:
            part = Part(self._new_part())
            self._book.keep_part(number, part)
        self._published.pledge(self._sign(net, number, part.value).encode())

    def _show(self, said: Commitment, sealed: bytes) -> None:
        mine = self._book.part(said.number)
        if mine is None or mine.shown:
            return
        signer = self._sign(said.net, said.number, mine.value).signer
        if not mine.commitment:
            mine = Part(mine.value, sealed, sorted(self._published.pledges(said.number)))
            if signer not in {Pledge.decode(one).signer for one in mine.pledges}:
                return  # it was not listed then, or too late
            self._book.keep_part(said.number, mine)
        self._published.show_part(said.number, signer, mine.value)
        self._book.keep_part(said.number, msgspec.structs.replace(mine, shown=True))


HINT = "Do not sign it. Ask the operator; the files that show it are kept."
