"""Paid credits of a real network, from the deposit to what a root owes, audited while they move."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

from playwright.async_api import Page, Route, expect

from fallow.adapters.signer import FileSigner
from fallow.domain.chart import Credit, Purpose
from fallow.domain.identity import address
from fallow.domain.transactions import call_data
from fallow.domain.views.audits import AuditView
from tests.browser import PHONE, browser, tab
from tests.browser_wallet import BrowserWallet, Chain
from tests.integration.test_console_buyer import enter, usable
from tests.integration.test_validators import all_is_sealed
from tests.network import Net, fallow, network, until_async
from tests.programs import SECOND


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


async def deposited(net: Net, page: Page, wallet: BrowserWallet, owner: str) -> None:
    """Deposit 10 USD in the console, by a wallet that knows another chain, declines once, and has 20."""
    view = await net.operator.network()
    assert view.contracts is not None
    await page.get_by_role("button", name="Connect your wallet").click()
    await expect(page.get_by_text(f"this network settles on chain {view.chain_id}")).to_be_visible()
    await page.get_by_role("button", name=f"Change the wallet to chain {view.chain_id}").click()
    part = page.get_by_role("region", name="Deposit")
    await part.get_by_label("Amount (USD)").fill("20.01")
    await part.get_by_role("button", name="See what is signed").click()
    await expect(part.get_by_role("alert")).to_contain_text("Your wallet has only 20.00 USD")
    await part.get_by_label("Amount (USD)").fill("10")
    await part.get_by_role("button", name="See what is signed").click()
    lets, puts = part.get_by_role("listitem").nth(0), part.get_by_role("listitem").nth(1)
    await expect(lets).to_contain_text("take 10.00 USD of the settlement asset, and no more")
    await expect(lets).to_contain_text(view.contracts.settlement)
    await expect(puts).to_contain_text(view.contracts.distributor)
    await expect(part).to_contain_text(f"{view.chain_id} · The network runs this chain itself")
    await usable(page, "network-deposit")
    assert wallet.signed == []
    wallet.declines = True
    await part.get_by_role("button", name="Sign in your wallet").click()
    await expect(part.get_by_role("alert")).to_contain_text("You declined it in the wallet.")
    unseen = "**/v1/account/statement?*"
    await page.route(unseen, lambda route: route.fulfill(json=[]))
    await part.get_by_role("button", name="Sign in your wallet").click()
    await expect(part.get_by_text("10.00 USD are on their way")).to_be_visible()
    await page.unroute(unseen)
    await page.reload()
    await expect(part.get_by_text("10.00 USD are paid credits now")).to_be_visible()
    assert [(one.to, one.data) for one in wallet.signed] == [
        (
            address(view.contracts.settlement),
            call_data("approve(address,uint256)", address(view.contracts.distributor), 10_000_000),
        ),
        (address(view.contracts.distributor), call_data("deposit(address,uint256)", address(owner), 10_000_000)),
    ]
    await expect(page.locator(".purse")).to_contain_text("10.00 USD")


async def claimed(page: Page, wallet: BrowserWallet) -> None:
    """Claim 4 USD in the console, on a phone and in Japanese; a proof that does not hold has nothing signed."""

    async def false(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(response=answer, json=[one | {"cumulative": "9000000"} for one in await answer.json()])

    before = len(wallet.signed)
    await page.route("**/proofs/*", false)
    await page.reload()
    part = page.get_by_role("region", name="Claim", exact=True)
    await expect(part.get_by_role("alert").filter(has_text="claim.proof").first).to_be_visible()
    await page.unroute("**/proofs/*")
    await page.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
    await page.get_by_role("button", name="日本語").click()
    await page.reload()
    part = page.get_by_role("region", name="受け取り", exact=True)
    await part.get_by_role("button", name="4.00 USD を受け取る").click()
    await usable(page, "network-claim-phone-ja")
    assert len(wallet.signed) == before
    await part.get_by_role("button", name="ウォレットで署名").click()
    await expect(part.get_by_text("支払われました。")).to_be_visible()
    await expect(part.get_by_role("row", name=re.compile("決済資産")).last).to_contain_text("0.00 USD4.00 USD")
    await expect(part.get_by_role("button", name="を受け取る")).to_have_count(0)


async def claimed_for_machine(net: Net, page: Page, owner: str, wallet: str) -> None:
    """Claim what a machine's account earned, whose key the network keeps: it is paid to whom its earnings go."""
    key = (await net.operator.create_key(account=owner, scopes=("provide", "withdraw"))).secret
    await page.goto("/provider")
    await enter(page, key)
    part = page.get_by_role("region", name="Claim", exact=True)
    await part.get_by_role("button", name="Claim").click()
    await expect(part.get_by_role("alert").filter(has_text="claim.no_payout")).to_be_visible()
    machine = Buyer(net, key, Path())
    await machine.typed("account", "payout", wallet, "--custodial")
    await net.fetch("UPDATE registry.payee SET effective_at = 1 WHERE pending = $1", address(wallet))  # 72 hours later
    await part.get_by_role("button", name="Claim").click()
    await expect(part.get_by_role("listitem")).to_contain_text(f"to account {wallet}")
    await part.get_by_role("button", name="Sign in your wallet").click()
    await expect(part.get_by_text("It is paid.")).to_be_visible()


async def test_a_dollar_is_in_one_place_from_the_deposit_to_the_root(tmp_path: Path) -> None:
    async with (
        network(preset="public", chain_port="0", activation_s="0") as net,
        net.agent("barn") as barn,
        browser() as running,
        tab(running, net.url) as page,
    ):
        secret = await net.operator.create_key(scopes=("buy", "withdraw"))
        buyer = Buyer(net, secret.secret, tmp_path / "account.key")
        account = (await buyer.typed("wallet", "new"))["account"]
        await buyer.typed("chain", "give", account, "20", "--id", "gift", "--data", net.data)
        client, chain = await net.client(secret.secret), await net.operator.network()
        wallet = BrowserWallet(FileSigner(tmp_path / "account.key"), Chain(chain.chain_id, chain.chain_url))
        await wallet.put_into(page)
        await page.goto("/account")
        await enter(page, secret.secret)
        await deposited(net, page, wallet, secret.account)
        assert (await client.balance()).spendable["paid"] == 10_000_000
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
        await until_async(partial(all_is_sealed, net), "what was decided is among the records")
        await closed(net)
        assert await earned(net) == 0
        view = await audited(net)
        assert (view.deposited, view.owed) == (10_000_000, 4_000_000 + income)
        statement = await client.statement()
        assert [line.amount_microusd for line in statement if line.kind == "withdrawal"] == [-4_000_000]

        async def active() -> bool:
            (owed,) = (await buyer.typed("claim"))["accounts"]
            return bool(owed["assets"][0]["claimable"] == "4000000")

        await until_async(active, "the root is on the chain")
        await claimed(page, wallet)

        async def claim_is_seen() -> bool:
            return (await audited(net)).claimed == 4_000_000

        await until_async(claim_is_seen, "the audit sees the claim")
        assert (await buyer.typed("wallet", "balance"))["settlement_units"] == "14000000"

        async with tab(running, net.url) as other:
            await wallet.put_into(other)
            await claimed_for_machine(net, other, barn.account, account)
        assert (await buyer.typed("wallet", "balance"))["settlement_units"] == str(14_000_000 + income)

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
