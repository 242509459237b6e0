"""`/metrics` of a network that runs: all of it in one scrape. Where roles are split, see `test_roles.py`."""

from __future__ import annotations

import pytest

from fallow.bootstrap.settings import CORE
from tests.network import Net, Running, until_async
from tests.programs import SECOND
from tests.scraping import Line, running, scrape, value

pytestmark = pytest.mark.xdist_group("network")


async def test_one_scrape_shows_the_whole_network(net: Net) -> None:
    order = await net.submit([SECOND // 20])
    await net.finished(order.id)
    answered = {"route": "/v1/jobs", "method": "POST", "process": "gateway"}.items()  # whatever their status was
    everybody = dict.fromkeys((*CORE, "gateway", "s3"), 1)
    found: dict[str, list[Line]] = {}

    async def all_told() -> bool:
        found.clear()
        found.update(await scrape(net))
        counted = (
            value(found, "fallow_ledger_transfers_total"),
            sum(
                line.value
                for line in found.get("fallow_http_request_seconds_count", ())
                if answered <= line.labels.items()
            ),
        )
        return all(counted) and value(found, "fallow_nodes", state="idle") == 3 and running(found) == everybody

    await until_async(all_told, "all is told")
    assert value(found, "fallow_postgres_up", process="core") == 1
    assert value(found, "fallow_market_leading") == 1
    assert (value(found, "fallow_ingest_records_total") or 0) > 0
    lag = value(found, "fallow_ingest_log_position"), value(found, "fallow_market_log_position")
    assert None not in lag
    assert value(found, "fallow_unmeasured_parts", process="core") == 0
    assert (value(found, "fallow_event_loop_late_seconds_count", process="s3") or 0) > 0
    assert (value(found, "fallow_process_resident_memory_bytes", process="gateway") or 0) > 1 << 20


def test_nobody_but_its_owner_reads_the_secret(shared_network: Running) -> None:
    assert (shared_network.data / "secrets" / "metrics.key").stat().st_mode & 0o777 == 0o600
