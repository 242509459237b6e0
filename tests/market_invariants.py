"""What must always hold in the world of `tests/market_world.py`."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import product
from typing import TYPE_CHECKING

import msgspec

from fallow.adapters.memory.database import MemoryTransaction
from fallow.domain.billing import HOUR_MS, MeterKey, cumulative_charge
from fallow.domain.budgets import month_of
from fallow.domain.chart import NETWORK, Credit, Kind, Purpose, _window_id, account_id
from fallow.domain.checks import StartKey
from fallow.domain.facts import LeaseAccepted, LeaseCheckpoint, LeaseSettled, NodeShown, UsageReceipt
from fallow.domain.jobs import FINAL, Item, ItemState, Job, JobState
from fallow.domain.leases import NETWORK_FAILED, PREEMPTED, Lease, LeaseState
from fallow.domain.ledger import POST_PENDING, Balance
from fallow.domain.network_facts import RollAnswered, SeedDrawn
from fallow.domain.reserve import TallyKey, halves
from fallow.domain.verification import INCONCLUSIVE, OWN, PROVEN, VOUCHED, Standing, learned
from fallow.services.market.brain import Brain
from fallow.services.market.decisions import PARTS
from fallow.services.market.entry import Entry
from fallow.services.market.floor import NOTHING
from tests.market_twins import finish

if TYPE_CHECKING:
    from tests.market_world import World

DAY_MS = 24 * HOUR_MS


class Invariants:
    """Looks at a world as it is now, which everything must hold for."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.leases = world.store.all_leases()

    def check(self) -> None:
        """Check all but what is new."""
        self._check_money()
        self._check_budgets()
        self._check_decisions()
        self._check_meters()
        self._check_capacity()
        self._check_leases()
        for job in self.world.store.all_jobs():
            self._check_job(job, self.world.store.items_of(job))
        self._check_stored()

    def _check_money(self) -> None:
        check = finish(self.world.ledger.check(MemoryTransaction()))
        assert check.ok, check.faults
        balances = {id_: account.balance for id_, account in self.world.ledger.accounts.items()}
        for credit in Credit:
            clearing = balances[account_id(Purpose.CLEARING, credit)]
            assert clearing.debits_posted == clearing.credits_posted
        held: Counter[tuple[bytes, int]] = Counter()
        unbacked: Counter[tuple[bytes, int]] = Counter()
        for lease in self.leases:
            for credit_class, amount in lease.unbacked:
                assert lease.state is not LeaseState.ENDED
                unbacked[lease.payee, credit_class] += amount
            for credit_class, amount in lease.held:
                assert lease.state is not LeaseState.ENDED
                held[lease.payer, credit_class] += amount
        owed: Counter[bytes] = Counter()
        earned: Counter[bytes] = Counter()
        for lease in self.leases:
            owed[lease.payer] += lease.owed_microusd + lease.unbacked_microusd - lease.refunded_microusd
            earned[lease.payee] += lease.owed_microusd
        for owner in self.world.buyers:
            wallets = {credit: balances[account_id(Purpose.WALLET, credit, owner)] for credit in Credit}
            left = sum(wallet.credits_posted - wallet.debits_posted for wallet in wallets.values())
            assert self.world.granted[owner] - left == owed[owner]
            for credit, wallet in wallets.items():
                assert wallet.debits_pending == held[owner, credit]
                assert wallet.credits_posted - wallet.debits_posted - wallet.debits_pending >= 0
        fees = [balances[account_id(Purpose.FEE, credit)] for credit in Credit]
        assert sum(fee.debits_posted for fee in fees) - self._returned() == owed[NETWORK]
        assert all(fee.debits_pending == held[NETWORK, credit] for fee, credit in zip(fees, Credit, strict=True))
        network = sum(fee.credits_posted for fee in fees) - self.world.fees_funded - self._returned()
        reserves = [balances[account_id(Purpose.RESERVE, credit)] for credit in Credit]
        network += sum(one.credits_posted - one.debits_posted for one in reserves) - self.world.reserve_funded
        self._check_reserve()
        mine = {(owner, credit): account_id(Purpose.EARNED, credit, owner) for owner in earned for credit in Credit}
        provided = sum(balances[id_].credits_posted for id_ in mine.values() if id_ in balances)
        for owner, credit in mine:
            kept = balances.get(account_id(Purpose.UNBACKED, credit, owner), Balance())
            assert kept.credits_posted - kept.debits_posted == unbacked[owner, credit]
        assert network + provided + unbacked.total() == sum(owed.values())

    def _check_budgets(self) -> None:
        """What counts as spent is what the ledger says of the month, and nothing is reserved beyond the budget."""
        for owner in self.world.buyers:
            view = self.world.budget_of(owner)
            assert view.spent_microusd == self._spent_in_month(owner)
            bound = view.spent_microusd + view.reserved_microusd
            if view.budget_microusd is not None:
                assert bound <= max(view.budget_microusd, self.world.bound.get(owner, bound))
            self.world.bound[owner] = bound

    def _spent_in_month(self, owner: bytes) -> int:
        wallets = {account_id(Purpose.WALLET, credit, owner) for credit in Credit}
        spent, back = 0, {Kind.REFUND.value, Kind.RETURNED.value}
        for entry in self.world.ledger.log.values():
            if month_of(entry.created_ms) == month_of(self.world.now):
                spent += entry.amount * (entry.debit in wallets and bool(entry.flags & POST_PENDING))
                spent -= entry.amount * (entry.credit in wallets and entry.code in back)
        return spent

    def _check_decisions(self) -> None:
        """What the network will sign says of each lease what the ledger moved for it, and of each node what it is."""
        said: Counter[tuple[bytes, int, str]] = Counter()
        finals: Counter[bytes] = Counter()
        shown: dict[bytes, Standing] = {}
        for at, body in self.world.decisions.waiting.values():
            if isinstance(body, NodeShown):
                shown[body.node] = learned(shown.get(body.node, Standing()), at, body.what, body.code)
                continue
            if isinstance(body, SeedDrawn | RollAnswered):
                continue
            assert isinstance(body, LeaseSettled)
            assert body.lease not in finals, "nothing comes after the final one"
            finals[body.lease] += body.final
            finals += Counter()
            for moved in body.moved:
                for part in PARTS.values():
                    said[body.lease, moved.credit, part] += getattr(moved, part)
        leases = {lease.id: lease for lease in self.leases}
        lies: Counter[tuple[bytes, int, str]] = Counter()
        for entry in self.world.ledger.log.values():
            if entry.ref in leases and entry.code and Kind(entry.code) in PARTS:
                lies[entry.ref, entry.ledger, PARTS[Kind(entry.code)]] += entry.amount
        assert +said == +lies
        assert set(finals) == {lease.id for lease in self.leases if lease.state is LeaseState.ENDED}
        assert shown == {
            node: msgspec.json.decode(doc, type=Standing) for node, doc in self.world.store.standings.items()
        }

    def _returned(self) -> int:
        """What the network got back of what it had paid for work that was of no use."""
        network = {lease.id for lease in self.leases if lease.payer == NETWORK}
        return sum(
            one.amount for one in self.world.ledger.log.values() if one.code == Kind.RETURNED and one.ref in network
        )

    def _check_reserve(self) -> None:
        """It pays on an account, in each credit class, no more than the part of fees that counts for the account."""
        fees = self._fees_that_count()
        most: Counter[TallyKey] = Counter()
        given: Counter[int] = Counter()
        paid: Counter[bytes] = Counter()
        by_id = {lease.id: lease for lease in self.leases}
        for entry in self.world.ledger.log.values():
            lease = by_id.get(entry.ref or b"")
            if lease is not None and entry.code in {Kind.REFUND, Kind.LOST}:
                inconclusive = lease.reason == INCONCLUSIVE
                for account in {lease.payee, lease.payer} if inconclusive else {lease.payee}:
                    most[account, entry.ledger] += entry.amount
                given[entry.ledger] += entry.amount
                paid[entry.ref] += entry.amount
        on_accounts = self._check_checks()
        for key, tally in self.world.store.tallies.items():
            assert tally.fees == fees[key]
            assert on_accounts[key] <= tally.covered <= min(tally.fees, most[key] + on_accounts[key])
        for credit in Credit:
            covered = sum(tally.covered for (_, one), tally in self.world.store.tallies.items() if one == credit)
            assert covered == given[credit] + sum(sum_ for (_, one), sum_ in on_accounts.items() if one == credit)
        for lease in self.leases:
            assert paid[lease.id] == lease.refunded_microusd + lease.made_good_microusd
            assert lease.refunded_microusd <= lease.owed_microusd
            assert not lease.made_good_microusd or lease.caused_by in {"owner", "nobody"}
            assert not lease.refunded_microusd or lease.reason == INCONCLUSIVE

    def _fees_that_count(self) -> Counter[TallyKey]:
        """Half of each fee for who paid it, half for whose use paid it."""
        fees: Counter[TallyKey] = Counter()
        for lease in self.leases:
            windows = range(lease.window + 2) if lease.payer != NETWORK else ()
            for window, credit in product(windows, Credit):
                fee, reserve = (self._passed_on(kind, lease, window, credit) for kind in (Kind.FEE, Kind.RESERVE))
                fee = fee if credit is Credit.GRANTED else self.world.fee.returnable(fee)
                for account, part in zip((lease.payer, lease.payee), halves(fee, reserve), strict=True):
                    fees[account, int(credit)] += part
        return fees

    def _passed_on(self, kind: Kind, lease: Lease, window: int, credit: Credit) -> int:
        entry = self.world.ledger._transfers.get(_window_id(kind.name, lease.id, window, credit))
        return entry.amount if entry is not None else 0

    def _check_checks(self) -> Counter[TallyKey]:
        """What the network ordered is charged to an account or the starting credit; what it was, by account."""
        on_accounts: Counter[TallyKey] = Counter()
        started: Counter[StartKey] = Counter()
        spent = self._spent_by_network()
        for lease in self.leases:
            if lease.payer != NETWORK:
                assert (lease.charged_to, lease.covered_ms) == (b"", None)
            elif lease.charged_to == lease.node:
                assert {credit for credit, amount in spent[lease.id].items() if amount} <= {Credit.GRANTED}
                started[lease.node, lease.proposed_at // DAY_MS] += spent[lease.id].total()
            elif lease.charged_to:
                job = msgspec.json.decode(self.world.store.jobs[lease.job], type=Job)
                assert lease.charged_to in ({job.replay.account, job.replay.due_to} if job.replay else {job.account})
                for credit, amount in spent[lease.id].items():
                    on_accounts[lease.charged_to, credit] += amount
        assert {key: amount for key, amount in self.world.store.starting.items() if amount} == dict(+started)
        by_node, by_day = Counter[bytes](), Counter[int]()
        for (node, day), amount in started.items():
            by_node[node] += amount
            by_day[day] += amount
        assert all(amount <= self.world.starting.a_node for amount in by_node.values())
        assert all(amount <= self.world.starting.a_day for amount in by_day.values())
        assert started.total() <= self.world.starting.total
        return on_accounts

    def _spent_by_network(self) -> dict[bytes, Counter[int]]:
        """What left the fee's purse for each lease that the network pays, or is held for it, by credit class."""
        spent: dict[bytes, Counter[int]] = defaultdict(Counter)
        for lease in self.leases:
            spent[lease.id].update(dict(lease.held))
        signs = {Kind.INCOME: 1, Kind.RESERVE: 1, Kind.KEPT: 1, Kind.BACKED: -1}
        for entry in self.world.ledger.log.values():
            if entry.ref in spent and entry.code in signs:
                spent[entry.ref][entry.ledger] += signs[Kind(entry.code)] * entry.amount
        return spent

    def _check_meters(self) -> None:
        """What was charged is the price of what was used, floored once."""
        price_ms: Counter[MeterKey] = Counter()
        owed: Counter[MeterKey] = Counter()
        for lease in self.leases:
            key = (lease.payer, lease.payee, lease.price_version)
            price_ms[key] += lease.price_microusd_per_hour * lease.charged_ms
            owed[key] += lease.owed_microusd
        for key, sum_ in price_ms.items():
            over = [shown for (one, _), shown in self.world.store.meters_over.items() if one == key]
            shown = [*over, self.world.store.meters.get(key, 0)]
            assert sum(shown) == sum_
            assert owed[key] == sum(cumulative_charge(each, self.world.fee).total for each in shown)
            assert owed[key] == sum(each // HOUR_MS for each in shown)

    def _check_capacity(self) -> None:
        open_: dict[bytes, list[Lease]] = defaultdict(list)
        for lease in self.world.brain.leases.values():
            assert lease.state is not LeaseState.ENDED
            if lease.holds_capacity:
                open_[lease.node].append(lease)
        for node, slot in self.world.brain.floor.slots.items():
            assert set(slot.leases) == {lease.id for lease in open_[node]}
            free = slot.offer.made.total
            for lease in open_[node]:
                free = free.minus(lease.resources)
            assert slot.free == free

    def check_sold_once(self, new: set[bytes]) -> None:
        """Whatever a node held before: a new lease only goes where it fits, to nobody banned, to no cancelled job."""
        cancelled = {job_id for job_id, answer in self.world.cancels if answer.given and answer.error is None}
        for lease_id in new & set(self.world.brain.leases):
            lease = self.world.brain.leases[lease_id]
            assert lease.job not in cancelled
            assert not {lease.node, lease.payee} & self.world.brain.banned
            job = self.world.brain.jobs[lease.job].job
            trust = self.world.brain.trust_of(lease.node, self.world.now, job.account)
            assert not job.needs.secrets or trust in {PROVEN, VOUCHED, OWN}
            offer = self.world.brain.floor.slots[lease.node].offer
            asked = offer.spot if lease.spot else offer.made.terms
            assert asked is not None
            assert lease.price_microusd_per_hour == asked.price_microusd_per_hour(lease.resources)
            assert lease.spot == self.world.brain.jobs[lease.job].job.order.spot
            assert not lease.holds_capacity or self.world.brain.floor.slots[lease.node].free.holds(NOTHING)

    def _check_leases(self) -> None:
        for lease in self.leases:
            assert lease.used_ms <= lease.time_limit_ms
            assert lease.owed_microusd >= 0
            if not lease.until_stopped and lease.state is not LeaseState.ENDED:
                assert lease.charged_ms <= lease.saved_ms  # nobody pays for what is not of use yet
            if lease.state is LeaseState.ENDED:
                assert lease.ended_at is not None
                assert lease.used_ms <= lease.ended_at - lease.proposed_at
                assert lease.caused_by in {"buyer", "provider", "owner", "nobody", "network"}
                assert lease.reason
            else:
                assert bool(lease.caused_by) == (lease.state is LeaseState.REPORTED)
                assert lease.used_ms + lease.claim_ms <= self.world.now - lease.proposed_at
            if lease.started_at is not None:
                assert (lease.node, lease.id, LeaseAccepted.kind) in self.world.said
            if lease.used_ms or lease.claim_ms or lease.ok:
                kinds = (UsageReceipt.kind, LeaseCheckpoint.kind)
                assert any((lease.node, lease.id, kind) in self.world.said for kind in kinds)
            if lease.saved_ms:
                assert (lease.node, lease.id, LeaseCheckpoint.kind) in self.world.said
                assert lease.saved_ms <= (lease.ended_at or self.world.now) - lease.proposed_at
            assert lease.spot or PREEMPTED not in {lease.reason, lease.stop_reason}
            if lease.id in self.world.store.evidence:
                assert (lease.reason, lease.caused_by) == ("result.wrong", "provider")

    def _check_job(self, job: Job, items: list[Item]) -> None:
        mine = [lease for lease in self.leases if lease.job == job.order.id]
        for item in items:
            self._check_item(job, item, [lease for lease in mine if lease.item == item.index])
        assert (job.order.id in self.world.store.secrets) == (bool(job.needs.secrets) and job.state is JobState.RUNNING)
        finals = {item.state for item in items}
        if finals <= FINAL:
            worst = next(s for s in (ItemState.CANCELLED, ItemState.FAILED, ItemState.DONE) if s in finals)
            assert (job.state.value, job.ended_at is None) == (worst.value, False)
        else:
            assert job.state is JobState.RUNNING
        if job.order.budget_microusd is not None:
            bought = [lease for lease in mine if lease.payer != NETWORK]
            reserved = sum(amount for lease in bought for _, amount in (*lease.held, *lease.unbacked))
            owed = sum(lease.owed_microusd - lease.refunded_microusd for lease in bought)
            assert owed + reserved <= job.order.budget_microusd

    def _check_item(self, job: Job, item: Item, mine: list[Lease]) -> None:
        working = [lease for lease in mine if lease.holds_capacity]
        reported = [lease for lease in mine if lease.state is LeaseState.REPORTED]
        assert set(item.leases) == {lease.id for lease in working}
        if item.state in FINAL:
            assert not working
            assert not reported
        else:
            assert {vote.lease for vote in item.votes} == {lease.id for lease in reported}
            owners = [lease.payee for lease in working + reported]
            assert len(owners) == len(set(owners))
            lines = [self.world.brain.floor.networks[lease.node] for lease in working + reported]
            assert len(lines) == len(set(lines))
            assert len(owners) <= item.wanted or item.wanted == 0  # none is wanted of what was cancelled
            states = {ItemState.CHECKING} if reported else {ItemState.PLACED, ItemState.RUNNING}
            assert item.state in (states if owners else {ItemState.WAITING})
        assert item.state is not ItemState.DONE or item.result is not None or job.order.until_stopped
        assert item.attempts == len(mine)
        paid = [one for one in mine if one.state is LeaseState.ENDED and one.payer != NETWORK]
        assert item.owed_microusd == sum(one.owed_microusd - one.refunded_microusd for one in paid)
        assert item.used_ms == sum(one.used_ms for one in paid)
        assert item.reason or item.state not in {ItemState.FAILED, ItemState.CANCELLED}
        assert item.failures <= job.order.retries + 1
        lost = [
            one
            for one in mine
            if (one.caused_by == "provider" and one.started_at is not None) or one.reason == NETWORK_FAILED
        ]
        shunned = sum(item.shunned.count(node) for node in {one.node for one in mine})
        losses = sum(1 for one in lost if not one.ok or one.reason == "result.wrong")
        assert shunned <= losses
        assert shunned == losses or any(one.saved_ms or one.window for one in mine)
        assert not item.checkpoint or job.needs.checkpoints
        assert not item.checkpoint or any(one.saved_ms for one in mine)

    def _check_stored(self) -> None:
        """A process that starts now would have the same in mind."""
        state = finish(self.world.store.load(None))
        fresh = Brain(self.world.fees, self.world.brain.judging.seed)
        for offer in self.world.store.all_offers():
            fresh.floor.offer(offer, self.world.now)
        fresh.restore(state.jobs, state.leases, state.secrets)
        brain = self.world.brain
        assert fresh.leases == brain.leases
        assert state.meters == brain.meters
        assert state.tallies == brain.tallies
        assert state.starting == brain.starting.spent
        assert state.hours == brain.chronicle.hours
        assert state.standings == brain.judging.standings
        assert {node: (s.free, s.offer) for node, s in fresh.floor.slots.items()} == {
            node: (s.free, s.offer) for node, s in brain.floor.slots.items()
        }
        assert {id_: _essence(entry) for id_, entry in fresh.jobs.items()} == {
            id_: _essence(entry) for id_, entry in brain.jobs.items()
        }
        assert state.cursor == self.world.rounds._cursor


def _essence(entry: Entry) -> tuple[object, ...]:
    return (
        entry.job,
        entry.locked,
        entry.items,
        set(entry.waiting),
        entry.spent_microusd,
        entry.unfinished,
        entry.reserved,
    )
