"""Machines that leave, or are sent away, and the pieces that they had: a running network brings these to others.

Then the network goes back to a time before all that: it finds them where they are.
"""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import msgspec
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError

from fallow.adapters.engines.backups import Backups
from fallow.domain.calls.subscriptions import OpenSubscription
from fallow.sdk.accounts import new_id
from fallow.verticals.storage.core.calls.base import Call
from fallow.verticals.storage.core.exiting import ExitReceipt
from fallow.verticals.storage.core.profiles import LAB
from fallow.verticals.storage.core.tariff import VERTICAL
from fallow.verticals.storage.core.upkeep import GetInspection, Inspect, InspectedNode, Inspection
from tests.engines import reachable_folder
from tests.network import Agent, Net, Running, connected, fallow, running_network, stop, until, until_async

NODES = 13
"""An upload names ten, and those that it does not need get nothing of it for two hours: three are left."""


async def test_pieces_of_nodes_that_leave_or_are_banned_come_onto_others_and_are_found_there_after_a_restore() -> None:
    with reachable_folder() as folder, ExitStack() as stack:
        running = stack.enter_context(running_network(backup_folder=str(folder)))
        for number in range(NODES):
            lends = ("--lend", f"storage={running.data.parent / f'lent-{number}'}:100MiB")
            stack.enter_context(running.agent(f"disk-{number}", cpu=0.05, memory=32, options=lends))
        async with connected(running) as net:
            await net.on_market(*running.agents)
            s3, body = await _client(net), random.randbytes(3_000_000)
            s3.create_bucket(Bucket="pictures")
            await until_async(lambda: asyncio.to_thread(_put, s3, body), "enough machines lend disk")
            await until(lambda: bool(Backups(folder).copies()), "there is a backup")
            first, at = await _holders(net), datetime.now(UTC)
            await _leaves(net, first[0])
            gone = first[1:3]
            for node in gone:
                await net.operator.act("ban", node.hex(), "test")

            async def moved() -> bool:
                now = await _holders(net)
                return len(now) > LAB.repair and not set(gone) & set(now)

            await until_async(moved, "other nodes have their pieces", bound=180)
            assert await asyncio.to_thread(_get, s3) == body
            new = set(await _holders(net)) - set(first)

        stop(running.process)
        for node in first[: LAB.needed + 1]:  # those that left, those that were banned, and two more
            _agent(running, node).kill()
        there = {*first[LAB.needed + 1 :], *new}
        said = await fallow("backup", "restore", "--data", running.data, "--from", folder, "--to", at.isoformat())
        assert said.code == 0, said.err
        running.up_again()
        async with connected(running) as net:
            assert set(await _holders(net)) == set(first), "fewer of these are there than it takes"

            async def reads() -> bool:
                return await asyncio.to_thread(_get, s3) == body

            await until_async(reads, "what was moved since is found where it is")

            counts = there & set(await _holders(net))
            assert len(counts) >= LAB.needed, "what is not taken in is looked for when the segment waits for repair"
            checked = {one.node: one for one in await _checked(net)}
            assert all(checked[node].named == 1 for node in counts)
            assert not any(one.missing for one in checked.values()), "nothing live was deleted"
            assert (await net.operator.ledger_check()).ok


async def _leaves(net: Net, node: bytes) -> None:
    """Its owner hands its disk back in good order, and deletes the folder."""
    agent = _agent(net.running, node)
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


def _agent(running: Running, node: bytes) -> Agent:
    return next(one for one in running.agents if one.node == node.hex())


def _get(s3: Any) -> bytes | None:
    """What can be read; None: nothing just now."""
    with suppress(ClientError, BotoCoreError):
        body: bytes = s3.get_object(Bucket="pictures", Key="one")["Body"].read()
        return body
    return None


async def _checked(net: Net) -> list[InspectedNode]:
    """What `fallow storage check` finds."""

    async def ask(call: Call[Inspection]) -> Inspection:
        answer = await net.operator.ask_vertical(VERTICAL, call.name, msgspec.msgpack.encode(call), operator=True)
        return msgspec.msgpack.decode(answer, type=Inspection)

    async def done() -> bool:
        return (await ask(GetInspection(account=""))).state == "done"

    await ask(Inspect(account=""))
    await until_async(done, "all pieces are checked")
    return (await ask(GetInspection(account=""))).nodes
