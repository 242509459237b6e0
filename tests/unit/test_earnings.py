"""What an account earned and spent by the hour, from the ledger; and who may see what is a provider's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import httpx2
import pytest

from fallow.adapters.memory.database import MemoryTransaction
from fallow.adapters.memory.ledger import MemoryLedger
from fallow.domain.calls.keys import KeyInfo
from fallow.domain.calls.money import EarningsRef, SpendingRef
from fallow.domain.chart import Credit, Kind, Purpose, account_id, accounts_of, network_accounts
from fallow.domain.identity import address_text
from fallow.domain.ledger import Transfer, post_pending, transfer
from fallow.domain.views.money import EarnedView, EarningsView, SpendingView, SpentView
from fallow.services.settle import service
from fallow.services.settle.service import HOUR_MS, Settle
from tests.market_twins import Db
from tests.unit.fake_network import (
    BUYER,
    BUYER_KEY,
    OPERATOR_KEY,
    PROVIDER,
    PROVIDER_KEY,
    FakeNetwork,
    fake_network,
    lender_view,
    own_node_view,
)

OWNER = b"\x01" * 20
NOON = 500 * HOUR_MS


class Book:
    """A ledger in which the provider earns; each payment has an id of its own."""

    def __init__(self) -> None:
        self.db, self.ledger = Db(), MemoryLedger()
        anything = cast("Any", None)
        self.settle = Settle(
            bus=anything, clock=anything, database=cast("Any", self.db), ledger=self.ledger, log=anything
        )
        self._count = 0

    async def opened(self) -> Book:
        """Open the accounts that money moves between."""
        async with self.db.transaction() as tx:
            await self.ledger.open_accounts(tx, [*network_accounts(), *accounts_of(OWNER)])
        return self

    async def pay(self, amount: int, at: int, *, kind: Kind = Kind.INCOME, credit: Credit = Credit.PAID) -> None:
        """Move money into what was earned, or with PAID_OUT out of it."""
        issuer, earned = account_id(Purpose.ISSUER, credit), account_id(Purpose.EARNED, credit, OWNER)
        debit, to = (earned, issuer) if kind is Kind.PAID_OUT else (issuer, earned)
        self._count += 1
        await self._post(
            transfer(self._count.to_bytes(16), debit, to, amount, credit.value, kind.value, ref=bytes(16)), at
        )

    async def move(self, amount: int, at: int, kind: Kind, *, back: bool = False) -> None:
        """Move credits between whoever issues them and the owner's wallet."""
        issuer, wallet = account_id(Purpose.ISSUER, Credit.PAID), account_id(Purpose.WALLET, Credit.PAID, OWNER)
        debit, to = (wallet, issuer) if back else (issuer, wallet)
        self._count += 1
        made = transfer(self._count.to_bytes(16), debit, to, amount, Credit.PAID.value, kind.value, ref=bytes(16))
        await self._post(made, at)

    async def use(self, used: int, of: int, at: int) -> None:
        """Reserve `of` from the owner's wallet, and take what was used of it."""
        issuer, wallet = account_id(Purpose.ISSUER, Credit.PAID), account_id(Purpose.WALLET, Credit.PAID, OWNER)
        self._count += 2
        held, code = self._count.to_bytes(16), Kind.WINDOW.value
        await self._post(transfer(held, wallet, issuer, of, Credit.PAID.value, code, pending=True, ref=bytes(16)), at)
        await self._post(post_pending((self._count + 1).to_bytes(16), held, used), at)
        self._count += 1

    async def _post(self, made: Transfer, at: int) -> None:
        tx = MemoryTransaction()
        (result,) = await self.ledger.post(tx, [made], at)
        tx.end(commit=True)
        assert result.ok

    async def earnings(self, from_ms: int) -> EarningsView:
        """What the owner is shown."""
        return await self.settle.earnings(EarningsRef(account=address_text(OWNER), from_ms=from_ms))


@pytest.fixture
async def book() -> Book:
    return await Book().opened()


