"""What must hold at the end of every simulation, computed anew from the log, the ledger and the market's rows."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from fallow.domain.batches import stored_records
from fallow.domain.billing import HOUR_MS, MeterKey
from fallow.domain.chart import NETWORK, Credit, Kind, Purpose, account_id
from fallow.domain.draws import Commitment, Draw, faults, seed_of
from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.folding import fold
from fallow.domain.epochs.reading import Filed
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.state import NOTHING
from fallow.domain.facts import LeaseAccepted, LeaseCheckpoint, LeaseDeclined, LeaseSettled, UsageReceipt
from fallow.domain.jobs import FINAL, Item, ItemState, Job, JobState
from fallow.domain.leases import Lease, LeaseState
from fallow.domain.ledger import PENDING, POST_PENDING
from fallow.domain.records import Record, make_record
from fallow.domain.rollcall import Call
from fallow.domain.verification import INCONCLUSIVE, Standing, Verdict
from fallow.services.market.decisions import PARTS
from fallow.services.market.outbound import seed
from fallow.services.market.rounds import Rounds
from fallow.verticals.compute.core.metering import ComputeMetering
from tests.sim.core import CHECK_SECRET, NET, Truth
from tests.sim.machine import TOTAL, truth_of

WRONG = "result.wrong"
CAUSES = {"buyer", "provider", "owner", "nobody", "network"}


class Found(Exception):
    """A checker found something; its first argument is the checker's name."""


def require(holds: object, checker: str, *evidence: object) -> None:
    """Raise what was found unless it holds."""
    if not holds:
        raise Found(checker, *evidence)


class Facts(NamedTuple):
    """All that is known at the end."""

    truth: Truth
    jobs: list[tuple[Job, list[Item]]]
    leases: list[Lease]
    records: list[Record]
    draws: list[Draw]
    calls: list[Call]
    granted: dict[bytes, int]
    funded: int
    standings: dict[bytes, Standing]


async def gather(truth: Truth, job_ids: Sequence[str], granted: dict[bytes, int], funded: int) -> Facts:
    """Read everything back through the stores."""
    async with truth.database.transaction() as tx:
        jobs = list((await truth.market.jobs_by_id(tx, job_ids)).values())
        jobs += await truth.market.jobs(tx, NETWORK, "", 10_000)  # canaries
        leases = [one for job, _ in jobs for one in await truth.market.leases(tx, job.order.id, 0, 10_000)]
        log = await truth.ingest.after(tx, 0, 100_000)
        state = await truth.market.load(tx)
        check = await truth.ledger.check(tx)
        draws = [
            draw
            for row in reversed(await truth.checks.seeds(tx, 10_000))
            for draw in await truth.checks.draws(tx, row.number, (b"", ""), 100_000)
        ]
        calls = await truth.checks.calls(tx, 10_000, found=False)
    require(check.ok, "ledger check", check.faults)
    heard = [entry.pos for entry in log if entry.node != bytes(truth.key.verify_key)]
    require(not heard or state.cursor >= (heard[-1], 0), "log applied to its end", state.cursor)
    require(not state.leases, "no open lease", state.leases)
    records = [record for entry in log for record in stored_records(entry.data)]
    return Facts(truth, jobs, leases, records, draws, calls, granted, funded, state.standings)


def check_all(facts: Facts) -> None:
    """Run every checker."""
    checkers = (
        _money,
        _nothing_pending,
        _decisions,
        _folded,
        _records_once,
        _applied_once,
        _leases,
        _prices,
        _reserve,
        _items,
        _draws,
        _calls,
    )
    for checker in checkers:
        checker(facts)


def _draws(facts: Facts) -> None:
    """Every draw comes from the seed of its epoch."""
    for number, draws in groupby(facts.draws, key=lambda draw: draw.number):
        drawn_from = seed_of(CHECK_SECRET, number)
        commitment = Commitment(net=NET, number=number, commitment=drawn_from.commitment)
        found = faults(commitment, drawn_from.value, draws)
        require(not found, "draws come from the committed seed", number, found)


def _calls(facts: Facts) -> None:
    """Whatever the weather did to their answers: nobody here shares a machine or signs for what was not done."""
    convicted = [call for call in facts.calls if call.found]
    require(not convicted, "no roll call convicts the honest", convicted)


