"""Containers on a whole network: ordered, run on somebody's machine, paid."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from fallow.verticals.compute.worker.worker import ComputeWorker
from tests.capability import require
from tests.container_jobs import image, oci_archive
from tests.network import NEEDS, Net

pytestmark = pytest.mark.xdist_group("network")


@pytest.fixture
def podman() -> None:
    require("podman")


@pytest.fixture
async def tidy(podman: None, net: Net) -> AsyncIterator[Net]:  # noqa: ARG001 - first it must be there
    yield net
    for agent in net.running.agents:
        await ComputeWorker(agent.home / "cache" / "compute").erase(for_good=True)


async def test_a_container_is_ordered_run_and_paid(tidy: Net, tmp_path: Path) -> None:
    node = tidy.running.agents[0].node
    assert (await tidy.node(tidy.running.agents[0])).attributes["compute.container"] == "linux/amd64"
    archive = tmp_path / "image.tar"
    archive.write_bytes(oci_archive(image()))
    needs = msgspec.structs.replace(NEEDS, nodes_allowed=[node])
    script = "cat /in/input; echo made > /out/file; id -u"
    result = await tidy.buyer.run_container(
        {"archive": archive}, ["sh", "-c", script], {"input": b"given\n"}, requirements=needs, time_limit_s=60
    )
    assert result.ok, (result.reason, await result.stderr())
    assert await result.stdout() == b"given\n0\n"
    assert [output.name for output in result.outputs] == ["file"]
    assert (result.item.node, result.item.owed_microusd > 0) == (node, True)
    elsewhere = await tidy.buyer.container_order({"archive": archive, "platform": "linux/s390x"}, requirements=needs)
    assert (await tidy.buyer.quote(elsewhere)).why_not["attribute:compute.container"] > 0
