"""What a node says of itself: its binding to an account, and its offers. Keeps the state behind them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from fallow.agent.home import Home, Mode, State, with_lent
from fallow.agent.owner import Shape
from fallow.domain.facts import NodeBound, NodeEnrolled, OfferMade, PlacedOfferMade, SpotOfferMade
from fallow.domain.identity import address
from fallow.domain.resources import Terms


class Presence:
    """`state` is what the home holds; `attributes` are what offers say of the machine."""

    def __init__(self, home: Home, state: State, attributes: Mapping[str, str]) -> None:
        self.state = state
        self.attributes = dict(attributes)
        self._home = home

    def binding(self) -> NodeEnrolled | NodeBound:
        """The node's half of the binding, around the account's."""
        state, label = self.state, self.state.settings.label
        account, signature = address(state.account), bytes.fromhex(state.account_signature.removeprefix("0x"))
        if state.before_s is None:
            return NodeEnrolled(account=account, account_signature=signature, label=label)
        return NodeBound(account=account, account_signature=signature, before_s=state.before_s, label=label)

    def offer(self, shape: Shape) -> OfferMade:
        """Make a new offer of this shape; its number is kept before it is used, so that none is used twice.

        Raises:
            Unavailable: the disk is full.
        """
        settings = self.state.settings
        made = OfferMade(
            offer=self._home.next_offer(),
            open=self.state.mode == "open" and shape.open,
            total=shape.total,
            terms=self.terms(shape),
            attributes=dict(sorted(self.attributes.items())),
            country=settings.country,
        )
        wanted = shape.asked.on_spot(settings.terms, settings.spot)
        spot = None if wanted is None else _not_below(wanted, shape.floor)
        fields = {name: getattr(made, name) for name in made.__struct_fields__}
        if settings.cell:
            return PlacedOfferMade(cell=settings.cell, spot=spot, **fields)
        return made if spot is None else SpotOfferMade(spot=spot, **fields)

    def terms(self, shape: Shape) -> Terms:
        """What an offer of this shape asks."""
        return _not_below(self.asked(shape), shape.floor)

    def asked(self, shape: Shape) -> Terms:
        """What the owner asks, whatever the work costs him."""
        return shape.asked.on_demand(self.state.settings.terms)

    def set_mode(self, mode: Mode) -> None:
        """Keep what the owner wants, restarts included."""
        self._save(mode=mode)

    def set_lent(self, vertical: str, what: str) -> None:
        """Keep what is lent to a vertical from the next start on."""
        self.state = self._home.save(with_lent(self.state, vertical, what))

    def set_enrolled(self) -> None:
        """Note that the binding is recorded."""
        self._save(enrolled=True)

    def _save(self, **changes: object) -> None:
        self.state = self._home.save(msgspec.structs.replace(self.state, **changes))


def _not_below(terms: Terms, floor: int) -> Terms:
    """The owner's terms, but no price for a core that does not cover what it costs him."""
    price = max(terms.price_microusd_per_core_hour, floor)
    return msgspec.structs.replace(terms, price_microusd_per_core_hour=price)
