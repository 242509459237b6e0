"""Records of what happened on the chain, and of the token's price, in an epoch. Pure.

That they are what the chain has is the network's word, which anybody with a node of that chain can hold against it.
What the fold sees by itself: that the network signed them, that each is there once and in the chain's order, that feeds
and operators signed what is said to be theirs, and that no pool gives out more than came in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fallow.domain.chain_facts import CHAIN_FACTS, ChainBurned
from fallow.domain.epochs.burning import Happened
from fallow.domain.epochs.metering import ACCEPTED, Found
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.stakes import Stakes
from fallow.domain.epochs.state import Row
from fallow.domain.price_facts import BurnCredited, PriceAccepted, PriceReported, price_text
from fallow.domain.records import Body
from fallow.domain.stake_facts import StakeTake, take_text
from fallow.domain.verification import Verdict
from fallow.domain.wallets import signer_of

SECTION: Final = "core.chain"
_FACTS: Final = {fact.kind: fact for fact in CHAIN_FACTS}


class ChainRecords:
    """`burned` units of the token in the epoch, what `happened` to its price and burns, and the `stakes` after it."""

    def __init__(self, net: str, network: bytes, carried: Mapping[str, Sequence[Row]]) -> None:
        self.burned = 0
        self.happened: list[Happened] = []
        self.stakes = Stakes(carried)
        self._net = net
        self._network = network
        self._after: tuple[int, int] = next(((block, place) for _, block, place in carried.get(SECTION, ())), (-1, -1))

    @property
    def takes(self) -> dict[str, Callable[[Filed], Found]]:
        """What takes records of each kind. InvalidInput of any of them rejects the record."""
        kinds: dict[str, Callable[[Filed], Found]] = {
            **dict.fromkeys(_FACTS, self._on_chain),
            PriceReported.kind: self._quote,
            PriceAccepted.kind: self._accepted,
            BurnCredited.kind: self._credited,
            StakeTake.kind: self._take,
        }
        return {kind: self._by_network(take) for kind, take in kinds.items()}

    def rows(self) -> dict[str, list[Row]]:
        """What the next epoch begins with."""
        read: list[Row] = [["read", *self._after]] if self._after >= (0, 0) else []
        return {SECTION: read, **self.stakes.rows()}

    def _by_network(self, take: Callable[[Filed], Found]) -> Callable[[Filed], Found]:
        def taken(filed: Filed) -> Found:
            if filed.node != self._network:
                return Found(Verdict.REJECTED, "chain.not_the_network")
            return take(filed)

        return taken

    def _on_chain(self, filed: Filed) -> Found:
        fact = filed.record.read(_FACTS[filed.record.kind])
        if fact.position <= self._after:
            return Found(Verdict.REJECTED, "chain.order")
        self._after = fact.position
        if isinstance(fact, ChainBurned):
            self.burned += int.from_bytes(fact.amount)
            self._note(filed, fact)
        return self.stakes.see(fact)

    def _quote(self, filed: Filed) -> Found:
        said = filed.record.read(PriceReported)
        text = price_text(self._net, said.price_microusd, said.doubt_microusd, said.at_ms)
        if signer_of(text, said.signature) != said.feed:
            return Found(Verdict.REJECTED, "price.signature")
        return self._note(filed, said)

    def _accepted(self, filed: Filed) -> Found:
        return self._note(filed, filed.record.read(PriceAccepted))

    def _credited(self, filed: Filed) -> Found:
        return self._note(filed, filed.record.read(BurnCredited))

    def _note(self, filed: Filed, body: Body) -> Found:
        self.happened.append((filed.record.at, body))
        return ACCEPTED

    def _take(self, filed: Filed) -> Found:
        said = filed.record.read(StakeTake)
        if signer_of(take_text(self._net, said.account, said.take_ppm, said.at_ms), said.signature) != said.account:
            return Found(Verdict.REJECTED, "stake.signature")
        return self.stakes.take(said)
