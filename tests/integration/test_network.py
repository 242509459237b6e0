"""A whole network in real processes, seen from outside: machines join, buyers buy, everyone is paid."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import asyncpg
import httpx2
import msgspec
import pytest

from fallow import Order, Requirements
from fallow.adapters.nats.bus import connect_nats
from fallow.adapters.nats.dial import BusState, OnState
from fallow.adapters.nats.nkeys import KeySigner
from fallow.adapters.nats.permissions import inbox_prefix
from fallow.agent.identity import NodeKey
from fallow.domain.billing import FeePolicy, cumulative_charge
from fallow.domain.calls.nodes import Join, join_message
from fallow.domain.calls.subscriptions import OpenSubscription
from fallow.domain.chart import Kind, Purpose
from fallow.domain.delegations import delegation_text
from fallow.domain.errors import Conflict, InsufficientFunds, InvalidInput, NotAllowed, NotFound
from fallow.domain.identity import address
from fallow.domain.leases import WORK_DONE, LeaseState
from fallow.domain.views.jobs import JobEvent, JobView
from fallow.domain.wallets import signer_of
from tests.network import BOUND, NEEDS, PRICE, Net, check_job, fallow, fresh_id, until_async
from tests.programs import SECOND, ending_with, hello, spin, spun

pytestmark = pytest.mark.xdist_group("network")

QUICK = SECOND // 50
USED_UP = "fj_none"


async def join(net: Net, key: NodeKey, token: str, *, proof: bytes | None = None) -> httpx2.Response:
    """Ask to be a node, as an agent does."""
    signature = proof or key.sign(join_message(token, key.text))
    body = msgspec.json.encode(Join(token=token, node=key.text, proof=signature.hex()))
    async with httpx2.AsyncClient(timeout=BOUND) as client:
        return await client.post(f"{net.url}/v1/join", content=body, headers={"Content-Type": "application/json"})


# Machines


async def test_a_machine_is_on_the_market_with_what_its_owner_offers(net: Net) -> None:
    for agent in net.running.agents:
        node = await net.node(agent)
        assert node.total is not None
        assert node.terms is not None
        assert (node.total.cpu_milli, node.total.memory_mib, node.total.disk_mib) == (400, 256, 256)
        assert node.terms.price_microusd_per_core_hour == 36_000_000
        assert node.attributes["compute.wasm"] == "wasi-p1"
        status = await agent.ask("status")
        assert (status["node"], status["account"], status["net"]) == (node.node, node.account, net.running.net)
        assert status["link_trouble"] == ""
    assert len({agent.account for agent in net.running.agents}) == 3


async def test_tokens_that_do_not_let_a_machine_in(net: Net, tmp_path: Path) -> None:
    short = (await net.operator.create_token(uses=1000, valid_s=1)).secret
    once = (await net.operator.create_token(uses=1)).secret
    key, other = (NodeKey.load_or_create(tmp_path / name) for name in ("a", "b"))
    assert (await join(net, key, once)).status_code == 201
    assert (await join(net, key, once)).status_code == 201, "who is in already uses nothing up"

    async def expired() -> bool:
        return (await join(net, NodeKey.load_or_create(tmp_path / fresh_id()), short)).status_code == 403

    await until_async(expired, "the token expires", every=0.5)
    for token, code in ((short, "join.token_expired"), (once, "join.token_used_up"), ("fj_x", "join.token_unknown")):
        answer = (await join(net, other, token)).json()
        assert (answer["kind"], answer["code"]) == ("NotAllowed", code)
        assert answer["hint"]
    fresh = (await net.operator.create_token()).secret
    lost = (await net.operator.create_token(uses=9)).secret
    (found,) = [each for each in await net.operator.tokens() if each.uses_left == 9]
    await net.operator.revoke_token(found.token_id)
    assert (await join(net, NodeKey.load_or_create(tmp_path / "lost"), lost)).json()["code"] == "join.token_used_up"
    stolen = await join(net, other, fresh, proof=key.sign(join_message(fresh, other.text)))
    assert stolen.json()["code"] == "join.proof"


async def test_the_agent_says_in_one_sentence_why_it_may_not_join(net: Net, tmp_path: Path) -> None:
    home = tmp_path / "home"
    arguments = ("agent", "join", net.url, "--yes", "--home", str(home))
    unknown = await fallow(*arguments, "--token", "fj_nonsense")
    assert unknown.code == 1
    assert "join.token_unknown" in unknown.err
    assert "fallow token new" in unknown.err
    assert "Traceback" not in unknown.err
    assert not (home / "state.json").exists()
    nowhere = await fallow("agent", "join", "http://127.0.0.1:9", "--yes", "--home", str(home), "--token", "x")
    assert nowhere.code == 1
    assert "agent.unreachable" in nowhere.err
    assert "Traceback" not in nowhere.err
    again = await fallow(*arguments[:-1], str(net.running.agents[0].home), "--token", "x")
    assert again.code == 1
    assert "agent.joined" in again.err
    for command in ("status", "why-idle", "pause", "resume", "drain", "leave"):
        idle = await fallow("agent", command, "--home", str(tmp_path / "nobody"))
        assert (idle.code, "Traceback" in idle.err) == (1, False), (command, idle.err)
        assert "agent.not_" in idle.err


async def test_a_key_that_never_joined_cannot_connect(net: Net, tmp_path: Path) -> None:
    key = NodeKey.load_or_create(tmp_path / "key")
    with pytest.raises(NotAllowed, match=r"bus\.refused"):
        async with connect(net, key):
            pass


async def test_a_banned_node_can_neither_connect_nor_join(net: Net, tmp_path: Path) -> None:
    key = NodeKey.load_or_create(tmp_path / "key")
    token = (await net.operator.create_token()).secret
    assert (await join(net, key, token)).status_code == 201
    left = asyncio.Event()

    def note(state: BusState) -> None:
        if state is BusState.DISCONNECTED:
            left.set()

    async with connect(net, key, note):
        assert not left.is_set()
        done = await net.operator.act("ban", key.text, "lied")
        async with asyncio.timeout(BOUND):
            await left.wait()
    assert (await net.operator.actions(limit=1), done.reason) == ([done], "lied")
    with pytest.raises(NotAllowed, match=r"bus\.refused"):
        async with connect(net, key):
            pass
    assert (await join(net, key, token)).json()["code"] == "join.banned"


async def test_who_plants_a_canary_is_in_the_log_once_and_who_is_refused_is_not(net: Net) -> None:
    made = await net.operator.create_key(scopes=("buy", "operate"))
    client = await net.client(made.secret)
    order = await net.order([SECOND // 20], client=client, replicas=3, max_price_microusd_per_hour=10**9)
    for _ in range(2):
        await client.plant(order)
    with pytest.raises(InvalidInput, match=r"checks\.price"):
        await client.plant(await net.order([SECOND // 20], client=client, replicas=3))
    planted = [one for one in await net.operator.actions() if one.account == made.account]
    assert [(one.what, one.about) for one in planted] == [("canary.plant", order.id)]


async def test_a_banned_machine_loses_its_work_at_once_and_may_come_back(net: Net) -> None:
    async with net.agent("outcast") as outcast:
        order = await net.submit([10 * SECOND], on=[outcast])
        await net.runs(order.id)
        await net.operator.act("ban", outcast.node, "under suspicion")

        async def idle() -> bool:
            return not (await outcast.ask("status"))["leases"]

        await until_async(idle, "the machine was told to stop", every=0.05)
        (lease,) = [lease for lease in await net.all_leases() if lease.job == order.id]
        assert (lease.reason, lease.caused_by, lease.owed_microusd) == ("operator.banned", "network", 0)
        assert (await net.node(outcast)).state == "banned"

        async def told() -> bool:
            return any("refuses this key" in reason for reason in await outcast.ask("why-idle"))

        await until_async(told, "its owner was told that the bus does not let it in", every=0.2)
        assert (await net.buyer.quote(order)).why_not["banned"] == 1
        assert (await net.buyer.job(order.id)).counts["waiting"] == 1
        await net.operator.act("unban", outcast.node, "cleared")
        await net.runs(order.id)
        await net.buyer.cancel(order.id)


async def test_an_order_on_demand_takes_the_place_of_spot_work(net: Net) -> None:
    whole = Requirements(cpu_milli=400, memory_mib=64, disk_mib=16)
    async with net.agent("giver", spot=PRICE / 2) as giver:
        cheap = await net.submit([20 * SECOND], on=[giver], requirements=whole, spot=True)
        await net.runs(cheap.id)
        full = await net.submit([QUICK], on=[giver], requirements=whole)
        assert (await net.finished(full.id)).state == "done"
        leases = await net.all_leases()
        (gave_way,) = [lease for lease in leases if lease.job == cheap.id and lease.state is LeaseState.ENDED]
        (took,) = [lease for lease in leases if lease.job == full.id and lease.payer]
        assert (gave_way.reason, gave_way.caused_by, gave_way.owed_microusd) == ("spot.preempted", "owner", 0)
        assert took.price_microusd_per_hour == 2 * gave_way.price_microusd_per_hour > 0
        assert gave_way.ended_at is not None
        assert took.proposed_at >= gave_way.ended_at, "nothing is sold before it is free"
        await net.runs(cheap.id)
        await net.buyer.cancel(cheap.id)


def connect(net: Net, key: NodeKey, on_state: OnState | None = None) -> AbstractAsyncContextManager[object]:
    """Connect to the bus as a node."""
    return connect_nats(
        net.running.place["bus_url"],
        signer=KeySigner(key.node, key.sign),
        name="a test",
        tls=None,
        inbox_prefix=inbox_prefix(key.node),
        on_state=on_state,
    )


# A job and its money


async def test_a_buyers_key_signs_his_order_and_for_what_came(net: Net) -> None:
    buyer = net.buyer
    key = await buyer.delegate()
    try:
        order = await net.submit([QUICK, QUICK])
        assert [result.ok async for result in buyer.results(order.id)] == [True, True]
        bought = [lease for lease in await buyer.leases(order.id) if lease.receipt == "mutual"]
        items = [item async for item in buyer.all_items(order.id)]
        assert {(lease.item, lease.node) for lease in bought} == {(item.index, item.node) for item in items}
        (row,) = await net.fetch("SELECT * FROM registry.signed_order WHERE id = $1", order.id)
        assert msgspec.json.decode(row["body"], type=Order) == order
        (view,) = [each for each in await buyer.delegations() if each.key == key.public]
        text = delegation_text(net.running.net, address(view.account), bytes.fromhex(view.key), view.expires_at)
        assert signer_of(text, bytes.fromhex(view.account_signature)) == address(view.account)
        await buyer.revoke_delegation(key.public)
        with pytest.raises(NotAllowed, match=r"delegation\.revoked"):
            await net.submit([QUICK])
    finally:
        buyer._signing_key = None


async def test_a_job_runs_and_everyone_is_paid(net: Net) -> None:
    agent = net.running.agents[0]
    order = await net.submit([SECOND // 4], on=[agent])
    job = await net.finished(order.id)
    result = await net.buyer.result(order.id)
    assert (job.state, result.ok, result.exit_code, result.item.node) == ("done", True, 0, agent.node)
    assert await result.output("n") == spun(SECOND // 4)
    assert job.owed_microusd > 0
    bill = await net.buyer.bill(order.id)
    assert (bill.owed_microusd, bill.test) == (job.owed_microusd, True)
    assert bill.core_s == pytest.approx(NEEDS.cpu_milli / 1000 * job.used_ms / 1000, abs=0.002)
    assert {each.name for each in bill.elsewhere} >= {"AWS Fargate", "Salad"}

    (lease,) = await net.buyer.leases(order.id)
    moved = await net.fetch(
        "SELECT code, sum(amount)::text AS amount FROM ledger.transfer WHERE ref = $1 GROUP BY code",
        bytes.fromhex(lease.id),
    )
    parts = {Kind(row["code"]): int(row["amount"]) for row in moved}
    charge = cumulative_charge(lease.price_microusd_per_hour * lease.used_ms, FeePolicy())
    assert (parts[Kind.INCOME], parts[Kind.FEE], parts[Kind.RESERVE]) == charge, "90, 8 and 2 per cent, each floored"
    assert charge.total == job.owed_microusd == lease.owed_microusd

    async def told() -> bool:
        standing = (await agent.ask("status"))["standing"]
        earned = await net.balance(Purpose.EARNED, agent.account)
        return standing["state"] == "idle" and standing["usage_microusd"]["granted"] == earned

    await until_async(told, "its owner reads what it has earned; the network may just check it with work of its own")

    balance = await net.buyer.balance()
    assert balance.spendable["granted"] == net.first.granted - job.owed_microusd
    assert (balance.spent["granted"], balance.spent["paid"]) == (job.owed_microusd, 0)
    assert not any(balance.reserved.values())
    lines = await net.buyer.statement()
    assert [line.kind for line in lines] == ["grant", "reserved", "used"]
    assert sum(line.amount_microusd for line in lines) == balance.spendable["granted"]
    assert lines[-1].amount_microusd == -job.owed_microusd
    assert [line.held_microusd > 0 for line in lines] == [False, True, False]
    assert sum(line.held_microusd for line in lines) == 0, "what was reserved was used or given back"
    check = await net.operator.ledger_check()
    assert (check.ok, set(check.sums.values())) == (True, {0})


async def test_what_a_program_prints_comes_back(net: Net) -> None:
    result = await net.buyer.run_wasm(hello(), requirements=NEEDS)
    assert (await result.stdout(), await result.stderr(), result.exit_code) == (b"hello\n", b"", 0)


async def test_a_program_that_fails_is_its_buyers_and_paid(net: Net) -> None:
    result = await net.buyer.run_wasm(ending_with(3), requirements=only(net.running.agents[2].node))
    assert (result.ok, result.exit_code, result.reason, result.job.state) == (False, 3, "program.exit", "failed")
    assert await result.stdout() == b"hello\n"
    assert result.job.owed_microusd > 0
    (lease,) = await net.buyer.leases(result.job.id)
    assert (lease.caused_by, lease.owed_microusd) == ("buyer", result.job.owed_microusd)
    assert not any((await net.buyer.balance()).reserved.values())


async def test_what_is_no_program_costs_nothing(net: Net) -> None:
    result = await net.buyer.run_wasm(b"\0asm and then nonsense", requirements=NEEDS)
    assert (result.ok, result.reason, result.job.owed_microusd) == (False, "program.invalid", 0)
    balance = await net.buyer.balance()
    assert (balance.spendable["granted"], balance.reserved["granted"]) == (net.first.granted, 0)


async def test_an_order_without_its_input_is_refused_at_the_door(net: Net) -> None:
    order = await net.order([QUICK])
    lost = msgspec.structs.replace(order, work=order.work | {"program": secrets.token_hex(32)})
    with pytest.raises(NotFound) as caught:
        await net.buyer.submit(lost)
    assert caught.value.code == "blob.missing"
    with pytest.raises(NotFound):
        await net.buyer.job(order.id)


async def test_a_buyer_without_funds_is_refused(net: Net) -> None:
    poor = await net.new_buyer(usd=0)
    order = await net.order([QUICK], client=poor.client)
    with pytest.raises(InsufficientFunds) as caught:
        await poor.client.submit(order)
    assert caught.value.code == "account.insufficient_funds"
    assert await poor.client.jobs() == []
    await net.operator.grant(poor.account, 1_000_000)
    await poor.client.submit(order)
    assert (await poor.client.wait(order.id)).state == "done"


async def test_a_budget_is_a_cap(net: Net) -> None:
    # Each lease sets 120 s aside: 240,000 micro-US-dollars. Two at a time, and a few of them altogether.
    order = await net.submit([SECOND + index for index in range(6)], budget_microusd=240_000 + 3_000)
    job = await net.finished(order.id)
    assert 0 < job.counts["done"] < 6
    assert job.counts["done"] + job.counts["failed"] == 6
    assert job.reason == "buyer.budget"
    assert job.owed_microusd <= 243_000
    assert not any((await net.buyer.balance()).reserved.values())


async def test_an_accounts_budget_bounds_jobs_and_metered_use_together(net: Net) -> None:
    """Market and settlement reserve for the same account, each in a process of its own."""
    buyer = await net.new_buyer(usd=10)
    assert (await buyer.client.set_budget(300_000)).reserved_microusd == 0
    metered = OpenSubscription(id=fresh_id(), vertical="storage", limit_microusd=200_000)
    await buyer.client.subscribe(metered)
    order = await net.order([QUICK], client=buyer.client)  # it sets 120 s aside: 240,000 micro-US-dollars
    with pytest.raises(InsufficientFunds) as caught:
        await buyer.client.submit(order)
    assert (caught.value.code, "leaves 0.1 USD" in caught.value.message) == ("account.budget", True)
    assert (await buyer.client.set_budget(440_000)).reserved_microusd == 200_000
    await buyer.client.submit(order)
    job = await buyer.client.wait(order.id)
    other = OpenSubscription(id=fresh_id(), vertical="storage", limit_microusd=240_001)
    with pytest.raises(InsufficientFunds, match="budget"):
        await buyer.client.subscribe(other)
    await buyer.client.unsubscribe(metered.id)
    shown = await buyer.client.budget()
    assert (job.state, shown.spent_microusd, shown.reserved_microusd) == ("done", job.owed_microusd, 0)


async def test_a_price_that_nobody_takes(net: Net) -> None:
    order = await net.order([QUICK], max_price_microusd_per_hour=1)
    quote = await net.buyer.quote(order)
    assert (quote.candidates, quote.price_microusd_per_hour) == ([], None)
    assert quote.why_not["price"] >= len(net.running.agents)  # those that other tests left count, too
    waiting = await net.buyer.submit(order)
    assert (waiting.state, waiting.counts["waiting"], waiting.reserved_microusd) == ("running", 1, 0)
    ended = await net.buyer.cancel(order.id)
    assert (ended.state, ended.owed_microusd) == ("cancelled", 0)
    assert (await net.buyer.balance()).spendable["granted"] == net.first.granted


async def test_secrets_go_to_proven_nodes_and_quotes_know_it(net: Net, tmp_path: Path) -> None:
    (script := tmp_path / "script.py").write_text("print(1)\n")
    async with net.agent("unproven") as agent:
        needs = msgspec.structs.replace(NEEDS, nodes_allowed=[agent.node])
        order = await net.buyer.python_order(script, requirements=needs)
        assert (await net.buyer.quote(order)).candidates
        asked = await net.buyer.quote(order, secrets=["TOKEN"])
        # Other tests may have proven some of their nodes; the others, this one among them, are turned away.
        unproven = sum(node.trust not in {"proven", "vouched"} for node in await net.buyer.nodes())
        assert (asked.candidates, asked.why_not["trust"]) == ([], unproven)
        await net.buyer.submit(order, secrets={"TOKEN": "x"})
        waits = await net.buyer.quote(order)
        assert (waits.candidates, "trust" in waits.why_not) == ([], True), "of a job that waits the market knows"
        await net.buyer.cancel(order.id)


async def test_the_same_order_twice_is_one_job(net: Net) -> None:
    order = await net.order([QUICK], on=net.running.agents[:1])
    first, second = await asyncio.gather(net.buyer.submit(order), net.buyer.submit(order))
    assert first.id == second.id
    job = await net.finished(order.id)
    assert (await net.buyer.submit(order)).state == "done", "and the same after its end"
    assert len(await net.buyer.leases(order.id)) == 1
    assert net.first.granted - (await net.buyer.balance()).spendable["granted"] == job.owed_microusd
    with pytest.raises(Conflict) as caught:
        await net.buyer.submit(msgspec.structs.replace(order, label="another"))
    assert caught.value.code == "order.id_taken"
    other = await net.new_buyer()
    for each in order.work["program"], *order.work["inputs"].values():
        await other.client.upload(await net.buyer.read(each))
    with pytest.raises(Conflict):
        await other.client.submit(order)


async def test_the_same_grant_twice_is_one(net: Net) -> None:
    grant = fresh_id()
    for _ in range(2):
        await net.operator.grant(net.first.account, 5, grant_id=grant)
    assert (await net.buyer.balance()).spendable["granted"] == net.first.granted + 5
    with pytest.raises(Conflict):
        await net.operator.grant(net.first.account, 6, grant_id=grant)


async def test_a_grant_to_an_address_that_nobody_has_is_refused(net: Net) -> None:
    with pytest.raises(NotFound) as refused:
        await net.operator.grant("0x" + "ab" * 20, 5)
    assert refused.value.code == "account.unknown"


async def test_a_cancelled_job_is_paid_up_to_then_and_its_capacity_free_at_once(net: Net) -> None:
    agent = net.running.agents[1]
    order = await net.submit([1000 * SECOND], on=[agent])
    await net.runs(order.id)
    busy = await net.node(agent)
    assert busy.free is not None
    assert busy.free.cpu_milli <= 400 - NEEDS.cpu_milli

    async def used_a_little() -> bool:
        (lease,) = await net.buyer.leases(order.id)
        return lease.started_at is not None

    await until_async(used_a_little, "it has started")
    await net.buyer.cancel(order.id)
    job = await net.finished(order.id)
    assert (job.state, job.counts["cancelled"]) == ("cancelled", 1)
    (lease,) = await net.buyer.leases(order.id)
    assert (lease.reason, lease.caused_by, lease.state) == ("buyer.cancelled", "buyer", "ended")
    assert job.owed_microusd == lease.owed_microusd <= 2000 * 120

    async def free() -> bool:
        node = await net.node(agent)
        return node.free == node.total

    await until_async(free, "its capacity is free, when the network has checked what others bought there", every=0.05)
    balance = await net.buyer.balance()
    assert (balance.reserved["granted"], net.first.granted - balance.spendable["granted"]) == (0, job.owed_microusd)
    assert (await net.buyer.run_wasm(hello(), requirements=only(agent.node))).ok
    with pytest.raises(NotFound):
        await net.buyer.cancel(order.id)


def only(node: str) -> Requirements:
    """What the tests need, on one machine."""
    return msgspec.structs.replace(NEEDS, nodes_allowed=[node])


async def test_a_map_over_many_items_on_all_machines(net: Net) -> None:
    rounds = [QUICK + index for index in range(20)]
    texts = [str(each).encode() for each in rounds]
    results = [each async for each in net.buyer.map_wasm(spin(), texts, requirements=NEEDS, ordered=True)]
    assert [result.index for result in results] == list(range(20))
    assert all(result.ok for result in results)
    for result, expected in zip(results, rounds, strict=True):
        assert await result.output("n") == spun(expected)
    job = await net.buyer.job(results[0].job_id)
    assert (job.state, job.counts["done"]) == ("done", 20)
    used = Counter(result.item.node for result in results)
    assert set(used) == {agent.node for agent in net.running.agents}, "each machine has its share"
    await check_job(net, job.id, rounds)


# Owners


async def test_a_paused_machine_gives_back_what_runs_and_takes_nothing(net: Net) -> None:
    first, other = net.running.agents[:2]
    order = await net.submit([3 * SECOND], on=[first, other], requirements=NEEDS)
    await net.runs(order.id)
    item = await net.buyer.item(order.id, 0)
    paused = first if item.node == first.node else other
    await paused.ask("pause")
    try:
        job = await net.finished(order.id)
        leases = await net.buyer.leases(order.id)
        assert job.state == "done"
        assert (leases[0].reason, leases[0].caused_by, leases[0].owed_microusd) == ("owner.paused", "owner", 0)
        assert leases[-1].node != paused.node
        assert (await net.node(paused)).state == "paused"
        quote = await net.buyer.quote(await net.order([QUICK], on=[paused]))
        assert (quote.candidates, quote.why_not["offline"] > 0) == ([], True)
        assert "paused" in " ".join(await paused.ask("why-idle"))
    finally:
        await paused.ask("resume")
    assert (await net.buyer.run_wasm(hello(), requirements=only(paused.node))).ok


async def test_a_draining_machine_finishes_what_runs(net: Net) -> None:
    agent = net.running.agents[2]
    order = await net.submit([2 * SECOND], on=[agent])
    await net.runs(order.id)
    await agent.ask("drain")
    try:
        later = await net.submit([QUICK], on=[agent])
        job = await net.finished(order.id)
        (lease,) = await net.buyer.leases(order.id)
        assert (job.state, lease.reason) == ("done", WORK_DONE)
        assert (await net.buyer.job(later.id)).state == "running"
    finally:
        await agent.ask("resume")
    assert (await net.finished(later.id)).state == "done"


async def test_a_machine_that_leaves_gives_its_work_back_and_comes_again(net: Net) -> None:
    async with net.agent("visitor") as agent:
        order = await net.submit([3 * SECOND], requirements=only(agent.node))
        await net.runs(order.id)
        left = await fallow("agent", "leave", "--home", str(agent.home), "--json")
        assert (left.code, json.loads(left.out)) == (0, {"records_waiting": 0, "lent": {}})
        assert agent.process.wait(BOUND) == 0
        leases = await net.buyer.leases(order.id)
        assert [(lease.reason, lease.caused_by, lease.owed_microusd) for lease in leases] == [
            ("owner.left", "owner", 0)
        ]
        assert (await net.buyer.job(order.id)).counts["waiting"] == 1
        # Its key stayed, and with it the node and the account that it earns for. The token may be used up by now.
        async with net.agent("visitor", token=USED_UP) as same:
            assert (same.node, same.account) == (agent.node, agent.account)
            assert (await net.finished(order.id)).state == "done"


# Who may see and do what


async def test_buyers_do_not_see_each_other(net: Net) -> None:
    order = await net.submit([QUICK])
    await net.finished(order.id)
    item = await net.buyer.item(order.id, 0)
    assert item.result is not None
    other = (await net.new_buyer()).client
    assert await other.jobs() == []
    for ask in (
        other.job(order.id),
        other.items(order.id),
        other.leases(order.id),
        other.cancel(order.id),
        anext(other.events(order.id)),
        other.read(item.result),
        other.read(order.work["program"]),
    ):
        with pytest.raises(NotFound):
            await ask
    assert (await net.buyer.job(order.id)).state == "done"


async def test_keys_that_open_nothing(net: Net) -> None:
    secret = (await net.new_buyer()).key
    kind, public, rest = secret.split("_")
    forged = f"{kind}_{public}_{rest[:-1]}{'a' if rest[-1] != 'a' else 'b'}"
    for key in (forged, f"{kind}_{public}_", f"{kind}_aaaaaaaa_{rest}", "nonsense"):
        with pytest.raises(NotAllowed) as caught:
            await (await net.client(key)).balance()
        assert caught.value.code == "auth.key"
    revoked = await net.client(secret)
    assert (await revoked.balance()).spendable["granted"] > 0
    await net.operator.revoke_key(public)
    assert [each.revoked_at is None for each in await net.operator.keys() if each.key_id == public] == [False]
    with pytest.raises(NotAllowed) as caught:
        await revoked.balance()
    assert caught.value.code == "auth.key"
    for ask in (net.buyer.ledger_check(), net.buyer.grant(net.first.account, 1), net.buyer.create_token()):
        with pytest.raises(NotAllowed) as caught:
            await ask
        assert caught.value.code == "scope.missing"
    with pytest.raises(NotAllowed):
        await net.operator.jobs()


async def test_what_makes_no_sense_is_refused_with_a_sentence(net: Net) -> None:
    order = await net.order([QUICK])
    for wrong in (
        msgspec.structs.replace(order, vertical="witchcraft"),
        msgspec.structs.replace(order, work={"kind": "wasm"}),
        msgspec.structs.replace(order, time_limit_s=0),
        msgspec.structs.replace(order, id="x"),
    ):
        with pytest.raises(InvalidInput) as caught:
            await net.buyer.submit(wrong)
        assert caught.value.message


# What is told


async def test_events_come_in_order(net: Net) -> None:
    order = await net.order([SECOND // 2 + index for index in range(3)])
    await net.buyer.submit(order)
    seen = [event async for event in net.buyer.events(order.id)]
    assert isinstance(seen[0], JobView)
    assert seen[0].state == "running"
    changes = [event for event in seen if isinstance(event, JobEvent)]
    assert [event.at for event in changes] == sorted(event.at for event in changes)
    begun = {"waiting": 0, "placed": 1, "running": 2, "checking": 3, "done": 4}
    for index in range(3):
        states = [begun[event.state] for event in changes if event.item == index]
        assert states == sorted(states)
        assert states[-1] == 4
    assert changes[-1].item is None
    assert changes[-1].state == "done"
    late = [event async for event in net.buyer.events(order.id)]
    assert [type(event) for event in late] == [JobView], "a job that has ended is told at once"


async def test_the_command_line_buys_too(net: Net, tmp_path: Path) -> None:
    program = tmp_path / "hello.wasm"
    program.write_bytes(hello())
    access = {"FALLOW_URL": net.url, "FALLOW_API_KEY": net.first.key, "XDG_CONFIG_HOME": str(tmp_path)}
    ran = await fallow("run", "--cpu", "0.1", "--memory", "64", str(program), **access)
    assert (ran.code, ran.out) == (0, "hello\n"), ran.err
    (job,) = await net.buyer.jobs()
    why = await fallow("job", "why", job.id, "--json", **access)
    assert json.loads(why.out)["job"]["state"] == "done"
    wrong = await fallow("job", "why", fresh_id(), **access)
    assert (wrong.code, "job.unknown" in wrong.err, "Traceback" in wrong.err) == (1, True, False)


async def test_the_network_tells_everybody_who_it_is(net: Net) -> None:
    async with httpx2.AsyncClient(base_url=net.url, timeout=BOUND) as nobody:
        view = (await nobody.get("/v1/network")).json()
        assert (view["net"], view["bus_url"]) == (net.running.net, net.running.place["bus_url"])
        refused = await nobody.get("/v1/account")
        assert (refused.status_code, refused.json()["code"]) == (401, "auth.missing")


async def test_the_network_sees_from_where_each_machine_connects(net: Net) -> None:
    connection = await asyncpg.connect(net.running.place["postgres_dsn"])
    try:
        rows = await connection.fetch("SELECT encode(node, 'hex') AS node, network FROM registry.connection")
    finally:
        await connection.close()
    seen = {row["node"]: row["network"] for row in rows}
    machines = {(await agent.ask("status"))["node"] for agent in net.running.agents}
    assert machines <= set(seen)
    assert len({seen[node] for node in machines}) == len(machines), "each from a line of its own"
    assert all(seen[node].startswith("127.0.") and seen[node].endswith(".0/24") for node in machines)
