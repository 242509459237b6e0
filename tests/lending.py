"""Networks whose machines lend disk, as people run them, and unmodified S3 clients for their gateway."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import boto3
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError

from fallow.domain.calls.subscriptions import OpenSubscription
from fallow.sdk.accounts import new_id
from tests.network import Agent, Net, Running, running_network, until_async

NODES = 8
LENT_MIB = 600
LIMIT_MICROUSD = 1_000_000


class Lenders(NamedTuple):
    """A running network, and its machines that lend disk."""

    running: Running

    @property
    def agents(self) -> list[Agent]:
        """The machines."""
        return self.running.agents

    def revive(self, agent: Agent) -> None:
        """Start a machine anew that was killed; it stays until the network ends."""
        self.running.again(agent)


@contextmanager
def lending_network(nodes: int = NODES, lent_mib: int = LENT_MIB, **settings: str) -> Iterator[Lenders]:
    """A network of so many machines that lend disk, each on a line of its own."""
    with ExitStack() as stack:
        running = stack.enter_context(running_network(None, None, **settings))
        for number in range(nodes):
            lends = ("--lend", f"storage={running.data.parent / f'lent-{number}'}:{lent_mib}MiB")
            stack.enter_context(running.agent(f"disk-{number}", cpu=0.05, memory=32, options=lends))
        yield Lenders(running)


class Door(NamedTuple):
    """The S3 gateway of a network, and the key of a buyer with a subscription."""

    endpoint: str
    access_key: str
    secret: str

    @property
    def environment(self) -> dict[str, str]:
        """What other people's programs read it from."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": "fallow",
            "S3_ENDPOINT_URL": self.endpoint,
        }

    def client(self, tries: int = 8) -> Any:
        """An unmodified client that tries each request so many times."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret,
            region_name="fallow",
            config=Config(
                retries={"mode": "standard", "total_max_attempts": tries},
                s3={"addressing_style": "path"},
                max_pool_connections=32,
                read_timeout=90,
            ),
        )


async def opened_door(net: Net) -> Door:
    """Subscribe the buyer, and wait until all machines that there are take his bytes."""
    await net.on_market(*net.running.agents)
    await net.buyer.subscribe(OpenSubscription(id=new_id(), vertical="storage", limit_microusd=LIMIT_MICROUSD))
    signing = await net.buyer.signing_secret()
    door = Door((await net.buyer.network()).gateways["s3"], signing.access_key, signing.secret)
    await until_async(lambda: asyncio.to_thread(takes_bytes, door), "enough machines lend disk")
    return door


def takes_bytes(door: Door) -> bool:
    """Whether a new object of a megabyte is taken just now."""
    client, bucket = door.client(tries=1), f"b-{random.randbytes(6).hex()}"
    try:
        client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key="first", Body=bytes(1 << 20))
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
            raise
        return False
    except BotoCoreError:
        return False
    return True
