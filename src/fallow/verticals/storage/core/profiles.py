"""How many pieces a segment is coded into, and when they are repaired."""

from __future__ import annotations

from typing import Final, NamedTuple

from fallow.verticals.storage.core.durability import Churn, annual_loss


class Profile(NamedTuple):
    """Any `needed` of `pieces` pieces give a segment back. At `repair` healthy ones it is repaired, or before.

    `nodes_min`: on fewer nodes, of distinct owners and networks, it is not used. It is more than `pieces`, so that
    repair finds nodes that hold nothing of the segment yet; but for `lab`, which is for networks that small: on eight,
    repair waits until a ninth is there, or one that was away is back.
    """

    name: str
    needed: int
    repair: int
    pieces: int
    nodes_min: int

    @property
    def expansion(self) -> float:
        """Bytes stored for each byte of payload."""
        return self.pieces / self.needed

    def annual_loss(self, churn: Churn) -> float:
        """Probability that a segment is lost in a year."""
        return annual_loss(self.needed, self.repair, self.pieces, churn)


LAB: Final = Profile("lab", 4, 6, 8, 8)
SMALL: Final = Profile("small", 16, 18, 20, 25)
WIDE: Final = Profile("wide", 29, 36, 80, 100)
PROFILES: Final = {profile.name: profile for profile in (LAB, SMALL, WIDE)}