def check_round(rounds: Rounds) -> None:
    """After each round: no node is oversold, and what is free is what the open leases leave."""
    brain = rounds.brain
    held: dict[bytes, list[Lease]] = defaultdict(list)
    for lease in brain.leases.values():
        if lease.holds_capacity:
            held[lease.node].append(lease)
    for node, slot in brain.floor.slots.items():
        used = sum(lease.resources.cpu_milli for lease in held[node])
        require(used <= TOTAL.cpu_milli, "node oversold", node.hex(), held[node])
        free = slot.offer.made.total
        for lease in held[node]:
            free = free.minus(lease.resources)
        require(slot.free == free, "capacity", node.hex(), slot.free, free, held[node])


def _money(facts: Facts) -> None:
    accounts = {id_: account.balance for id_, account in facts.truth.ledger.accounts.items()}
    for credit in Credit:
        clearing = accounts[account_id(Purpose.CLEARING, credit)]
        require(clearing.debits_posted == clearing.credits_posted, "clearing is empty", clearing)
    owed: Counter[bytes] = Counter()
    for lease in facts.leases:
        owed[lease.payer] += lease.owed_microusd - lease.refunded_microusd
    for buyer, amount in facts.granted.items():
        wallet = accounts[account_id(Purpose.WALLET, Credit.GRANTED, buyer)]
        left = wallet.credits_posted - wallet.debits_posted
        require(amount - left == owed[buyer], "buyer pays what his leases owe", amount, left, owed[buyer])
    fee = accounts[account_id(Purpose.FEE, Credit.GRANTED)]
    checks = {lease.id for lease in facts.leases if lease.payer == NETWORK}
    back = sum(one.amount for one in facts.truth.ledger.log.values() if one.code == Kind.RETURNED and one.ref in checks)
    require(fee.debits_posted - back == owed[NETWORK], "network pays what its checks owe", fee, owed[NETWORK])
    reserve = accounts[account_id(Purpose.RESERVE, Credit.GRANTED)]
    earned = {lease.payee: account_id(Purpose.EARNED, Credit.GRANTED, lease.payee) for lease in facts.leases}
    provided = sum(accounts[id_].credits_posted for id_ in earned.values() if id_ in accounts)
    gained = provided + fee.credits_posted - back - facts.funded + reserve.credits_posted - reserve.debits_posted
    require(gained == sum(owed.values()), "earnings, fee and reserve are what payers lost", gained, sum(owed.values()))


def _nothing_pending(facts: Facts) -> None:
    for account in facts.truth.ledger.accounts.values():
        require(account.debits_pending == account.credits_pending == 0, "nothing pending", account)
        kept = account.credits_posted - account.debits_posted if account.code == Purpose.UNBACKED else 0
        require(not kept, "nothing kept", account)


def _decisions(facts: Facts) -> None:
    """What the network signed, and is about to sign, says of each lease what the ledger moved for it."""
    sealed = [record.read(LeaseSettled) for record in facts.records if record.kind == LeaseSettled.kind]
    waiting = [body for _, body in facts.truth.decisions.waiting.values() if isinstance(body, LeaseSettled)]
    said: Counter[tuple[bytes, int, str]] = Counter()
    for body in (*sealed, *waiting):
        for moved in body.moved:
            for part in PARTS.values():
                said[body.lease, moved.credit, part] += getattr(moved, part)
    finals = Counter(body.lease for body in (*sealed, *waiting) if body.final)
    moves = [one for one in facts.truth.ledger.log.values() if one.code and Kind(one.code) in PARTS and one.ref]
    lies: Counter[tuple[bytes, int, str]] = Counter()
    for one in moves:
        lies[one.ref or b"", one.ledger, PARTS[Kind(one.code)]] += one.amount
    require(+said == +lies, "decisions say what moved", +said, +lies)
    require(finals == Counter(lease.id for lease in facts.leases), "each lease ends once in the records", finals)


