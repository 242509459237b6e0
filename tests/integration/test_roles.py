"""Roles in other arrangements: several copies at once, each in a process of its own, PostgreSQL elsewhere."""

from __future__ import annotations

import signal
from functools import partial

import pytest

from fallow import AsyncClient
from fallow.bootstrap.settings import CORE
from fallow.domain.errors import Unavailable
from tests.network import BOUND, Agent, Net, check_books, check_job, fallow, network, signal_all, until_async
from tests.programs import SECOND, spun
from tests.scraping import running, scrape

MANY = [SECOND // 50 + index for index in range(30)]


async def leader(net: Net) -> tuple[str, int]:
    """Which market acts, and in which term."""
    (row,) = await net.fetch("SELECT holder, term FROM market.leader")
    return row["holder"], row["term"]


async def all_told(net: Net) -> bool:
    """Whether a scrape shows one process for each role."""
    return running(await scrape(net)) == dict.fromkeys((*CORE, "gateway", "s3"), 1)


async def test_postgresql_may_be_elsewhere(postgres_dsn: str) -> None:
    async with network(postgres_url=postgres_dsn) as net, net.agents("barn"):
        assert net.pids("postgres") == []
        assert net.running.place["postgres_dsn"] == postgres_dsn
        order = await net.submit([SECOND // 20])
        await net.finished(order.id)
        await check_job(net, order.id, [SECOND // 20])
        await check_books(net)
        other, free = net.data.parent / "other", ("--port", "0", "--bus-port", "0")
        said = await fallow("up", "--data", other, *free, FALLOW_POSTGRES_URL=postgres_dsn)
        assert (said.code, "database.other_network" in said.err) == (1, True), said
        await check_books(net)


async def test_each_core_role_may_have_a_process_of_its_own() -> None:
    async with network(split_core="true") as net, net.agents("barn", "mill"):
        assert [len(net.pids(role)) for role in (*CORE, "core")] == [1] * len(CORE) + [0]
        order = await net.submit([SECOND // 3 + index for index in range(4)])
        await net.items_done(order.id, 1)
        await until_async(partial(all_told, net), "one scrape shows all of them")
        assert {line.labels["process"] for line in (await scrape(net))["fallow_postgres_up"]} == set(CORE)
        for role in ("registry", "ingest", "settle"):
            net.running.kill(role)
        await net.finished(order.id)
        await check_job(net, order.id, [SECOND // 3 + index for index in range(4)])
        await check_books(net)
        await until_async(partial(all_told, net), "those that were started in their places tell, too")


async def test_of_two_markets_one_acts() -> None:
    async with network() as net:
        (_, term) = await leader(net)
        with net.running.serve("core"):
            async with net.agents("barn", "mill"):
                order = await net.submit(MANY)
                await net.finished(order.id)
                # Where the machine is so busy that the first is late, the other takes over: once, not in turns.
                assert (await leader(net))[1] - term in {0, 1}
                # One gateway carried them to the bus, and either registry was asked who comes from where.
                rows = await net.fetch("SELECT network FROM registry.connection ORDER BY network")
                assert [row["network"] for row in rows] == ["127.0.1.0/24", "127.0.2.0/24"]
                await check_job(net, order.id, MANY)
                await check_books(net)


async def test_another_market_takes_over_from_a_killed_one() -> None:
    async with network() as net, net.agents("barn", "mill") as agents:
        with net.running.serve("core"):
            order = await net.submit(MANY)
            await net.items_done(order.id, 3)
            (_, term) = await leader(net)
            net.running.kill("core")

            async def acts() -> bool:
                return (await leader(net))[1] > term and bool((await net.buyer.job(order.id)).counts)

            await until_async(acts, "another market acts", every=0.1)
            await net.finished(order.id)
            await check_job(net, order.id, MANY)
            await check_books(net)
            await all_idle(net, agents)


async def test_a_market_that_was_frozen_finds_itself_replaced() -> None:
    async with network() as net, net.agents("barn", "mill") as agents:
        rounds = [SECOND // 20 + index for index in range(4)] + [SECOND // 2 + index for index in range(8)]
        with net.running.serve("core"):
            order = await net.submit(rounds)
            await net.items_done(order.id, 2)
            (holder, _) = await leader(net)
            frozen = net.pids("core")
            signal_all(frozen, signal.SIGSTOP)

            async def other_leads() -> bool:
                return (await leader(net))[0] != holder

            try:
                await until_async(other_leads, "the other market leads")
            finally:
                signal_all(frozen, signal.SIGCONT)
            await net.finished(order.id)
            await check_job(net, order.id, rounds)
            # It must not answer either from what it remembers: all answers are of what is so now.
            later = await net.submit([SECOND // 50])
            await net.finished(later.id)
            for _ in range(20):
                assert (await net.buyer.job(later.id)).state == "done"
            await check_books(net)
            await all_idle(net, agents)


async def all_idle(net: Net, agents: list[Agent]) -> None:
    """Nothing of the capacity stays taken."""
    await net.at_rest()
    for agent in agents:
        node = await net.node(agent)
        assert (node.leases, node.free) == (0, node.total)


async def test_a_second_gateway() -> None:
    async with network() as net, net.agents("barn"):
        with net.running.serve("gateway") as (process, log):
            url = log.read_text().partition("serving gateway at ")[2].split()[0]
            assert url != net.url
            async with AsyncClient(url, net.first.key) as second:
                order = await net.order([SECOND // 20])
                await second.submit(order)
                net.running.kill("gateway")
                assert (await second.wait(order.id)).state == "done"
                assert await (await second.result(order.id)).output("n") == spun(SECOND // 20)
                assert (await net.job(order.id)).state == "done", "and the first is back"
            taken = await fallow("serve", "--role", "gateway", "--data", net.data, "--port", url.rpartition(":")[2])
            assert (taken.code, "http.port" in taken.err, "Traceback" in taken.err) == (1, True, False)
            process.terminate()
            assert process.wait(BOUND) == 0
            async with AsyncClient(url, net.first.key, patience_s=0) as gone:
                with pytest.raises(Unavailable):
                    await gone.balance()


async def test_serving_without_a_network_says_so(tmp_path: object) -> None:
    said = await fallow("serve", "--role", "core", "--data", str(tmp_path))
    assert (said.code, "place.none" in said.err, "Traceback" in said.err) == (1, True, False)
    wrong = await fallow("serve", "--role", "kitchen", "--data", str(tmp_path))
    assert (wrong.code != 0, "serve.role" in wrong.err, "Traceback" in wrong.err) == (True, True, False)
