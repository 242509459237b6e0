"""The stores of ingest and of the registry: the same scenarios on PostgreSQL and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from fallow.domain.errors import Conflict
from fallow.domain.idle_rules import IdleRules
from fallow.domain.subscriptions import Price
from fallow.ports.ingest_store import BatchKey, LoggedBatch, StoredBatch, StoredOpening
from fallow.ports.registry_store import ActionRow, BanRow, FeeRow, KeyRow, NodeRow, RulesRow, TariffRow, TokenRow
from tests.contract.conftest import Stores, rolled_back

NOW = 1_700_000_000_000
ALICE, BOB = b"a" * 20, b"b" * 20
ATTIC, CELLAR = b"1" * 32, b"2" * 32
TOKEN = b"t" * 32
WRITERS = 12


def batch(node: bytes, boot: int, seq: int, records: int = 1) -> StoredBatch:
    name = b"%s/%d/%d" % (node[:1], boot, seq)
    return StoredBatch(BatchKey(node, boot, seq), 7, records, b"root " + name, b"data " + name, b"word " + name, NOW)


async def append(stores: Stores, *batches: StoredBatch, openings: Sequence[StoredOpening] = ()) -> None:
    async with stores.database.transaction() as tx:
        await stores.ingest.lock(tx)
        await stores.ingest.append(tx, batches, openings)


async def log(stores: Stores, after: int = 0, limit: int = 100) -> list[LoggedBatch]:
    async with stores.database.transaction() as tx:
        return await stores.ingest.after(tx, after, limit)


async def expected(stores: Stores, *nodes: bytes) -> dict[bytes, tuple[int, int]]:
    async with stores.database.transaction() as tx:
        return await stores.ingest.expected(tx, nodes)


# Ingest


async def test_what_was_appended_is_read_in_order(stores: Stores) -> None:
    assert await log(stores) == []
    assert await expected(stores, ATTIC) == {}
    written = [batch(ATTIC, 1, 0, 3), batch(CELLAR, 4, 0), batch(ATTIC, 1, 3), batch(ATTIC, 2, 0, 5)]
    await append(stores, *written[:2])
    assert await expected(stores, ATTIC, CELLAR, b"3" * 32) == {ATTIC: (1, 3), CELLAR: (4, 1)}
    await append(stores, *written[2:])
    assert await expected(stores, ATTIC) == {ATTIC: (2, 5)}
    assert await expected(stores) == {}
    found = await log(stores)
    assert [entry[1:] for entry in found] == [(one.key.node, one.data, NOW) for one in written]
    positions = [entry.pos for entry in found]
    assert positions == sorted(set(positions))
    assert await log(stores, positions[0], 2) == found[1:3]
    assert await log(stores, positions[-1]) == []


async def test_promises_are_found_again(stores: Stores) -> None:
    first, second = batch(ATTIC, 1, 0), batch(CELLAR, 1, 0)
    await append(stores, first, second)
    async with stores.database.transaction() as tx:
        asked = [first.key, BatchKey(ATTIC, 1, 1), BatchKey(ATTIC, 2, 0), second.key]
        assert await stores.ingest.promises(tx, asked) == {
            first.key: (first.root, first.promise),
            second.key: (second.root, second.promise),
        }
        assert await stores.ingest.promises(tx, []) == {}


async def test_a_number_is_taken_once(stores: Stores) -> None:
    opening = StoredOpening(b"r" * 32, "label", b"s" * 32, b"value", ATTIC)
    await append(stores, batch(ATTIC, 1, 0), openings=[opening])
    with pytest.raises(Conflict, match="exists already"):
        await append(stores, batch(CELLAR, 1, 0), batch(ATTIC, 1, 0))
    with pytest.raises(Conflict, match="exists already"):
        await append(stores, batch(CELLAR, 1, 0), openings=[opening._replace(value=b"other")])
    assert [entry.node for entry in await log(stores)] == [ATTIC]
    assert await expected(stores, CELLAR) == {}
    await append(stores, batch(CELLAR, 1, 0), openings=[opening._replace(field="other")])
    assert len(await log(stores)) == 2


async def test_what_is_erased_is_gone_and_does_not_come_back(stores: Stores) -> None:
    mine, other, old = (
        StoredOpening(bytes([number]) * 32, "label", b"s" * 32, b"value", subject)
        for number, subject in enumerate((ATTIC, CELLAR, b""))
    )
    await append(stores, batch(ATTIC, 1, 0), openings=[mine, other, old])
    async with stores.database.transaction() as tx:
        assert await stores.ingest.erase(tx, [b"a" * 20, ATTIC]) == 2
        assert await stores.ingest.erase(tx, [b"a" * 20, ATTIC]) == 0
    again = [one._replace(record=b"r" * 32, subject=subject) for one, subject in ((mine, ATTIC), (mine, b"a" * 20))]
    await append(stores, batch(ATTIC, 1, 1), openings=again)
    async with stores.database.transaction() as tx:
        assert await stores.ingest.erase(tx, [CELLAR, b"a" * 20, ATTIC]) == 1


async def test_a_rollback_leaves_nothing_of_a_batch(stores: Stores) -> None:
    opening = StoredOpening(b"r" * 32, "label", b"s" * 32, b"value", ATTIC)
    await append(stores, batch(ATTIC, 1, 0))
    async with rolled_back(stores) as tx:
        await stores.ingest.append(tx, [batch(ATTIC, 1, 1), batch(CELLAR, 1, 0)], [opening])
    assert len(await log(stores)) == 1
    assert await expected(stores, ATTIC, CELLAR) == {ATTIC: (1, 1)}
    await append(stores, batch(ATTIC, 1, 1), batch(CELLAR, 1, 0), openings=[opening])
    assert len(await log(stores)) == 3


async def test_positions_appear_in_order_whoever_writes(stores: Stores) -> None:
    """A reader that goes on after the last position it saw misses nothing."""
    seen: list[LoggedBatch] = []

    async def write(number: int) -> None:
        for seq in range(5):
            async with stores.database.transaction() as tx:
                await stores.ingest.lock(tx)
                await stores.ingest.append(tx, [batch(bytes([number]) * 32, 1, seq)], [])
            async with rolled_back(stores) as tx:
                await stores.ingest.lock(tx)
                await stores.ingest.append(tx, [batch(bytes([number]) * 32, 1, seq + 1)], [])

    async def read() -> None:
        while len(seen) < WRITERS * 5:
            seen.extend(await log(stores, seen[-1].pos if seen else 0, 7))
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        for number in range(WRITERS):
            group.create_task(write(number))
    assert seen == await log(stores)


@pytest.mark.parametrize("change", ["UPDATE ingest.batch SET node = ''", "DELETE FROM ingest.batch", "TRUNCATE %s"])
async def test_postgres_refuses_to_change_what_was_signed(postgres_stores: Stores, change: str) -> None:
    await append(postgres_stores, batch(ATTIC, 1, 0))
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        async with postgres_stores.database.transaction() as tx:
            await tx.execute(change.replace("%s", "ingest.batch"))
    assert len(await log(postgres_stores)) == 1


# Registry


async def test_accounts_and_their_custody(stores: Stores) -> None:
    async with stores.database.transaction() as tx:
        indexes = [await stores.registry.next_custody_index(tx) for _ in range(2)]
        await stores.registry.add_account(tx, ALICE, indexes[1], NOW)
        await stores.registry.add_account(tx, BOB, None, NOW)
    async with stores.database.transaction() as tx:
        assert await stores.registry.custody_index(tx, ALICE) == indexes[1]
        assert await stores.registry.custody_index(tx, BOB) is None
        assert await stores.registry.has_account(tx, BOB)
        assert not await stores.registry.has_account(tx, b"c" * 20)
        assert await stores.registry.custody_index(tx, b"c" * 20) is None
    for account, index in ((ALICE, None), (b"c" * 20, indexes[1])):
        with pytest.raises(Conflict, match="exists already"):
            async with stores.database.transaction() as tx:
                await stores.registry.add_account(tx, account, index, NOW)
    async with rolled_back(stores) as tx:
        indexes.append(await stores.registry.next_custody_index(tx))
        await stores.registry.add_account(tx, b"c" * 20, indexes[-1], NOW)
    async with stores.database.transaction() as tx:
        assert not await stores.registry.has_account(tx, b"c" * 20)
        assert await stores.registry.next_custody_index(tx) not in indexes
    assert len(set(indexes)) == 3


async def test_where_nodes_connect_from(stores: Stores) -> None:
    async with stores.database.transaction() as tx:
        await stores.registry.add_account(tx, ALICE, None, NOW)
        await stores.registry.add_node(tx, NodeRow(ATTIC, ALICE, "attic", NOW, ""))
        assert await stores.registry.networks(tx) == {}
    for network, moved in (("192.0.2.0/24", True), ("192.0.2.0/24", False), ("2001:db8::/64", True), ("", True)):
        async with stores.database.transaction() as tx:
            assert await stores.registry.observe(tx, ATTIC, network, NOW) is moved
        async with stores.database.transaction() as tx:
            assert await stores.registry.networks(tx) == await stores.registry.networks(tx, [ATTIC]) == {ATTIC: network}
            assert await stores.registry.networks(tx, [CELLAR]) == {}
    async with rolled_back(stores) as tx:
        await stores.registry.observe(tx, ATTIC, "198.51.100.0/24", NOW)
    async with stores.database.transaction() as tx:
        assert await stores.registry.networks(tx) == {ATTIC: ""}


async def test_where_clients_come_from_is_kept_for_a_while(stores: Stores) -> None:
    async with stores.database.transaction() as tx:
        await stores.registry.add_tunnel(tx, "one", "192.0.2.0/24", NOW, NOW - 60)
        await stores.registry.add_tunnel(tx, "one", "198.51.100.0/24", NOW + 1, NOW - 59)
        await stores.registry.add_tunnel(tx, "two", "", NOW + 2, NOW - 58)
    async with stores.database.transaction() as tx:
        found = [await stores.registry.tunnel(tx, nonce) for nonce in ("one", "two", "three")]
        assert found == ["198.51.100.0/24", "", None]
        await stores.registry.add_tunnel(tx, "three", "192.0.2.0/24", NOW + 60, NOW + 2)
        assert await stores.registry.tunnel(tx, "one") is None
        assert await stores.registry.tunnel(tx, "two") == ""


async def test_nodes(stores: Stores) -> None:
    rows = [NodeRow(CELLAR, ALICE, "cellar", NOW, ""), NodeRow(ATTIC, ALICE, "Dach ✓", NOW + 1, "spam")]
    async with stores.database.transaction() as tx:
        await stores.registry.add_account(tx, ALICE, None, NOW)
        for row in reversed(rows):
            await stores.registry.add_node(tx, row)
    async with stores.database.transaction() as tx:
        assert await stores.registry.node(tx, ATTIC) == rows[1]
        assert await stores.registry.node(tx, b"3" * 32) is None
        assert await stores.registry.nodes(tx) == rows
        assert await stores.registry.nodes(tx, [b"3" * 32, ATTIC]) == rows[1:]
        assert await stores.registry.nodes(tx, []) == []
        assert await stores.registry.enrolled(tx, b"", 10) == [rows[1], rows[0]], "by id"
        assert await stores.registry.enrolled(tx, b"", 1) == [rows[1]]
        assert await stores.registry.enrolled(tx, ATTIC, 10) == [rows[0]]
        assert await stores.registry.enrolled(tx, CELLAR, 10) == []
        for row in rows:
            mine = [one for one in (rows[1], rows[0]) if one.account == row.account]
            assert await stores.registry.nodes_of(tx, row.account, b"", 10) == mine
            assert await stores.registry.nodes_of(tx, row.account, mine[0].node, 10) == mine[1:]
            assert await stores.registry.nodes_of(tx, row.account, b"", 1) == mine[:1]
        assert await stores.registry.nodes_of(tx, b"x" * 20, b"", 10) == []
    with pytest.raises(Conflict, match="exists already"):
        async with stores.database.transaction() as tx:
            await stores.registry.add_node(tx, rows[0]._replace(label="other"))
    with pytest.raises((LookupError, asyncpg.ForeignKeyViolationError)):
        async with stores.database.transaction() as tx:
            await stores.registry.add_node(tx, NodeRow(b"3" * 32, BOB, "", NOW, ""))
    async with stores.database.transaction() as tx:
        assert await stores.registry.nodes(tx) == rows


async def test_what_was_said_of_the_fee_is_kept_in_its_order_and_each_number_and_id_once(stores: Stores) -> None:
    first = FeeRow(0, "1" * 32, NOW, ALICE, "k1", NOW + 5, 80_000, 200_000)
    second = FeeRow(1, "2" * 32, NOW + 1, BOB, "k2", NOW + 1, 0, 1_000_000)
    async with rolled_back(stores) as tx:
        assert await stores.registry.add_fee(tx, first)
    for row in (first, second):
        async with stores.database.transaction() as tx:
            assert await stores.registry.add_fee(tx, row)
    async with stores.database.transaction() as tx:
        assert not await stores.registry.add_fee(tx, second._replace(id="3" * 32)), "somebody was faster"
        assert not await stores.registry.add_fee(tx, second._replace(pos=2))
        assert await stores.registry.fees(tx) == [first, second]


@pytest.mark.parametrize("change", ["UPDATE registry.fee SET fee_ppm = 1", "DELETE FROM registry.fee"])
async def test_what_was_said_of_the_fee_is_never_changed(postgres_stores: Stores, change: str) -> None:
    row = FeeRow(0, "1" * 32, NOW, ALICE, "k1", NOW, 80_000, 200_000)
    async with postgres_stores.database.transaction() as tx:
        await postgres_stores.registry.add_fee(tx, row)
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        async with postgres_stores.database.transaction() as tx:
            await tx.execute(change)
    async with postgres_stores.database.transaction() as tx:
        assert await postgres_stores.registry.fees(tx) == [row]


async def test_what_was_said_of_tariffs_is_kept_in_its_order_and_each_number_and_id_once(stores: Stores) -> None:
    tariff = {"bytes": Price(microusd=7, per=1 << 62), "reads": Price(microusd=0)}
    first = TariffRow(0, "1" * 32, NOW, ALICE, "k1", NOW + 5, "storage", tariff)
    second = TariffRow(1, "2" * 32, NOW + 1, BOB, "k2", NOW + 1, "links", {"bytes": Price(microusd=1)})
    async with rolled_back(stores) as tx:
        assert await stores.registry.add_tariff(tx, first)
    for row in (first, second):
        async with stores.database.transaction() as tx:
            assert await stores.registry.add_tariff(tx, row)
    async with stores.database.transaction() as tx:
        assert not await stores.registry.add_tariff(tx, second._replace(id="3" * 32)), "somebody was faster"
        assert not await stores.registry.add_tariff(tx, second._replace(pos=2))
        assert await stores.registry.tariffs(tx) == [first, second]


@pytest.mark.parametrize("change", ["UPDATE registry.tariff SET tariff = '{}'", "DELETE FROM registry.tariff"])
async def test_what_was_said_of_tariffs_is_never_changed(postgres_stores: Stores, change: str) -> None:
    row = TariffRow(0, "1" * 32, NOW, ALICE, "k1", NOW, "storage", {"bytes": Price(microusd=1)})
    async with postgres_stores.database.transaction() as tx:
        await postgres_stores.registry.add_tariff(tx, row)
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        async with postgres_stores.database.transaction() as tx:
            await tx.execute(change)
    async with postgres_stores.database.transaction() as tx:
        assert await postgres_stores.registry.tariffs(tx) == [row]


async def test_an_account_is_vouched_for_with_all_of_its_nodes(stores: Stores) -> None:
    attic, cellar = NodeRow(ATTIC, ALICE, "", NOW, ""), NodeRow(CELLAR, BOB, "", NOW, "")
    async with stores.database.transaction() as tx:
        for account, row in ((ALICE, attic), (BOB, cellar)):
            await stores.registry.add_account(tx, account, None, NOW)
            await stores.registry.add_node(tx, row)
    async with rolled_back(stores) as tx:
        assert await stores.registry.set_vouched(tx, BOB, "contract")
    async with stores.database.transaction() as tx:
        assert await stores.registry.vouched(tx) == frozenset()
        assert await stores.registry.set_vouched(tx, ALICE, "contract")
        assert not await stores.registry.set_vouched(tx, b"c" * 20, "contract")
    async with stores.database.transaction() as tx:
        assert await stores.registry.vouched(tx) == {ALICE}
        assert await stores.registry.enrolled(tx, b"", 9) == [attic._replace(vouched_reason="contract"), cellar]
        assert await stores.registry.set_vouched(tx, ALICE, "")
    async with stores.database.transaction() as tx:
        assert await stores.registry.vouched(tx) == frozenset()


async def test_a_ban_is_of_a_node_or_of_an_account_with_its_nodes(stores: Stores) -> None:
    attic, cellar = NodeRow(ATTIC, ALICE, "", NOW, ""), NodeRow(CELLAR, BOB, "", NOW, "")
    async with stores.database.transaction() as tx:
        for account, row in ((ALICE, attic), (BOB, cellar)):
            await stores.registry.add_account(tx, account, None, NOW)
            await stores.registry.add_node(tx, row)
        assert await stores.registry.banned(tx) == frozenset()
    async with rolled_back(stores) as tx:
        assert await stores.registry.set_ban(tx, ATTIC, "spam")
    async with stores.database.transaction() as tx:
        assert await stores.registry.set_ban(tx, ATTIC, "spam")
        assert await stores.registry.set_ban(tx, BOB, "fraud")
        for unknown in (b"3" * 32, b"c" * 20):
            assert not await stores.registry.set_ban(tx, unknown, "spam")
    banned = [attic._replace(banned_reason="spam"), cellar._replace(banned_reason="fraud")]
    async with stores.database.transaction() as tx:
        assert await stores.registry.banned(tx) == {ATTIC, BOB}
        bans = sorted([BanRow(ATTIC, "spam"), BanRow(BOB, "fraud")])
        assert await stores.registry.bans(tx, b"", 9) == bans
        assert await stores.registry.bans(tx, b"", 1) == bans[:1]
        assert await stores.registry.bans(tx, bans[0].subject, 9) == bans[1:]
        assert await stores.registry.nodes(tx) == banned
        assert await stores.registry.node(tx, CELLAR) == banned[1]
        assert [await stores.registry.ban_reason(tx, account) for account in (ALICE, BOB, b"c" * 20)] == [
            "",
            "fraud",
            "",
        ]
    async with stores.database.transaction() as tx:
        assert await stores.registry.set_ban(tx, CELLAR, "own")
        assert await stores.registry.set_ban(tx, BOB, "")
        assert await stores.registry.set_ban(tx, ATTIC, "")
    async with stores.database.transaction() as tx:
        assert await stores.registry.banned(tx) == {CELLAR}
        assert await stores.registry.nodes(tx) == [attic, cellar._replace(banned_reason="own")]


async def test_actions_are_kept_in_order_and_once(stores: Stores) -> None:
    rows = [ActionRow(f"{number:032x}", NOW, ALICE, "key", "ban", ATTIC, f"because {number}") for number in range(5)]
    rows[2] = rows[2]._replace(what="token.make", subject=b"", reason="", about="ab12")
    async with stores.database.transaction() as tx:
        assert [await stores.registry.add_action(tx, row) for row in rows] == [True] * 5
    async with rolled_back(stores) as tx:
        assert await stores.registry.add_action(tx, rows[0]._replace(id="f" * 32))
    async with stores.database.transaction() as tx:
        assert not await stores.registry.add_action(tx, rows[1]._replace(reason="other"))
        assert await stores.registry.action(tx, rows[1].id) == rows[1]
        assert await stores.registry.action(tx, "f" * 32) is None
        assert await stores.registry.actions(tx, "", 2) == [rows[4], rows[3]]
        assert await stores.registry.actions(tx, rows[3].id, 10) == [rows[2], rows[1], rows[0]]
        assert await stores.registry.actions(tx, rows[0].id, 10) == []
        assert await stores.registry.actions(tx, "f" * 32, 10) == []


@pytest.mark.parametrize("change", ["UPDATE %s SET reason = ''", "DELETE FROM %s", "TRUNCATE %s"])
async def test_postgres_refuses_to_change_what_was_done(postgres_stores: Stores, change: str) -> None:
    row = ActionRow("1" * 32, NOW, ALICE, "key", "ban", ATTIC, "spam")
    async with postgres_stores.database.transaction() as tx:
        await postgres_stores.registry.add_action(tx, row)
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        async with postgres_stores.database.transaction() as tx:
            await tx.execute(change.replace("%s", "registry.action"))
    async with postgres_stores.database.transaction() as tx:
        assert await postgres_stores.registry.actions(tx, "", 10) == [row]


async def test_what_is_asked_of_a_node_is_kept_until_its_account_is_erased(stores: Stores) -> None:
    rules = IdleRules(cpu_percent=25, hours=("daily 01:00-06:00",), price_usd_per_core_hour=0.015)
    asked = RulesRow("1" * 32, NOW, ATTIC, ALICE, "key", "asked", "", rules)
    refused = asked._replace(at=NOW + 1, what="refused", code="agent.console_off")
    other = RulesRow("2" * 32, NOW, CELLAR, BOB, "", "asked", "", IdleRules())
    async with stores.database.transaction() as tx:
        for account in (ALICE, BOB):
            await stores.registry.add_account(tx, account, None, NOW)
        assert [await stores.registry.add_rules(tx, row) for row in (asked, refused, other)] == [True] * 3
        assert not await stores.registry.add_rules(tx, asked._replace(at=NOW + 2))
        assert await stores.registry.rules_asked(tx, "1" * 32) == asked
        assert await stores.registry.rules_asked(tx, "3" * 32) is None
        assert await stores.registry.rules_log(tx, ATTIC, 10) == [refused, asked]
        assert await stores.registry.rules_log(tx, ATTIC, 1) == [refused]
        assert await stores.registry.erase(tx, ALICE, NOW)
        assert await stores.registry.rules_log(tx, ATTIC, 10) == []
        assert await stores.registry.rules_log(tx, CELLAR, 10) == [other]


@pytest.mark.parametrize("change", ["UPDATE %s SET code = ''", "TRUNCATE %s"])
async def test_postgres_refuses_to_change_what_was_asked(postgres_stores: Stores, change: str) -> None:
    row = RulesRow("1" * 32, NOW, ATTIC, ALICE, "key", "asked", "", IdleRules())
    async with postgres_stores.database.transaction() as tx:
        await postgres_stores.registry.add_rules(tx, row)
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        async with postgres_stores.database.transaction() as tx:
            await tx.execute(change.replace("%s", "registry.rules"))


async def use(stores: Stores, now: int = NOW, digest: bytes = TOKEN) -> str:
    async with stores.database.transaction() as tx:
        return await stores.registry.use_token(tx, digest, now)


async def test_a_token_works_so_often_and_so_long(stores: Stores) -> None:
    async with stores.database.transaction() as tx:
        await stores.registry.add_token(tx, TOKEN, 3, NOW + 10)
    async with rolled_back(stores) as tx:
        assert await stores.registry.use_token(tx, TOKEN, NOW) == ""
    assert await use(stores, digest=b"u" * 32) == "unknown"
    assert await use(stores, NOW + 10) == "expired"
    async with stores.database.transaction() as tx:  # twice in one transaction counts twice
        assert [await stores.registry.use_token(tx, TOKEN, NOW + 9) for _ in range(2)] == ["", ""]
    assert [await use(stores, NOW + 9) for _ in range(2)] == ["", "used_up"]
    with pytest.raises(Conflict, match="exists already"):
        async with stores.database.transaction() as tx:
            await stores.registry.add_token(tx, TOKEN, 5, NOW)


async def test_the_last_use_goes_to_one_of_those_who_want_it(stores: Stores) -> None:
    async with stores.database.transaction() as tx:
        await stores.registry.add_token(tx, TOKEN, 3, NOW + 10)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(use(stores)) for _ in range(WRITERS)]
    assert sorted(task.result() for task in tasks) == ["", "", "", *["used_up"] * (WRITERS - 3)]


async def test_keys(stores: Stores) -> None:
    row = KeyRow("abc", b"d" * 32, ALICE, ("buy", "operate"), "laptop", None)
    async with stores.database.transaction() as tx:
        await stores.registry.add_account(tx, ALICE, None, NOW)
        await stores.registry.add_key(tx, row)
        await stores.registry.add_key(tx, row._replace(key_id="old", revoked_at=5))
    with pytest.raises(Conflict, match="exists already"):
        async with stores.database.transaction() as tx:
            await stores.registry.add_key(tx, row)
    with pytest.raises((LookupError, asyncpg.ForeignKeyViolationError)):
        async with stores.database.transaction() as tx:
            await stores.registry.add_key(tx, row._replace(key_id="bobs", account=BOB))
    async with rolled_back(stores) as tx:
        await stores.registry.revoke_key(tx, "abc", NOW)
    async with stores.database.transaction() as tx:
        assert await stores.registry.key(tx, "abc") == row
        assert await stores.registry.key(tx, "none") is None
        assert not await stores.registry.revoke_key(tx, "none", NOW)
        assert await stores.registry.revoke_key(tx, "abc", NOW)
        assert await stores.registry.revoke_key(tx, "abc", NOW + 1)
        assert await stores.registry.revoke_key(tx, "old", NOW)
        assert await stores.registry.key(tx, "abc") == row._replace(revoked_at=NOW)
        assert await stores.registry.key(tx, "old") == row._replace(key_id="old", revoked_at=5)
        assert [each.key_id for each in await stores.registry.keys(tx, "", 10)] == ["abc", "old"]
        assert [each.key_id for each in await stores.registry.keys(tx, "", 1)] == ["abc"]
        assert [each.key_id for each in await stores.registry.keys(tx, "abc", 10)] == ["old"]


async def test_tokens_that_still_let_somebody_in(stores: Stores) -> None:
    used_up, over, twin = b"u" * 32, b"o" * 32, TOKEN[:31] + b"!"
    async with stores.database.transaction() as tx:
        for digest, uses, ends in ((TOKEN, 3, NOW + 10), (twin, 1, NOW + 20), (used_up, 0, NOW + 5), (over, 1, NOW)):
            await stores.registry.add_token(tx, digest, uses, ends)
        open_ones = [TokenRow(twin, 1, NOW + 20), TokenRow(TOKEN, 3, NOW + 10)]
        assert await stores.registry.tokens(tx, NOW, 10) == open_ones
        assert await stores.registry.tokens(tx, NOW, 1) == open_ones[:1]
        assert not await stores.registry.revoke_token(tx, TOKEN[:4]), "two begin so"
        assert not await stores.registry.revoke_token(tx, b"none")
        assert await stores.registry.revoke_token(tx, TOKEN)
        assert await stores.registry.tokens(tx, NOW, 10) == open_ones[:1]
        assert await stores.registry.use_token(tx, TOKEN, NOW) == "used_up"
