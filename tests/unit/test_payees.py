"""Where earnings go: by the account's word alone, after its delay, from the epoch after; and it can take it back."""

# ruff: noqa: D101, D102

from __future__ import annotations

from collections import Counter
from contextlib import suppress

import pytest
from coincurve import PrivateKey

from fallow.adapters.memory.bus import MemoryBus, MemoryHub
from fallow.adapters.memory.decisions import MemoryDecisionStore
from fallow.adapters.memory.payees import MemoryPayeeStore
from fallow.adapters.memory.registry import MemoryRegistryStore
from fallow.domain.calls.base import AccountRef
from fallow.domain.calls.payouts import Payout, Redirect, Redirection
from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.distributor import redirection_digest
from fallow.domain.epochs.folding import fold
from fallow.domain.epochs.quorum import Domain
from fallow.domain.epochs.redirecting import SECTION, paid_instead
from fallow.domain.epochs.state import NOTHING, State, read_state, write_state
from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotAllowed, NotFound, TooMuch
from fallow.domain.facts import AccountPayout, CreditWithdrawn
from fallow.domain.identity import address_text
from fallow.domain.payees import DELAY_MS, FRESH_MS, WORDS_A_DAY, Payee, at, changed, payout_text
from fallow.domain.wallets import address_of, sign_text, signer_of_digest
from fallow.services.registry.custody import Custody
from fallow.services.registry.payees import Payees
from tests.epoch_files import NET, NETWORK_KEY
from tests.epoch_world import ACCOUNTS, COIN, KEYS, METERINGS, NODES, enrolled, filed, finished, settled
from tests.faulty_database import FaultyDatabase
from tests.money_world import PAID
from tests.unit.agent_fakes import FakeClock

NOW_MS = 1_800_000_000_000
NOW_S = NOW_MS // 1000
SAFE, THIEF = b"s" * 20, b"x" * 20
ME = Payee(ACCOUNTS[0], ACCOUNTS[0])
DOMAIN = Domain(7, b"d" * 20)


def word(to: bytes, signed_at_s: int = NOW_S, key: PrivateKey = KEYS[0], account: bytes = ACCOUNTS[0]) -> bytes:
    return sign_text(key, payout_text(NET, account, to, signed_at_s))


def said(to: bytes, signed_at_s: int = NOW_S, key: PrivateKey = KEYS[0]) -> AccountPayout:
    signature = word(to, signed_at_s, key)
    return AccountPayout(account=ACCOUNTS[0], to=to, signed_at_s=signed_at_s, signature=signature)


def take(before: Payee, to: bytes, now_s: int = NOW_S) -> Payee:
    return changed(before, NET, to, now_s, word(to, now_s), now_s * 1000)


# The rule


def test_a_change_waits_and_then_holds() -> None:
    waiting = take(ME, SAFE)
    assert waiting == Payee(ACCOUNTS[0], ACCOUNTS[0], SAFE, NOW_MS + DELAY_MS, NOW_S)
    assert at(waiting, NOW_MS + DELAY_MS - 1) == waiting
    assert at(waiting, NOW_MS + DELAY_MS) == Payee(ACCOUNTS[0], SAFE, signed_at_s=NOW_S)


def test_what_waits_is_taken_back_at_once_by_naming_where_it_goes_now() -> None:
    stolen = take(ME, THIEF)
    assert take(stolen, ACCOUNTS[0], NOW_S + 100) == ME._replace(signed_at_s=NOW_S + 100)


def test_another_change_waits_as_long_again() -> None:
    later = NOW_S + 3600
    assert take(take(ME, SAFE), THIEF, later).effective_at == later * 1000 + DELAY_MS


@pytest.mark.parametrize(
    ("to", "signed_at_s", "signature", "now_ms", "kind", "code"),
    [
        (SAFE, NOW_S, word(SAFE, key=KEYS[1]), NOW_MS, NotAllowed, "payout.signature"),
        (THIEF, NOW_S, word(SAFE), NOW_MS, NotAllowed, "payout.signature"),
        (SAFE, NOW_S + 1, word(SAFE), NOW_MS, NotAllowed, "payout.signature"),
        (SAFE, NOW_S, word(SAFE), NOW_MS + FRESH_MS + 1, InvalidInput, "payout.stale"),
        (SAFE, NOW_S, word(SAFE), NOW_MS - FRESH_MS - 1, InvalidInput, "payout.stale"),
        (SAFE, 5, word(SAFE, 5), NOW_MS, Conflict, "payout.replayed"),
        (bytes(20), NOW_S, word(bytes(20)), NOW_MS, InvalidInput, "payout.to"),
        (SAFE, NOW_S, b"", NOW_MS, InvalidInput, "account.signature"),
    ],
)
def test_nobody_else_changes_it_nor_an_old_word(
    to: bytes, signed_at_s: int, signature: bytes, now_ms: int, kind: type[FallowError], code: str
) -> None:
    with pytest.raises(kind) as raised:
        changed(ME._replace(signed_at_s=5), NET, to, signed_at_s, signature, now_ms)
    assert raised.value.code == code


