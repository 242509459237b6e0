"""A plain epoch in loops and dictionaries: what a fold must give, as simply as it can be written.

It looks through all records there ever were for each settlement, knows no stages and carries nothing but sums. It
shares nothing with the fold but the functions of reputation. Burning, stake, other payees, withdrawals and pools for
what sells nothing are not in it: they have tests of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.rules import Rules
from fallow.domain.rewards.pools import ByDate, ByIssuance, Yearly
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
        self.back: dict[Key, int] = {}
        self.left = 0
        self.minted = 0
        self.first: dict[Key, int] = {}
        self.held: dict[tuple[str, Key], int] = {}
        self.released: dict[tuple[str, Key], int] = {}
        self.forfeited: dict[str, int] = {"usage": 0, "incentive": 0}
        self.grants: list[tuple[Key, int, int]] = []
        self.earned: dict[tuple[str, Key], int] = {}
        self.usage: dict[Key, int] = {}
        self.told: set[tuple[bytes, int]] = set()

    def close(self, records: Sequence[Filed], epochs: int) -> None:
        """Close an epoch after so many others."""
        self.fees, self.earned, self.told = {}, {}, set()
        wrong = {node: one.wrong for node, one in self.standings.items()}
        for one in records:
            body = one.record.body
            if one.record.kind == "node.enrolled":
                self.owners[one.node] = body["account"]
            elif one.record.kind == "node.shown" and one.node == NETWORK:
                before = self.standings.get(body["node"], Standing())
                self.standings[body["node"]] = learned(before, one.record.at, body["what"], body["code"])
            elif one.record.kind == "lease.settled" and one.node == NETWORK:
                self._settled(one, body)
            elif one.record.kind == "subscription.settled" and one.node == NETWORK:
                self._subscribed(body)
            if one.record.kind != "lease.settled":
                self.seen.append(one)
        self._mint(epochs)
        self._keep(epochs, {node for node, one in self.standings.items() if one.wrong > wrong.get(node, 0)})

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
                self._earn("usage", (body["node"], body["payee"]), earned)
            if moved["credit"] in {2, 3} and self.rules.model != "none":
                self._paid(moved, (body["node"], body["payee"]), checks=body["checks"])

    def _subscribed(self, body: dict[str, Any]) -> None:
        """Pay what a window gave to its one payee, if it costs no more than what was used, and was not told before."""
        (earned,) = body["earned"]
        (used,) = earned["used"]
        price = body["tariff"][used["meter"]]
        after, before = (int.from_bytes(used[at]) * price["microusd"] // price["per"] for at in ("after", "before"))
        key = (body["subscription"], body["window"])
        if sum(earned["income"].values()) > after - before or key in self.told:
            return
        self.told.add(key)
        if str(self.rules.credit) in earned["income"]:
            self._earn("usage", (NETWORK, earned["payee"]), earned["income"][str(self.rules.credit)])
        if self.rules.model != "none":
            self.left += sum(fee for credit, fee in body["fee"].items() if credit in {"2", "3"})

    def _paid(self, moved: dict[str, int], who: Key, *, checks: bool) -> None:
        """Count what was paid in credits that cost something, and what of it came back to whomever."""
        back = moved.get("refunded", 0) + moved.get("made_good", 0)
        if checks:
            self.left -= back + moved.get("income", 0)
            return
        self.left += moved.get("fee", 0) - back
        self.fees[who] = self.fees.get(who, 0) + moved.get("fee", 0)
        self.back[who] = self.back.get(who, 0) + back

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
        """Give the pool to those whose use paid fees that did not come back, the rest of rounding one by one."""
        for key, fee in self.fees.items():
            taken = min(fee, self.back.get(key, 0))
            self.fees[key] -= taken
            self.back[key] = self.back.get(key, 0) - taken
        if self.rules.model != "work_only" or self.rules.weights.get("compute") == 0:
            return
        price, ppm = self.rules.price, self.rules.cap_ppm
        caps = {key: fee * self._score(key[0]) // 1_000_000 * ppm // 1_000_000 for key, fee in self.fees.items()}
        caps = {key: cap * 10**18 // price for key, cap in caps.items() if cap}
        total = sum(caps.values())
        budget = min(self._pool(epochs), max(0, self.left) * 10**18 // price, total)
        given = {key: budget * cap // total for key, cap in caps.items()}
        order = sorted(given, key=lambda key: (-(budget * caps[key] % total), key))
        for key in order[: budget - sum(given.values())]:
            given[key] += 1
        for key, share in given.items():
            if share:
                self._earn("incentive", key, share)
        self.minted += budget
        self.left += -budget * price // 10**18

    def _earn(self, part: str, key: Key, amount: int) -> None:
        self.earned[part, key] = self.earned.get((part, key), 0) + amount
        if part == "usage":
            self.usage[key] = self.usage.get(key, 0) + amount

    def _owe(self, part: str, key: Key, amount: int) -> None:
        asset = self.rules.settlement if part == "usage" else self.rules.token
        if amount:
            self.owed[key[1], asset] = self.owed.get((key[1], asset), 0) + amount

    def _keep(self, epochs: int, wrong: set[bytes]) -> None:
        """Withhold of what new nodes earned, release it after a time, let incentives vest an epoch after the other."""
        held, vesting = self.rules.held, self.rules.vesting
        for key, start, amount in self.grants:
            if start < epochs <= start + vesting:
                before, now = (amount * (at - start) // vesting for at in (epochs - 1, epochs))
                self._owe("incentive", key, now - before)
        steps = [ppm for ppm in held.withheld_ppm for _ in range(held.step)]
        for (part, key), amount in sorted(self.earned.items(), reverse=True):
            age = epochs - self.first.setdefault(key, epochs)
            ppm = steps[age] if age < len(steps) and held.parts in {part, "both"} else 0
            withheld = amount * ppm // 1_000_000
            self.held[part, key] = self.held.get((part, key), 0) + withheld
            if part == "incentive" and vesting:
                self.grants.append((key, epochs, amount - withheld))
            else:
                self._owe(part, key, amount - withheld)
        for (part, key), amount in self.held.items():
            gone, age = self.released.get((part, key), 0), epochs - self.first[key]
            if key[0] in wrong:
                self.forfeited[part] += amount - gone
                self.held[part, key] = self.released[part, key] = 0
            elif age >= len(steps):
                due = amount * min(age + 1 - len(steps), held.release) // held.release
                self._owe(part, key, due - gone)
                self.released[part, key] = due
        self.first = {key: epochs + 1 if key[0] in wrong else first for key, first in self.first.items()}

    def _pool(self, epochs: int) -> int:
        """What the schedule gives."""
        schedule = self.rules.schedule
        if isinstance(schedule, ByIssuance):
            cap, given = int.from_bytes(schedule.cap), 0
            for _ in range(schedule.blocks):
                left, block = cap - self.minted - given, int.from_bytes(schedule.base)
                while left > 0 and left * 2 <= cap:
                    left, block = left * 2, block // 2
                given += min(block, max(0, cap - self.minted - given))
            return given
        if isinstance(schedule, Yearly):
            pool, year, number = int.from_bytes(schedule.first_year), *divmod(epochs, schedule.epochs_a_year)
            for _ in range(year):
                pool = pool * schedule.keep_ppm // 1_000_000
            return pool * (number + 1) // schedule.epochs_a_year - pool * number // schedule.epochs_a_year
        assert isinstance(schedule, ByDate)
        return int.from_bytes(schedule.base) // 2 ** (epochs // schedule.period)

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