async def test_what_was_earned_is_added_up_by_the_hour_and_class(book: Book) -> None:
    await book.pay(7, NOON - 5 * HOUR_MS)
    await book.pay(100, NOON)
    await book.pay(20, NOON + HOUR_MS - 1, kind=Kind.LOST)
    await book.pay(3, NOON + 1, credit=Credit.GRANTED)
    await book.pay(50, NOON + HOUR_MS)
    await book.pay(90, NOON + HOUR_MS, kind=Kind.PAID_OUT)
    found = await book.earnings(NOON - HOUR_MS)
    assert found.hours == [
        EarnedView(at=NOON + HOUR_MS, earned={"paid": 50}),
        EarnedView(at=NOON, earned={"granted": 3, "paid": 120}),
    ]
    assert (found.whole, found.from_ms) == (True, NOON - HOUR_MS)


async def test_what_was_spent_is_what_was_used_less_what_came_back(book: Book) -> None:
    """Neither what is only set aside is spent, nor what comes in or is withdrawn."""
    await book.move(10_000, NOON - HOUR_MS, Kind.DEPOSIT)
    await book.use(70, 500, NOON - HOUR_MS)
    await book.use(30, 500, NOON)
    await book.use(5, 5, NOON + 1)
    await book.move(10, NOON + 2, Kind.REFUND)
    await book.move(900, NOON + 3, Kind.WITHDRAWAL, back=True)
    found = await book.settle.spending(SpendingRef(account=address_text(OWNER), from_ms=NOON))
    assert found == SpendingView(hours=[SpentView(at=NOON, spent={"paid": 25})], from_ms=NOON, whole=True)


async def test_where_too_much_was_paid_the_oldest_hours_are_not_said_to_be_whole(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "EARNINGS_ROWS_MAX", 2)
    for hour in range(3):
        await book.pay(1, NOON + hour * HOUR_MS)
    found = await book.earnings(NOON)
    assert [one.at for one in found.hours] == [NOON + 2 * HOUR_MS, NOON + HOUR_MS]
    assert (found.whole, found.from_ms) == (False, NOON + HOUR_MS + 1)


async def test_many_movements_are_read_in_portions_and_no_further_back_than_asked(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "EARNINGS_ROWS_READ", 2)
    for hour in range(20):
        await book.pay(1, NOON + hour * HOUR_MS)
    asked: list[int] = []
    latest = book.ledger.latest

    async def counted(tx: Any, account: bytes, before: int, limit: int) -> Any:
        rows = await latest(tx, account, before, limit)
        asked.append(len(rows))
        return rows

    monkeypatch.setattr(book.ledger, "latest", counted)
    found = await book.earnings(NOON + 17 * HOUR_MS)
    assert [one.at for one in found.hours] == [NOON + hour * HOUR_MS for hour in (19, 18, 17)]
    assert found.whole
    assert (max(asked), sum(asked)) == (2, 6)
    assert len((await book.earnings(NOON)).hours) == 20


@pytest.fixture
async def network() -> AsyncIterator[FakeNetwork]:
    async with fake_network() as made:
        made.owned = {PROVIDER: [own_node_view("01" * 32, "barn")], BUYER: [own_node_view("02" * 32, "secret")]}
        made.earned = {PROVIDER: EarningsView(hours=[EarnedView(at=0, earned={"paid": 5})], from_ms=0, whole=True)}
        yield made


async def ask(network: FakeNetwork, path: str, key: str) -> httpx2.Response:
    """Ask with a key."""
    transport = httpx2.ASGITransport(network.app)  # type: ignore[arg-type]
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as http:
        return await http.get(path)


async def test_a_provider_sees_his_own_machines_and_what_they_earned(network: FakeNetwork) -> None:
    nodes = (await ask(network, "/v1/account/nodes", PROVIDER_KEY)).json()
    assert [node["label"] for node in nodes] == ["barn"]
    after = await ask(network, f"/v1/account/nodes?after={nodes[-1]['node']}", PROVIDER_KEY)
    assert after.json() == []
    earned = (await ask(network, "/v1/account/earnings?hours=2", PROVIDER_KEY)).json()
    assert earned["hours"] == [{"at": 0, "earned": {"paid": 5}}]
    assert (await ask(network, "/v1/account", PROVIDER_KEY)).json()["account"] == PROVIDER