def _folded(facts: Facts) -> None:
    """An epoch of all that was signed, and is about to be, owes each provider what the ledger says that he earned."""
    network = bytes(facts.truth.key.verify_key)
    words = [*facts.records]
    for at, body in facts.truth.decisions.waiting.values():
        words.append(make_record(body, net=NET, node=network, boot=0, seq=0, at=at, new_salt=lambda: bytes(32))[0])
    records = [Filed(0, place, record.node, record, b"") for place, record in enumerate(words)]
    rules = Rules(credit=Credit.GRANTED.value)
    folded = fold(NOTHING, Epoch(NET, 0, 0, network), records, rules, {"compute": ComputeMetering()})
    verdicts = {(verdict, code) for line in folded.lines for verdict, code, _ in line.verdicts}
    unfit = {code for verdict, code in verdicts if verdict == Verdict.REJECTED and code.startswith("settle.")}
    require(not unfit, "no settlement says more than its node signed for", unfit)
    accounts = facts.truth.ledger.accounts
    purses = {lease.payee: account_id(Purpose.EARNED, Credit.GRANTED, lease.payee) for lease in facts.leases}
    earned = {payee: accounts[id_].balance.credits_posted for payee, id_ in purses.items() if id_ in accounts}
    owed = {account: amount for (account, _), amount in folded.state.owed.items()}
    require(owed == {payee: amount for payee, amount in earned.items() if amount}, "owed is earned", owed, earned)
    shown = {node: standing for node, standing in facts.standings.items() if standing != Standing()}
    require(folded.state.standings == shown, "reputation follows from the records", folded.state.standings, shown)


def _records_once(facts: Facts) -> None:
    """Each boot's records are numbered from zero, without gap or repetition, in the order of the log."""
    following: dict[tuple[bytes, int], int] = defaultdict(int)
    for record in facts.records:
        key = (record.node, record.boot)
        require(record.seq == following[key], "each record once", key, record.seq, following[key])
        following[key] += 1


def _applied_once(facts: Facts) -> None:
    """Each record about a lease was applied exactly once, or refused with a code."""
    refused = facts.truth.market.refusals
    leases = {lease.id: lease for lease in facts.leases}
    accepts: Counter[bytes] = Counter()
    windows: dict[bytes, list[int]] = defaultdict(list)
    finals: Counter[bytes] = Counter()
    claims: Counter[bytes] = Counter()
    saved: dict[bytes, int] = defaultdict(int)
    for record in facts.records:
        if record.kind not in {LeaseAccepted.kind, LeaseDeclined.kind, UsageReceipt.kind, LeaseCheckpoint.kind}:
            continue
        lease_id = record.body["lease"]
        if (record.node, record.boot, record.seq) in refused:
            continue
        lease = leases.get(lease_id)
        require(lease is not None and lease.node == record.node, "of nobody else's lease", record)
        accepts[lease_id] += record.kind == LeaseAccepted.kind
        if record.kind == LeaseCheckpoint.kind:
            saved[lease_id] = max(saved[lease_id], record.body["used_ms"])
        if record.kind == UsageReceipt.kind:
            claims[lease_id] += record.body["used_ms"]
            if record.body["final"]:
                finals[lease_id] += 1
            else:
                windows[lease_id].append(record.body["window"])
    for lease in facts.leases:
        require(accepts[lease.id] == (lease.started_at is not None), "accept applied once", lease)
        require(windows[lease.id] == list(range(lease.window)), "windows applied once", lease, windows[lease.id])
        require(finals[lease.id] <= 1, "report applied once", lease)
        claimed = max(claims[lease.id], saved[lease.id])
        require(lease.used_ms <= claimed, "no more charged than claimed", lease, claimed)


def _leases(facts: Facts) -> None:
    for lease in facts.leases:
        require(lease.state is LeaseState.ENDED, "every lease ends", lease)
        require(lease.caused_by in CAUSES, "caused by somebody", lease)
        require(lease.reason, "no end without a reason", lease)
        lost = lease.caused_by in {"provider", "owner", "nobody"} and not lease.ok and not lease.until_stopped
        require(not lost or lease.used_ms <= lease.saved_ms, "nobody pays for lost work", lease)


