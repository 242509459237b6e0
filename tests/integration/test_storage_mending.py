"""Machines that are sent away take pieces with them, and a running network brings these to others by itself."""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack
from typing import Any

import boto3
from botocore.client import Config
from botocore.exceptions import ClientError

from fallow.domain.calls import OpenSubscription
from fallow.sdk.accounts import new_id
from fallow.verticals.storage.core.profiles import LAB
from tests.network import Net, connected, running_network, until_async

NODES = 12
"""An upload names ten, and those that it does not need get nothing of it for two hours."""


async def test_pieces_of_banned_nodes_come_onto_others_by_themselves() -> None:
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
            gone = (await _holders(net))[:2]
            for node in gone:
                await net.operator.act("ban", node.hex(), "test")

            async def moved() -> bool:
                now = await _holders(net)
                return len(now) > LAB.repair and not set(gone) & set(now)

            await until_async(moved, "other nodes have their pieces", bound=180)
            got = await asyncio.to_thread(s3.get_object, Bucket="pictures", Key="one")
            assert got["Body"].read() == body


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
