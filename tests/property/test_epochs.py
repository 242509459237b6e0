"""The fold against a plain epoch, on anything that nodes and the network may have signed."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.epochs.closing import close
from fallow.domain.epochs.folding import Folded, fold
from fallow.domain.epochs.leaves import read_leaves
from fallow.domain.epochs.lines import read_lines
from fallow.domain.epochs.network_line import network_line
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.shares import worth
from fallow.domain.epochs.state import NOTHING, read_state, write_state
from fallow.domain.facts import LeaseAccepted, LeaseCheckpoint, LeaseSettled, Moved, NodeShown, UsageReceipt
from fallow.domain.network_facts import Earned, SubscriptionSettled, Tariffed
from fallow.domain.records import Body
from fallow.domain.subscriptions import Price
from fallow.domain.verification import Standing
from tests.epoch_files import NETWORK_KEY as NETWORK
from tests.epoch_world import (
    ACCOUNTS,
    BY_ISSUANCE,
    HOLDING,
    METERINGS,
    NODES,
    UNTIL_MS,
    VESTING,
    WORK_ONLY,
    YEARLY,
    enrolled,
    epoch,
    filed,
    lease,
    settled,
)
from tests.plain_epoch import Plain

SEEDS = st.integers(0, 1 << 32)
RULES = st.sampled_from([Rules(), Rules(credit=2), WORK_ONLY, BY_ISSUANCE, YEARLY, HOLDING, VESTING])
EPOCHS = 4


class Story:
    """Words of three nodes and a network: what fits together, what is off by one, what is forged."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.claims: dict[tuple[int, int], list[int]] = {}
        """By lease and node: the latest window, what was claimed before it, and in it, saved, charged, paid."""
        self.place = 0

    def epoch(self) -> list[Filed]:
        """The next epoch's records."""
        words = [self._word() for _ in range(self.chance.randrange(40))]
        if not self.place:
            words = [*((NODES[node], enrolled(node, node), 5) for node in range(3)), *words]
        records = [filed(node, body, self.place + at, said_at) for at, (node, body, said_at) in enumerate(words)]
        self.place += len(records)
        return records

    def _word(self) -> tuple[bytes, Body, int]:
        draw = self.chance.random
        node = self.chance.randrange(3)
        if draw() < 0.05:
            return NODES[node], enrolled(node, self.chance.randrange(3)), 5
        if draw() < 0.08:
            return self._network(node), self._subscribed(), 5
        if draw() < 0.2:
            what = self.chance.choice(["confirmed"] * 6 + ["wrong", "present", "missed"])
            at = UNTIL_MS - self.chance.randrange(1 << 23)
            return self._network(node), NodeShown(node=NODES[node], what=what, code="result.wrong"), at
        if draw() < 0.3 or not self.claims:
            number = self.chance.randrange(6)
            self.claims.setdefault((number, node), [0] * 6)
            return NODES[node], LeaseAccepted(lease=lease(number)), 5
        number, node = self.chance.choice(sorted(self.claims))
        if draw() < 0.4:
            return self._network(node), self._settled(number, node), 5
        return NODES[node], self._claimed(number, node), 5

    def _claimed(self, number: int, node: int) -> Body:
        claim = self.claims[number, node]
        used_ms = self.chance.randrange(2000)
        if self.chance.random() < 0.2:
            claim[3] = max(claim[3], used_ms)
            return LeaseCheckpoint(lease=lease(number), window=0, used_ms=used_ms, blob=bytes(32))
        window = max(0, claim[0] + self.chance.choice([0, 0, 1, 1, -1]))
        if window > claim[0]:
            claim[:3] = [window, claim[1] + claim[2], used_ms]
        elif window == claim[0]:
            claim[2] = max(claim[2], used_ms)
        return UsageReceipt(lease=lease(number), window=window, used_ms=used_ms, final=self.chance.random() < 0.3)

    def _subscribed(self) -> SubscriptionSettled:
        """A window of one of two subscriptions, sometimes told twice, or above its price."""
        before, more = self.chance.randrange(50), self.chance.randrange(50)
        most = (before + more) * 7 // 2 - before * 7 // 2
        fee = most // 10
        income = self.chance.choice([most - fee, most - fee, most, most + 1])
        credit = self.chance.choice(["1", "2", "2", "3"])
        used = Tariffed(meter="bytes", before=before.to_bytes(32), after=(before + more).to_bytes(32))
        earned = Earned(
            payee=ACCOUNTS[self.chance.randrange(3)], used=[used], income={credit: income} if income else {}
        )
        return SubscriptionSettled(
            vertical="storage",
            subscription=bytes([self.chance.randrange(2)]) * 16,
            window=self.chance.randrange(4),
            part=0,
            from_ms=0,
            until_ms=1,
            tariff={"bytes": Price(microusd=7, per=2)},
            earned=[earned],
            fee={credit: fee} if fee else {},
        )

    def _settled(self, number: int, node: int) -> LeaseSettled:
        """Mostly at the bound of what can be, and sometimes right behind it."""
        window, earlier, now, saved, charged, paid = self.claims[number, node]
        final = self.chance.random() < 0.4
        time = self.chance.choice(
            [max(earlier + now, saved)] * 4 + [charged, charged - 1, max(earlier + now, saved) + 1]
        )
        time = max(0, time)
        most = time * 3_600_000 // 3_600_000 + window + 2 - paid
        total = max(0, self.chance.choice([most, most, most - 3, most + 1, most // 2, 0]))
        fee = total // 10
        refunded = self.chance.choice([0, 0, 0, paid + total, paid + total + 1])
        credit, second = self.chance.choice([1, 2, 2, 2, 3]), self.chance.random() < 0.1
        moved = [Moved(credit=credit, income=total - fee, fee=fee, refunded=refunded)] if total or refunded else []
        if second:
            moved.append(Moved(credit=2, made_good=5))
        if final:
            del self.claims[number, node]
        elif total <= most:
            self.claims[number, node][4:] = [time, paid + total]
        owner = node if self.chance.random() < 0.9 else self.chance.randrange(3)
        changes = {"charged_ms": time, "moved": moved, "window": window, "final": final}
        return settled(number, node, owner, checks=self.chance.random() < 0.2, **changes)

    def _network(self, node: int) -> bytes:
        """Whose word it is: the network's, or now and then a node's that would like to be."""
        return NETWORK if self.chance.random() < 0.9 else NODES[node]


@given(SEEDS, RULES)
def test_a_fold_gives_what_a_plain_epoch_gives_and_what_is_owed_only_grows(seed: int, rules: Rules) -> None:
    story, state, expected = Story(seed), NOTHING, Plain(rules)
    for number in range(EPOCHS):
        records = story.epoch()
        folded = fold(state, epoch(number), records, rules, METERINGS)
        expected.close(records, number)
        assert folded.state.owed == expected.owed
        assert folded.state.owners == expected.owners
        assert folded.state.standings == {n: s for n, s in expected.standings.items() if s != Standing()}
        assert {(row[0], row[1]) for row in folded.state.carried["compute"]} == expected.open()
        assert folded.state.minted == expected.minted
        _check_kept(folded, expected, rules)
        assert all(folded.state.owed[key] >= before for key, before in state.owed.items())
        for asset, part in ((rules.settlement, "usage"), (rules.token, "incentive")):
            shares = Counter[bytes]()
            for line in folded.lines:
                shares[line.account] += int.from_bytes(getattr(line, part))
                for kept in line.kept:
                    if kept.part == part:
                        now, later = (kept.released, kept.vested), (kept.held, kept.vesting)
                        shares[line.account] += sum(map(int.from_bytes, now)) - sum(map(int.from_bytes, later))
            grown = {a: v - state.owed.get((a, t), 0) for (a, t), v in folded.state.owed.items() if t == asset}
            assert +shares == +Counter(grown), "what the lines say is what was added, to the last unit"
            assert not -shares, "nobody is owed less than before"
        paid = sum(money.fee for line in folded.lines for money in line.money if money.bought and money.credit > 1)
        assert worth(folded.totals["incentive"], rules.price) <= paid, "rule 9"
        tokens = [sum(v for (_, asset), v in one.owed.items() if asset == rules.token) for one in (state, folded.state)]
        assert tokens[1] - tokens[0] <= rules.mint_max, "the contract takes each root"
        state = folded.state


def _check_kept(folded: Folded, expected: Plain, rules: Rules) -> None:
    """What was earned ever is owed, held, vesting or forfeited, to the last unit."""
    totals = folded.totals
    held = dict.fromkeys(("usage", "incentive"), 0)
    for (part, key), amount in expected.held.items():
        held[part] += amount - expected.released.get((part, key), 0)
    for part, value in held.items():
        assert (totals[f"held.{part}"], totals[f"forfeited.{part}"]) == (value, expected.forfeited[part])
    owed = sum(amount for (_, asset), amount in folded.state.owed.items() if asset == rules.token)
    later = totals["held.incentive"] + totals["vesting"] + totals["forfeited.incentive"]
    assert owed + later == folded.state.minted
    usage = sum(amount for (_, asset), amount in folded.state.owed.items() if asset == rules.settlement)
    line = network_line({name: amount.to_bytes(32) for name, amount in totals.items()})
    assert usage + line.held_usage_microusd + line.forfeited_usage_microusd == sum(expected.usage.values())
    assert int(line.supply) == owed + totals["held.incentive"] + totals["vesting"]


@given(SEEDS, RULES)
def test_files_say_what_was_folded_and_the_next_epoch_goes_on_from_them(seed: int, rules: Rules) -> None:
    story, opening, state = Story(seed), b"", NOTHING
    for number in range(EPOCHS):
        records = story.epoch()
        closing = close(opening, epoch(number), records, rules, METERINGS)
        folded = fold(state, epoch(number), records, rules, METERINGS)
        assert closing.folded == folded
        assert read_lines(closing.files["lines"]) == folded.lines
        assert list(read_leaves(closing.files["leaves"])) == folded.leaves
        opening, state = closing.files["state"], folded.state
        assert write_state(read_state(opening)) == opening
