"""Machines that leave, or are sent away, and the pieces that they had: a running network brings these to others."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
from botocore.client import Config
from botocore.exceptions import ClientError

from fallow.domain.calls.subscriptions import OpenSubscription
from fallow.sdk.accounts import new_id
from fallow.verticals.storage.core.exiting import ExitReceipt
from fallow.verticals.storage.core.profiles import LAB
from tests.network import Net, connected, fallow, running_network, until_async

NODES = 13
"""An upload names ten, and those that it does not need get nothing of it for two hours: three are left."""


async def test_pieces_of_nodes_that_leave_or_are_banned_come_onto_others_by_themselves() -> None:
    with ExitStack() as stack:
        running = stack.enter_context(running_network())
        for number in range(NODES):
            lends = ("--lend", f"storage={running.data.parent / f'lent-{number}'}:100MiB")
            stack.enter_context(running.agent(f"disk-{number}", cpu=0.05, memory=32, options=lends))
        async with connected(running) as net:
            await net.on_market(*running.agents)
            s3, body = await _client(net), random.randbytes(3_000_000)
            s3.create_bucket(Bucket="pictures")
            await until_async(lambda: asyncio.to_thread(_put, s3, body), "enough machines lend disk")
            await _leaves(net, (await _holders(net))[0])
            gone = (await _holders(net))[:2]
            for node in gone:
                await net.operator.act("ban", node.hex(), "test")

            async def moved() -> bool:
                now = await _holders(net)
                return len(now) > LAB.repair and not set(gone) & set(now)

            await until_async(moved, "other nodes have their pieces", bound=180)
            got = await asyncio.to_thread(s3.get_object, Bucket="pictures", Key="one")
            assert got["Body"].read() == body


async def _leaves(net: Net, node: bytes) -> None:
    """Its owner hands its disk back in good order, and deletes the folder."""
    agent = next(one for one in net.running.agents if one.node == node.hex())
    here = ("--home", agent.home)
    shown = await fallow("agent", "lent", *here)
    assert "on the disk" in shown.out, shown.err
    refused = await fallow("agent", "exit", "storage", *here)
    assert refused.code != 0
    assert "This cannot be taken back" in refused.err
    said = await fallow("agent", "exit", "storage", "--yes", "--json", *here)
    assert said.code == 0, said.err
    seen = json.loads((await fallow("agent", "lent", "--json", *here)).out)
    assert seen["lent"]["storage"]["statement"]["node"] == node.hex(), "the network has told it how it stands"
    assert seen["held"] is None, "no epoch is closed yet"
    over, key = json.loads(said.out), (await net.buyer.network()).public_key
    assert (over["over"], over["done"], over["total"]) == (True, 1, 1)
    sealed = await asyncio.to_thread(Path(over["details"]["receipt"]).read_bytes)
    receipt = ExitReceipt.open(sealed, bytes.fromhex(key))
    assert (receipt.node, receipt.held, receipt.moved, receipt.why) == (node, 1, 1, "storage.exit_young")
    assert node not in await _holders(net)
    again = await fallow("agent", "exit", "storage", *here)
    assert "may be deleted" in again.out, "it asks for no consent any more"


async def _client(net: Net) -> Any:
    await net.buyer.subscribe(OpenSubscription(id=new_id(), vertical="storage", limit_microusd=1_000_000))
    signing = await net.buyer.signing_secret()
    return boto3.client(
        "s3",
        endpoint_url=(await net.buyer.network()).gateways["s3"],
        aws_access_key_id=signing.access_key,
        aws_secret_access_key=signing.secret,
        region_name="fallow",
        config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def _put(s3: Any, body: bytes) -> bool:
    try:
        s3.put_object(Bucket="pictures", Key="one", Body=body)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
            raise
        return False
    return True


async def _holders(net: Net) -> list[bytes]:
    """Which nodes have the pieces of the one segment that there is."""
    rows = await net.fetch(
        "SELECT n.node FROM storage.segment s, unnest(s.nodes) AS alias JOIN storage.node n USING (alias) WHERE s.kept"
    )
    return [row["node"] for row in rows]
