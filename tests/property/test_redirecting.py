"""Withdrawals and redirections in the fold, against plain loops: each unit goes where it should, and none is lost."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.folding import fold
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.state import NOTHING, Owed
from fallow.domain.facts import AccountPayout, CreditWithdrawn
from fallow.domain.payees import DELAY_MS, payout_text
from fallow.domain.wallets import sign_text
from tests.epoch_files import NET
from tests.epoch_files import NETWORK_KEY as NETWORK
from tests.epoch_world import ACCOUNTS, COIN, KEYS, METERINGS, NODES, WORK_ONLY, filed
from tests.property.test_epochs import Story

EPOCHS, DAY_MS, BEGIN_MS = 6, 86_400_000, 1_800_000_000_000
ELSEWHERE = [b"e" * 20, b"f" * 20]


class Holders:
    """What holders say and withdraw, some of it forged, old or said twice; and where that leads, in plain loops."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._place = 1000
        self._signed = dict.fromkeys(ACCOUNTS, 0)
        self._waiting: dict[bytes, tuple[bytes, int]] = {}
        self.paid_to = {account: account for account in ACCOUNTS}

    def day(self, begin_ms: int) -> tuple[list[Filed], Counter[bytes]]:
        """The records of a day, and who withdrew how much in it."""
        withdrawn: Counter[bytes] = Counter()
        records: list[Filed] = []
        at_ms = begin_ms
        for _ in range(self._chance.randrange(6)):
            at_ms += self._chance.randrange(1, DAY_MS // 8)
            if self._chance.random() < 0.4:
                records += self._withdraw(at_ms, withdrawn)
            else:
                records.append(self._say(at_ms))
        return records, withdrawn

    def take_effect(self, now_ms: int) -> None:
        """Let hold what has waited long enough."""
        for account, (to, from_ms) in list(self._waiting.items()):
            if from_ms <= now_ms:
                self.paid_to[account] = to
                del self._waiting[account]

    def _withdraw(self, at_ms: int, withdrawn: Counter[bytes]) -> list[Filed]:
        account, amount = self._chance.choice([*ACCOUNTS, *ELSEWHERE]), self._chance.randrange(1, 1000)
        body = CreditWithdrawn(withdrawal=self._chance.randbytes(16), account=account, amount_microusd=amount)
        node = self._network()
        if node == NETWORK:
            withdrawn[account] += amount
        times = self._chance.choice([1, 1, 2])
        return [self._filed(node, body, at_ms) for _ in range(times)]

    def _say(self, at_ms: int) -> Filed:
        self.take_effect(at_ms)
        which = self._chance.randrange(3)
        account, to = ACCOUNTS[which], self._chance.choice([*ACCOUNTS, *ELSEWHERE])
        now_s = at_ms // 1000
        signed_at_s = self._chance.choice([now_s, now_s, now_s, self._signed[account], now_s - 2 * 86_400])
        signer = which if self._chance.random() < 0.8 else (which + 1) % 3
        signature = sign_text(KEYS[signer], payout_text(NET, account, to, signed_at_s))
        body = AccountPayout(account=account, to=to, signed_at_s=signed_at_s, signature=signature)
        node = self._network()
        fresh = self._signed[account] < signed_at_s and signed_at_s * 1000 + DAY_MS >= at_ms
        if node == NETWORK and signer == which and fresh:
            self._signed[account] = signed_at_s
            self._waiting.pop(account, None)
            if to != self.paid_to[account]:
                self._waiting[account] = (to, at_ms + DELAY_MS)
        return self._filed(node, body, at_ms)

    def _network(self) -> bytes:
        return NETWORK if self._chance.random() < 0.9 else NODES[0]

    def _filed(self, node: bytes, body: AccountPayout | CreditWithdrawn, at_ms: int) -> Filed:
        self._place += 1
        return filed(node, body, self._place, at_ms)


@given(st.integers(0, 1 << 32))
def test_each_unit_goes_where_its_holder_said_and_none_comes_or_goes(seed: int) -> None:
    story, holders = Story(seed), Holders(seed)
    plain = redirected = NOTHING
    for number in range(EPOCHS):
        begin_ms = BEGIN_MS + number * DAY_MS
        epoch = Epoch(NET, number, begin_ms + DAY_MS, NETWORK)
        records = story.epoch()
        paid_to = dict(holders.paid_to)
        said, withdrawn = holders.day(begin_ms)
        holders.take_effect(begin_ms + DAY_MS)
        before, after = plain, redirected
        plain = fold(plain, epoch, records, WORK_ONLY, METERINGS).state
        redirected = fold(redirected, epoch, [*records, *said], WORK_ONLY, METERINGS).state
        expected: Counter[Owed] = Counter(after.owed)
        for (account, asset), amount in plain.owed.items():
            expected[paid_to.get(account, account), asset] += amount - before.owed.get((account, asset), 0)
        for account, amount in withdrawn.items():
            expected[account, COIN] += amount
        assert +Counter(redirected.owed) == +expected
        assert redirected.minted == plain.minted