def test_a_word_for_one_network_is_none_for_another() -> None:
    with pytest.raises(NotAllowed):
        changed(ME, "other", SAFE, NOW_S, word(SAFE), NOW_MS)


# In epochs


class Story:
    """Epochs, a day each, in which account 0 earns the same every day."""

    def __init__(self) -> None:
        self.state: State = NOTHING
        self.day = self.place = 0
        self.verdicts: Counter[str] = Counter()

    def close(self, *said: AccountPayout | CreditWithdrawn, node: bytes = NETWORK_KEY) -> dict[bytes, int]:
        """What this day's root owes more to whom."""
        end_ms = NOW_MS + (self.day + 1) * 86_400_000
        lease = self.day
        mine = [enrolled(0, 0), *finished(lease)]
        records = [filed(NODES[0], body, self.place + at, 5) for at, body in enumerate(mine)]
        records.append(filed(NETWORK_KEY, settled(lease, 0, 0), 100, 5))
        records += [filed(node, body, 101 + at, NOW_MS + self.day * 86_400_000) for at, body in enumerate(said)]
        before = self.state.owed
        folded = fold(self.state, Epoch(NET, self.day, end_ms, NETWORK_KEY), records, PAID, METERINGS)
        self.state = read_state(write_state(folded.state))
        self.day += 1
        self.verdicts = Counter(code for line in folded.lines for _, code, count in line.verdicts for _ in range(count))
        owed = {account: amount - before.get((account, COIN), 0) for (account, _), amount in self.state.owed.items()}
        return {account: amount for account, amount in owed.items() if amount}


def test_earnings_go_elsewhere_from_the_epoch_after_the_delay_is_over() -> None:
    story = Story()
    assert story.close(said(SAFE)) == {ACCOUNTS[0]: 900}
    assert story.close() == {ACCOUNTS[0]: 900}
    assert story.close() == {ACCOUNTS[0]: 900}, "the delay ends with this one"
    assert story.close() == {SAFE: 900}
    back = said(ACCOUNTS[0], NOW_S + 4 * 86_400)
    assert [story.close(back), story.close(), story.close(), story.close()] == [{SAFE: 900}] * 3 + [{ACCOUNTS[0]: 900}]


def test_what_was_taken_back_never_counts_and_is_forgotten() -> None:
    story = Story()
    story.close(said(THIEF), said(ACCOUNTS[0], NOW_S + 1))
    for _ in range(5):
        assert story.close() == {ACCOUNTS[0]: 900}
    assert not story.state.carried.get(SECTION)


def test_a_withdrawal_goes_to_whom_its_owner_named() -> None:
    story = Story()
    story.close(said(SAFE))
    for _ in range(2):
        story.close()
    withdrawn = CreditWithdrawn(withdrawal=bytes(16), account=ACCOUNTS[0], amount_microusd=20_000)
    assert story.close(withdrawn) == {SAFE: 900, ACCOUNTS[0]: 20_000}


def test_neither_a_node_nor_the_network_speaks_for_an_account() -> None:
    story = Story()
    story.close(said(THIEF), node=NODES[1])
    assert story.verdicts["payout.not_the_network"] == 1
    story.close(said(THIEF, NOW_S + 86_400, KEYS[1]))
    assert story.verdicts["payout.signature"] == 1
    story.close(said(THIEF, NOW_S))
    assert story.verdicts["payout.stale"] == 1
    assert not story.state.carried.get(SECTION)


def test_who_is_paid_instead_is_said_by_what_was_carried_into_an_epoch() -> None:
    changed_, waits, own = list(Payee(ACCOUNTS[0], SAFE)), list(Payee(ACCOUNTS[1], ACCOUNTS[1], SAFE, 9)), list(ME)
    assert paid_instead({SECTION: [changed_, waits]}) == {ACCOUNTS[0]: SAFE}
    assert paid_instead({SECTION: [own]}) == paid_instead({}) == {}


# At the door


class Door:
    def __init__(self) -> None:
        self.clock, self.database = FakeClock(), FaultyDatabase()
        self.registry, self.decisions = MemoryRegistryStore(), MemoryDecisionStore()
        self.custody = Custody(b"c" * 32)
        self.payees = Payees(
            net=NET,
            custody=self.custody,
            bus=MemoryBus(MemoryHub()),
            clock=self.clock,
            database=self.database,
            registry=self.registry,
            store=MemoryPayeeStore(),
            decisions=self.decisions,
            domain=DOMAIN,
        )

    async def knows(self, account: bytes, index: int | None) -> None:
        async with self.database.transaction() as tx:
            await self.registry.add_account(tx, account, index, 1)

    def signed(self, to: bytes, key: PrivateKey = KEYS[0]) -> Payout:
        now_s = self.clock.now_ms() // 1000
        signature = sign_text(key, payout_text(NET, ACCOUNTS[0], to, now_s)).hex()
        return Payout(account=address_text(ACCOUNTS[0]), to=address_text(to), signed_at_s=now_s, signature=signature)