def _prices(facts: Facts) -> None:
    """What was posted for a lease is what it owes, and that is the price of its use, floored once."""
    posted: Counter[bytes] = Counter()
    passed_on: Counter[bytes] = Counter()
    for movement in facts.truth.ledger.log.values():
        if movement.flags & POST_PENDING:
            posted[movement.ref] += movement.amount
        elif movement.code == Kind.RETURNED:
            posted[movement.ref] -= movement.amount
        elif movement.code in {Kind.INCOME, Kind.FEE, Kind.RESERVE} and not movement.flags & PENDING:
            passed_on[movement.ref] += movement.amount
    price_ms: Counter[MeterKey] = Counter()
    owed: Counter[MeterKey] = Counter()
    for lease in facts.leases:
        paid = (posted[lease.id], passed_on[lease.id])
        require(paid == (lease.owed_microusd,) * 2, "posted what is owed", lease, paid)
        key = (lease.payer, lease.payee, lease.price_version)
        price_ms[key] += lease.price_microusd_per_hour * lease.used_ms
        owed[key] += lease.owed_microusd
    for key, total in price_ms.items():
        require(owed[key] == total // HOUR_MS, "price of use, floored once", key, owed[key], total)


def _reserve(facts: Facts) -> None:
    """The reserve pays what leases say, once, for what it is there for, and for nobody more than he paid in."""
    gave: Counter[tuple[bytes, int]] = Counter()
    fees: Counter[bytes] = Counter()
    leases = {lease.id: lease for lease in facts.leases}
    for movement in facts.truth.ledger.log.values():
        if movement.code in {Kind.REFUND, Kind.LOST}:
            gave[movement.ref, movement.code] += movement.amount
        elif movement.code == Kind.FEE and leases[movement.ref].payer != NETWORK:
            fees[leases[movement.ref].payee] += movement.amount
    lost: Counter[bytes] = Counter()
    for lease in facts.leases:
        said = (lease.refunded_microusd, lease.made_good_microusd)
        paid = (gave[lease.id, Kind.REFUND], gave[lease.id, Kind.LOST])
        require(said == paid, "the reserve pays once", lease, paid)
        require(not paid[0] or lease.reason == INCONCLUSIVE, "no refund of what is of use", lease)
        lost[lease.payee] += lease.made_good_microusd
    for payee, amount in lost.items():
        require(amount <= fees[payee], "the reserve gives no more than it got", payee, amount, fees[payee])


def _items(facts: Facts) -> None:
    by_item: dict[tuple[str, int], list[Lease]] = defaultdict(list)
    for lease in facts.leases:
        by_item[lease.job, lease.item].append(lease)
    for job, items in facts.jobs:
        require(job.state is not JobState.RUNNING and job.ended_at is not None, "every job ends", job)
        for item in items:
            require(item.state in FINAL, "every item ends", job.order.id, item)
            _item(job, item, by_item[job.order.id, item.index])


def _item(job: Job, item: Item, leases: list[Lease]) -> None:
    where = (job.order.id, item, leases)
    bought = [lease for lease in leases if lease.payer != NETWORK]
    require(item.attempts == len(leases), "an attempt is a lease", *where)
    owed = sum(one.owed_microusd - one.refunded_microusd for one in bought)
    require(item.owed_microusd == owed, "an item owes what was bought", *where)
    require(item.reason or item.state is ItemState.DONE, "no failure without a reason", *where)
    if job.order.until_stopped:
        ends_well = item.state is ItemState.DONE or item.reason == "buyer.budget"
        require(ends_well, "what runs until it is stopped ends well", *where)
        return  # it may have left nothing, and several owners' machines may have run it in turn
    if item.state is not ItemState.DONE:
        return
    believed = [lease for lease in leases if lease.ok and lease.reason != WRONG]
    mine = [lease for lease in believed if lease.payer != NETWORK]
    refused = [lease for lease in bought if lease.reason == WRONG]
    require(item.result, "what is done has a result", *where)
    require(believed, "what is done was believed", *where)
    require(len({lease.payee for lease in believed}) == len(believed), "no owner confirms himself", *where)
    wanted = job.order.replicas if job.needs.compares else 1
    require(len(mine) <= wanted, "paid once", *where)
    require(mine or refused or job.replay, "who gets a result pays for one", *where)
    if job.replay is not None:
        require(not bought, "the network pays for canaries", *where)
        right = truth_of(seed(job.replay.job, job.replay.item))
        require(item.result == right or not item.checked, "a canary is the work that it repeats", *where)


async def settled(truth: Truth) -> bool:
    """Whether nothing is open any more, and the log is applied to its end."""
    await asyncio.sleep(0)
    async with truth.database.transaction() as tx:
        state = await truth.market.load(tx)
        rest = await truth.ingest.after(tx, state.cursor.pos, 1)
    return not (state.jobs or state.leases or rest)
