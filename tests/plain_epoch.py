"""A plain epoch in loops and dictionaries: what a fold must give, as simply as it can be written.

It looks through all records there ever were for each settlement, knows no stages and carries nothing but sums. It
shares nothing with the fold but the functions of reputation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.rules import Rules
from fallow.domain.verification import Standing, learned
from tests.epoch_files import NETWORK_KEY as NETWORK
from tests.epoch_world import UNTIL_MS

HOUR_MS = 3_600_000
PAYS = ("income", "fee", "reserve")
Key = tuple[bytes, bytes]


class Plain:
    """A network that has seen some records."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.seen: list[Filed] = []
        self.owners: dict[bytes, bytes] = {}
        self.standings: dict[bytes, Standing] = {}
        self.owed: dict[Key, int] = {}
        self.fees: dict[Key, int] = {}
        self.minted = 0

    def close(self, records: Sequence[Filed], epochs: int) -> None:
        """Close an epoch after so many others."""
        self.fees = {}
        for one in records:
            body = one.record.body
            if one.record.kind == "node.enrolled":
                self.owners[one.node] = body["account"]
            elif one.record.kind == "node.shown" and one.node == NETWORK:
                before = self.standings.get(body["node"], Standing())
                self.standings[body["node"]] = learned(before, one.record.at, body["what"], body["code"])
            elif one.record.kind == "lease.settled" and one.node == NETWORK:
                self._settled(one, body)
            if one.record.kind != "lease.settled":
                self.seen.append(one)
        self._mint(epochs)

    def open(self) -> set[Key]:
        """Leases that were accepted and are not over."""
        keys = {(one.record.body["lease"], one.node) for one in self.seen if one.record.kind == "lease.accepted"}
        return {key for key in keys if self._accepted(self._since_the_end(key))}

    def _settled(self, one: Filed, body: dict[str, Any]) -> None:
        holds = self._holds(body)
        if holds or body["final"]:
            self.seen.append(one)
        for moved in body["moved"] if holds else ():
            earned = moved.get("income", 0) + moved.get("made_good", 0)
            if moved["credit"] == self.rules.credit and earned:
                account = (body["payee"], self.rules.settlement)
                self.owed[account] = self.owed.get(account, 0) + earned
            if moved["credit"] in {2, 3} and any(self.rules.token) and not body["checks"]:
                who = (body["node"], body["payee"])
                self.fees[who] = self.fees.get(who, 0) + moved.get("fee", 0)

    def _since_the_end(self, key: Key) -> list[Filed]:
        """All that was said of a lease, by its node and by the network, since it was last over."""
        lease, node = key
        said = [
            one
            for one in self.seen
            if one.record.body.get("lease") == lease
            and (one.record.body.get("node") == node if one.record.kind == "lease.settled" else one.node == node)
        ]
        ends = [at for at, one in enumerate(said) if one.record.body.get("final") and one.node == NETWORK]
        return said[ends[-1] + 1 :] if ends else said

    def _accepted(self, said: Sequence[Filed]) -> bool:
        return any(one.record.kind == "lease.accepted" for one in said)

    def _holds(self, body: dict[str, Any]) -> bool:
        """Whether a settlement is one that the node's own words and its price allow."""
        said = self._since_the_end((body["lease"], body["node"]))
        if not self._accepted(said):
            return not body["moved"]
        kinds = [one.record.kind for one in said]
        said = said[kinds.index("lease.accepted") :]
        settled = [one.record.body for one in said if one.record.kind == "lease.settled"]
        charged = max((one["charged_ms"] for one in settled), default=0)
        paid = sum(moved.get(part, 0) for one in (*settled, body) for moved in one["moved"] for part in PAYS)
        most = body["price_microusd_per_hour"] * body["charged_ms"] // HOUR_MS + body["window"] + 2
        return (
            self.owners.get(body["node"]) == body["payee"]
            and charged <= body["charged_ms"] <= _claimed(said)
            and paid <= most
            and sum(moved.get("refunded", 0) for moved in body["moved"]) <= paid
        )

    def _mint(self, epochs: int) -> None:
        """Give compute's part of the pool to those whose use paid fees, the rest of rounding one by one."""
        budget = _part(int.from_bytes(self.rules.base) >> (epochs // self.rules.period), self.rules.weights)
        caps = {key: fee * self._score(key[0]) // 1_000_000 for key, fee in self.fees.items()}
        total = sum(caps.values())
        budget = min(budget // self.rules.units_per_microusd, total)
        given = {key: budget * cap // total for key, cap in caps.items()} if total else {}
        order = sorted(given, key=lambda key: (-(budget * caps[key] % total), key))
        for key in order[: budget - sum(given.values())]:
            given[key] += 1
        for (_, account), share in given.items():
            if share:
                units = share * self.rules.units_per_microusd
                self.owed[account, self.rules.token] = self.owed.get((account, self.rules.token), 0) + units
                self.minted += units

    def _score(self, node: bytes) -> int:
        shown = self.standings.get(node, Standing())
        if shown.wrong_at is not None and shown.wrong_at + (HOUR_MS << 2 * min(shown.wrong - 1, 6)) > UNTIL_MS:
            return 0
        return 1_000_000 if shown.confirmed >= 10 and shown.missed <= 7 else 500_000


def _claimed(said: Sequence[Filed]) -> int:
    """What a node says that it worked: the longest of each window, none before a later one; or what is saved."""
    windows: dict[int, int] = {}
    saved = 0
    for one in said:
        body = one.record.body
        if one.record.kind == "usage.receipt" and body["window"] >= max(windows, default=0):
            windows[body["window"]] = max(windows.get(body["window"], 0), body["used_ms"])
        if one.record.kind == "lease.checkpoint":
            saved = max(saved, body["used_ms"])
    return max(sum(windows.values()), saved)


def _part(pool: int, weights: dict[str, int]) -> int:
    """Compute's part of a pool, by the largest remainder."""
    total = sum(weights.values())
    if not weights.get("compute"):
        return 0
    parts = {name: pool * weight // total for name, weight in sorted(weights.items())}
    order = sorted(parts, key=lambda name: (-(pool * weights[name] % total), name))
    for name in order[: pool - sum(parts.values())]:
        parts[name] += 1
    return parts["compute"]