@pytest.fixture
async def door() -> Door:
    door = Door()
    await door.knows(ACCOUNTS[0], None)
    await door.knows(door.custody.address(3), 3)
    return door


async def test_a_word_becomes_a_record_and_is_shown_while_it_waits(door: Door) -> None:
    view = await door.payees.payout(door.signed(SAFE))
    mine = AccountRef(account=address_text(ACCOUNTS[0]))
    assert await door.payees.payee(mine) == view
    assert (view.paid_to, view.pending) == (address_text(ACCOUNTS[0]), address_text(SAFE))
    ((_, decision),) = door.decisions.waiting.items()
    body = decision.body
    assert isinstance(body, AccountPayout)
    assert changed(ME, NET, body.to, body.signed_at_s, body.signature, decision.at).pending == SAFE
    door.clock.ms = view.effective_at
    after = await door.payees.payee(mine)
    assert (after.paid_to, after.pending) == (address_text(SAFE), "")


async def test_who_has_not_signed_is_refused_and_nothing_is_recorded(door: Door) -> None:
    with pytest.raises(NotAllowed, match="has not signed"):
        await door.payees.payout(door.signed(THIEF, KEYS[1]))
    with pytest.raises(NotAllowed, match="keeps its own key"):
        await door.payees.payout(Payout(account=address_text(ACCOUNTS[0]), to=address_text(THIEF)))
    stranger = address_text(address_of(KEYS[2]))
    with pytest.raises(NotFound):
        await door.payees.payout(Payout(account=stranger, to=address_text(THIEF)))
    assert not door.decisions.waiting


async def test_a_word_counts_once(door: Door) -> None:
    word = door.signed(SAFE)
    await door.payees.payout(word)
    with pytest.raises(Conflict):
        await door.payees.payout(word)
    assert len(door.decisions.waiting) == 1


async def _words(door: Door, *targets: bytes, hours: int = 0) -> int:
    """Say these, a second after one another, and then wait; returns how many were taken."""
    before = len(door.decisions.waiting)
    for to in targets:
        await door.clock.advance(1)
        with suppress(TooMuch):
            await door.payees.payout(door.signed(to))
    await door.clock.advance(hours * 3600)
    return len(door.decisions.waiting) - before


async def test_an_account_makes_few_records_a_day(door: Door) -> None:
    """Each is kept for ever, and nobody pays for it."""
    every_hour = [await _words(door, *[SAFE, THIEF] * 20, hours=1) for _ in range(24 * 5)]
    assert every_hour[0] == WORDS_A_DAY
    assert sum(every_hour) <= 6 * WORDS_A_DAY
    assert sum(every_hour[-24:]) == WORDS_A_DAY


async def test_to_say_again_what_holds_counts_as_well(door: Door) -> None:
    assert await _words(door, *[ACCOUNTS[0]] * 20) == WORDS_A_DAY


async def test_a_thief_who_says_all_words_of_a_day_keeps_nobody_from_taking_the_last_one_back(door: Door) -> None:
    assert await _words(door, *[THIEF] * 20) == WORDS_A_DAY
    assert await _words(door, *[ACCOUNTS[0]] * 20) == 1
    view = await door.payees.payee(AccountRef(account=address_text(ACCOUNTS[0])))
    assert (view.paid_to, view.pending) == (address_text(ACCOUNTS[0]), "")


async def test_the_network_signs_for_the_accounts_whose_keys_it_has(door: Door) -> None:
    account = door.custody.address(3)
    view = await door.payees.payout(Payout(account=address_text(account), to=address_text(SAFE)))
    assert view.pending == address_text(SAFE)
    ((_, decision),) = door.decisions.waiting.items()
    body = decision.body
    assert isinstance(body, AccountPayout)
    assert changed(Payee(account, account), NET, SAFE, body.signed_at_s, body.signature, decision.at).pending == SAFE


async def test_claims_of_an_account_whose_key_it_has_go_to_whom_its_earnings_go_and_nowhere_else(door: Door) -> None:
    account, hashed = door.custody.address(3), b"h" * 32
    asked = Redirection(claims=hashed.hex(), nonce=4, deadline_s=NOW_S)
    mine = Redirect(account=address_text(account), redirection=asked)
    with pytest.raises(Conflict, match="to whom its earnings go"):
        await door.payees.redirect(mine)
    waiting = await door.payees.payout(Payout(account=address_text(account), to=address_text(SAFE)))
    with pytest.raises(Conflict):
        await door.payees.redirect(mine)
    door.clock.ms = waiting.effective_at
    view = await door.payees.redirect(mine)
    assert (view.account, view.recipient) == (address_text(account), address_text(SAFE))
    digest = redirection_digest(DOMAIN, account, SAFE, hashed, 4, NOW_S)
    assert signer_of_digest(digest, bytes.fromhex(view.signature)) == account
    with pytest.raises(NotAllowed, match="keeps its own key"):
        await door.payees.redirect(Redirect(account=address_text(ACCOUNTS[0]), redirection=asked))