@pytest.mark.parametrize("path", ["/v1/account/nodes", "/v1/account/earnings", f"/v1/account/nodes/{'01' * 32}/rules"])
async def test_nobody_else_sees_what_is_a_providers(network: FakeNetwork, path: str) -> None:
    for key in (BUYER_KEY, OPERATOR_KEY):
        refused = await ask(network, path, key)
        assert (refused.status_code, refused.json()["code"]) == (403, "scope.missing")
    assert (await ask(network, path, "")).status_code == 401


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/subscriptions", "/v1/account/api-keys", "/v1/account/spending"])
async def test_who_only_provides_buys_nothing(network: FakeNetwork, path: str) -> None:
    assert (await ask(network, path, PROVIDER_KEY)).json()["code"] == "scope.missing"


async def test_who_only_looks_on_sees_the_same_and_moves_no_money(network: FakeNetwork) -> None:
    network.keys["fk_looks_on"] = KeyInfo(key_id="looks", account=PROVIDER, scopes=["provide"])
    nodes = (await ask(network, "/v1/account/nodes", "fk_looks_on")).json()
    assert [node["label"] for node in nodes] == ["barn"]
    assert (await ask(network, "/v1/session", "fk_looks_on")).json()["roles"] == ["provider"]
    transport = httpx2.ASGITransport(network.app)  # type: ignore[arg-type]
    headers = {"Authorization": "Bearer fk_looks_on"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as http:
        refused = await http.post("/v1/account/payout", json={"to": BUYER})
    assert refused.json()["code"] == "scope.missing"


async def test_a_provider_sees_what_storage_says_of_his_disks_and_nobody_elses(network: FakeNetwork) -> None:
    network.lenders = {BUYER: [lender_view()]}
    transport = httpx2.ASGITransport(network.app)  # type: ignore[arg-type]
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:

        async def asked(key: str, call: str, **body: str) -> httpx2.Response:
            path, headers = f"/v1/account/verticals/storage/{call}", {"Authorization": f"Bearer {key}"}
            return await http.post(path, json={"account": BUYER} | body, headers=headers)

        assert (await asked(PROVIDER_KEY, "lenders")).json() == []
        network.lenders[PROVIDER] = [lender_view()]
        (shown,) = (await asked(PROVIDER_KEY, "lenders")).json()
        assert (shown["statement"]["audits"], shown["lost_below_ppm"]) == (48, 960_000)
        assert (await asked(PROVIDER_KEY, "inspect")).json()["code"] == "vertical.no_call"
        assert (await asked(BUYER_KEY, "lenders")).json()["code"] == "scope.missing"


async def test_rules_are_asked_of_ones_own_machines_only_and_bad_values_stop_at_the_door(network: FakeNetwork) -> None:
    await network.enrol("01" * 32, PROVIDER)
    await network.enrol("02" * 32, BUYER)
    transport = httpx2.ASGITransport(network.app)  # type: ignore[arg-type]
    headers = {"Authorization": f"Bearer {PROVIDER_KEY}"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers) as http:

        async def refused(node: str, **rules: object) -> tuple[int, str]:
            path, asked = f"/v1/account/nodes/{node}/rules", {"id": "ab" * 16, "rules": rules}
            answer = await http.post(path, json=asked)
            return answer.status_code, answer.json()["code"]

        assert await refused("02" * 32, cpu_percent=10) == (404, "node.unknown")
        assert await refused("01" * 32, cpu_percent=0) == (400, "http.invalid")
        assert await refused("01" * 32, hours=["monday"]) == (400, "http.invalid")
        assert await refused("01" * 32, programs=["rm"]) == (400, "http.invalid")
        assert await refused("01" * 32, cpu_percent=10) == (503, "node.away")
        assert (await http.get(f"/v1/account/nodes/{'02' * 32}/rules")).status_code == 404
        log = (await http.get(f"/v1/account/nodes/{'01' * 32}/rules")).json()["log"]
    assert [(line["what"], line["key_id"]) for line in log] == [("asked", "provider")]


async def test_who_operates_has_no_purse(network: FakeNetwork) -> None:
    refused = (await ask(network, "/v1/account", OPERATOR_KEY)).json()
    assert (refused["code"], refused["hint"]) == (
        "scope.missing",
        "Use a key with the scope 'buy' or 'provide' or 'withdraw'.",
    )
