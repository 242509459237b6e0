"""Paid credits of a real network, from the deposit to what a root owes, audited while they move."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fallow.domain.chart import Credit, Purpose
from fallow.domain.views import AuditView
from tests.network import Net, fallow, network, until_async
from tests.programs import SECOND

pytestmark = pytest.mark.timeout(300)


class Buyer:
    """Somebody at a shell, with a wallet of his own and paid credits alone."""

    def __init__(self, net: Net, key: str, wallet: Path) -> None:
        self._variables = {"FALLOW_URL": net.running.url, "FALLOW_API_KEY": key, "FALLOW_ACCOUNT_KEY": str(wallet)}

    async def typed(self, *words: str | Path) -> Any:
        """What a command answers."""
        said = await fallow(*words, "--json", **self._variables)
        assert said.code == 0, said.err
        return json.loads(said.out)

    async def refused(self, *words: str) -> str:
        """Why a command failed."""
        said = await fallow(*words, **self._variables)
        assert said.code == 1, said.out
        return said.err


async def audited(net: Net) -> AuditView:
    """An audit that finds nothing."""
    view = await net.operator.audit()
    assert (view.ok, view.differences, view.trouble) == (True, [], "")
    assert view.held is not None
    assert view.claimed is not None
    assert view.circulation + view.owed == view.deposited
    assert view.circulation + view.owed - view.claimed == view.held
    return view


async def closed(net: Net) -> None:
    """Close the open epoch, and wait until what it owes has left the ledger."""
    before = await net.operator.epochs(limit=1)
    epoch = await net.operator.closed_epoch(
        (await net.operator.end_epoch(after=before[0].epoch if before else None)).epoch
    )

    async def paid_out() -> bool:
        return bool(await net.fetch("SELECT 1 FROM settle.paid_out WHERE epoch = $1", epoch.epoch))

    await until_async(paid_out, "what the epoch owes has left the ledger")


async def earned(net: Net) -> int:
    """Paid credits that providers have and no closed epoch."""
    (row,) = await net.fetch(
        "SELECT coalesce(sum(credits_posted - debits_posted), 0)::bigint AS amount FROM ledger.account"
        " WHERE code = $1 AND ledger = $2",
        Purpose.EARNED.value,
        Credit.PAID.value,
    )
    return int(row["amount"])


async def planted(net: Net, query: str, undo: str) -> set[str]:
    """Codes of what an audit finds while something is wrong; a shell sees it by the exit code."""
    await net.fetch(query)
    said = await fallow(
        "ledger",
        "audit",
        "--json",
        FALLOW_URL=net.running.url,
        FALLOW_API_KEY=net.running.welcome["operator_key"],
    )
    await net.fetch(undo)
    assert said.code == 1, said.err
    return {one["code"] for one in json.loads(said.out)["differences"]}


async def test_a_dollar_is_in_one_place_from_the_deposit_to_the_root(tmp_path: Path) -> None:
    async with network(preset="public", chain_port="0", activation_s="0") as net, net.agent("barn"):
        secret = await net.operator.create_key(scopes=("buy", "withdraw"))
        buyer = Buyer(net, secret.secret, tmp_path / "account.key")
        account = (await buyer.typed("wallet", "new"))["account"]
        await buyer.typed("chain", "give", account, "20", "--id", "gift", "--data", net.data)
        await buyer.typed("wallet", "deposit", "10", "--id", "first")
        client = await net.client(secret.secret)

        async def credited() -> bool:
            return (await client.balance()).spendable["paid"] == 10_000_000

        await until_async(credited, "the deposit is credits")
        await audited(net)
        assert "withdraw.funds" in await buyer.refused("wallet", "withdraw", "10.01")

        order = await net.submit([SECOND // 10, SECOND // 10], client=client)
        await audited(net)
        first = await buyer.typed("wallet", "withdraw", "4", "--id", "ab" * 16)
        assert await buyer.typed("wallet", "withdraw", "4", "--id", "ab" * 16) == first
        assert first["to"] == account
        await audited(net)

        async def done() -> bool:
            return (await client.job(order.id)).state == "done"

        await until_async(done, "the work is done")
        await net.at_rest()
        income = await earned(net)
        assert income > 0
        await closed(net)
        await closed(net)  # what was sealed a moment too late for the first
        assert await earned(net) == 0
        view = await audited(net)
        assert (view.deposited, view.owed) == (10_000_000, 4_000_000 + income)
        statement = await client.statement()
        assert [line.amount_microusd for line in statement if line.kind == "withdrawal"] == [-4_000_000]

        async def claimed() -> bool:
            return bool((await buyer.typed("claim", "--all"))["transactions"])

        await until_async(claimed, "the root is on the chain, and what was withdrawn is claimed")

        async def claim_is_seen() -> bool:
            return (await audited(net)).claimed == 4_000_000

        await until_async(claim_is_seen, "the audit sees the claim")
        assert (await buyer.typed("wallet", "balance"))["settlement_units"] == "14000000"

        shown = await buyer.typed("account", "payout", account, "--custodial")
        assert (shown["paid_to"], shown["pending"]) == (secret.account, account), "the network keeps that account's key"
        assert await buyer.typed("account", "payout", "--custodial") == shown
        assert "account.unknown" in await buyer.refused("account", "payout", secret.account)

        grown = "UPDATE ledger.account SET credits_posted = credits_posted {} WHERE code = 5 AND ledger = 2"
        assert await planted(net, grown.format("+ 1"), grown.format("- 1")) == {
            "ledger.balance_differs",
            "ledger.debits_differ_from_credits",
        }
        await audited(net)
