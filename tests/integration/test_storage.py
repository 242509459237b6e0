"""Objects on spare disks: agents that lend folders, the S3 gateway, and clients that know nothing of Fallow."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import fsspec
import httpx2
import pytest
from botocore.client import Config
from botocore.exceptions import ClientError

from fallow.domain.calls.subscriptions import OpenSubscription
from fallow.domain.epochs.lines import LINES, read_lines
from fallow.domain.epochs.manifest import path_of
from fallow.sdk.accounts import new_id
from fallow.verticals.storage.core.calls.objects import KEPT_BYTES_MAX
from fallow.verticals.storage.core.layout import SHARE_BYTES
from tests.lending import Lenders, lending_network
from tests.network import BOUND, Agent, Net, connected, fallow, start, until_async

pytestmark = pytest.mark.xdist_group("storage")

NODES = 8
NEEDED = 4
LENT_MIB = 400
BIN = Path(sys.executable).parent
LIMIT_MICROUSD = 1_000_000
CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 4}, s3={"addressing_style": "path"}, read_timeout=BOUND
)


class World(NamedTuple):
    """A network whose machines lend disk, and what its buyer reaches it with."""

    net: Net
    s3: Any
    environment: dict[str, str]

    def bucket(self) -> str:
        """Make a bucket of a name that is new."""
        name = f"b-{random.randbytes(6).hex()}"
        self.s3.create_bucket(Bucket=name)
        return name


@pytest.fixture(scope="module")
def lenders() -> Iterator[Lenders]:
    """A network of eight machines, each on a line of its own."""
    with lending_network(NODES, LENT_MIB) as made:
        yield made


@pytest.fixture
async def world(lenders: Lenders) -> AsyncIterator[World]:
    """Its buyer has a subscription, and clients the keys that follow from his API key."""
    async with connected(lenders.running) as net:
        await net.on_market(*lenders.agents)
        wanted = OpenSubscription(id=new_id(), vertical="storage", limit_microusd=LIMIT_MICROUSD)
        await net.buyer.subscribe(wanted)
        signing = await net.buyer.signing_secret()
        endpoint = (await net.buyer.network()).gateways["s3"]
        environment = {
            "AWS_ACCESS_KEY_ID": signing.access_key,
            "AWS_SECRET_ACCESS_KEY": signing.secret,
            "AWS_REGION": "fallow",
            "S3_ENDPOINT_URL": endpoint,
        }
        s3 = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=signing.access_key,
            aws_secret_access_key=signing.secret,
            region_name="fallow",
            config=CONFIG,
        )
        made = World(net, s3, environment)
        await until_async(lambda: asyncio.to_thread(_takes_bytes, made), "enough machines lend disk")
        yield made


def _takes_bytes(world: World) -> bool:
    try:
        world.s3.put_object(Bucket=world.bucket(), Key="first", Body=bytes(1 << 20))
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] < 500:
            raise
        return False
    return True


async def test_what_is_stored_reads_back_byte_for_byte(world: World) -> None:
    bucket = world.bucket()
    for size in (0, 1, 4096, 65_520, 65_521, 1_000_000, 70 << 20):
        body = random.randbytes(size)
        put = await asyncio.to_thread(world.s3.put_object, Bucket=bucket, Key=f"folder/{size}", Body=body)
        assert put["ETag"].strip('"') == hashlib.md5(body).hexdigest()  # noqa: S324 - what S3 says
        got = await asyncio.to_thread(_got, world, bucket, f"folder/{size}")
        assert got == body
        if size > 100:
            part = await asyncio.to_thread(_got, world, bucket, f"folder/{size}", f"bytes={size // 3}-{size // 2}")
            assert part == body[size // 3 : size // 2 + 1]


async def test_who_keeps_much_for_nothing_has_small_objects_on_nodes_and_no_more_delete_markers(
    world: World,
) -> None:
    bucket, body = world.bucket(), random.randbytes(4096)
    world.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    of_bucket = "(SELECT id FROM storage.bucket WHERE name = $1)"
    await world.net.fetch(f"INSERT INTO storage.tally VALUES ({of_bucket}, 32, 0, 0, $2)", bucket, 2 * KEPT_BYTES_MAX)  # noqa: S608 - our words

    async def goes_to_nodes() -> bool:
        await asyncio.to_thread(world.s3.put_object, Bucket=bucket, Key="small", Body=body)
        lies = f"SELECT inline FROM storage.object WHERE bucket_id = {of_bucket}"  # noqa: S608 - our words
        return [row["inline"] for row in await world.net.fetch(lies, bucket)] == [None]

    await until_async(goes_to_nodes, "the network has added up what the account keeps")
    assert await asyncio.to_thread(_got, world, bucket, "small") == body
    with pytest.raises(ClientError, match=r"QuotaExceeded.*lifecycle"):
        world.s3.delete_object(Bucket=bucket, Key="small")
    for one in world.s3.list_object_versions(Bucket=bucket)["Versions"]:
        world.s3.delete_object(Bucket=bucket, Key="small", VersionId=one["VersionId"])
    world.s3.delete_bucket(Bucket=bucket)


async def test_names_list_in_their_order_and_between_slashes(world: World) -> None:
    bucket = world.bucket()
    names = ["a", "b/1", "b/2", "b-x", "c/d/e", "é", "zz"]
    for name in names:
        await asyncio.to_thread(world.s3.put_object, Bucket=bucket, Key=name, Body=name.encode())
    listed = world.s3.list_objects_v2(Bucket=bucket)
    assert [one["Key"] for one in listed["Contents"]] == sorted(names, key=str.encode)
    tags = {one["Key"]: one["ETag"].strip('"') for one in listed["Contents"]}
    assert tags == {name: hashlib.md5(name.encode()).hexdigest() for name in names}  # noqa: S324 - what S3 says
    between = world.s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    assert [one["Prefix"] for one in between["CommonPrefixes"]] == ["b/", "c/"]
    assert [one["Key"] for one in between["Contents"]] == ["a", "b-x", "zz", "é"]


async def test_other_peoples_programs_store_and_fetch(world: World, tmp_path: Path) -> None:
    bucket = world.bucket()
    for number in range(20):
        (tmp_path / "in" / str(number % 3)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / str(number % 3) / f"{number}.bin").write_bytes(random.randbytes(number * 9973))
    big = tmp_path / "in" / "big.bin"
    big.write_bytes(random.randbytes(20 << 20))
    await _run(world, BIN / "s5cmd", "cp", f"{tmp_path}/in/*", f"s3://{bucket}/five/")
    await _run(world, BIN / "s5cmd", "cp", f"s3://{bucket}/five/*", f"{tmp_path}/five/")
    remote = ":s3,provider=Other,env_auth=true,endpoint='" + world.environment["S3_ENDPOINT_URL"] + "':" + bucket
    await _run(world, BIN / "rclone", "sync", f"{tmp_path}/in", f"{remote}/r")
    await _run(world, BIN / "rclone", "check", "--download", f"{tmp_path}/in", f"{remote}/r")
    assert _digests(tmp_path / "five") == _digests(tmp_path / "in")


async def test_what_is_stored_costs_and_pays(world: World, tmp_path: Path) -> None:
    bucket, body = world.bucket(), random.randbytes(8 << 20)
    await asyncio.to_thread(world.s3.put_object, Bucket=bucket, Key="sold", Body=body)
    for _ in range(3):
        await asyncio.to_thread(_got, world, bucket, "sold")

    async def owes() -> bool:
        (one,) = [one for one in await world.net.buyer.subscriptions() if one.vertical == "storage"]
        return one.owed_microusd + one.settled_microusd > 0

    await until_async(owes, "what was read is counted", bound=180)
    (one,) = [one for one in await world.net.buyer.subscriptions() if one.vertical == "storage"]
    await world.net.buyer.unsubscribe(one.id)
    added_up, operator = list[int](), world.net.operator
    buyer = {"FALLOW_URL": world.net.url, "FALLOW_API_KEY": world.net.first.key}

    async def paid_by_node() -> bool:
        number = (await operator.closed_epoch((await operator.end_epoch()).epoch)).epoch
        said = await fallow("epoch", "audit", str(number), "--json", "--into", tmp_path, **buyer)
        assert said.code == 0, said.out
        sums = json.loads(said.out)["sums"]
        assert sums["unsure"] == 0
        added_up.append(sums["right"])
        lines = read_lines((tmp_path / path_of(number, LINES)).read_bytes())
        paid = [line for line in lines if line.vertical == "storage" and any(money.income for money in line.money)]
        return bool(paid)

    await until_async(paid_by_node, "nodes are paid by what each was used for")
    assert sum(added_up) > 0


async def test_the_command_line_says_how_to_reach_it(world: World) -> None:
    said = await fallow("storage", "key", "--json", FALLOW_URL=world.net.url, FALLOW_API_KEY=world.net.first.key)
    assert said.code == 0, said.err
    assert json.loads(said.out)["access_key"] == world.environment["AWS_ACCESS_KEY_ID"]


async def test_an_address_opens_one_object_of_the_gateway_s_in_any_browser(world: World) -> None:
    bucket, name, body = world.bucket(), "a b/ü+%2F?#.txt", random.randbytes(50_000)
    await asyncio.to_thread(world.s3.put_object, Bucket=bucket, Key=name, Body=body)
    buyer = {"FALLOW_URL": world.net.url, "FALLOW_API_KEY": world.net.first.key}
    said = await fallow("storage", "link", f"s3://{bucket}/{name}", "--json", **buyer)
    assert said.code == 0, said.err
    address = json.loads(said.out)["url"]
    async with httpx2.AsyncClient(timeout=BOUND) as browser:
        assert (await browser.get(address)).content == body
        assert (await browser.get(address.replace("X-Amz-Expires=86400", "X-Amz-Expires=96400"))).status_code == 403


async def test_a_stranger_gets_nothing(world: World) -> None:
    bucket = world.bucket()
    forged = boto3.client(
        "s3",
        endpoint_url=world.environment["S3_ENDPOINT_URL"],
        aws_access_key_id=world.environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key="x" * 40,
        region_name="fallow",
    )
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        await asyncio.to_thread(forged.list_objects_v2, Bucket=bucket)


async def test_what_is_sealed_on_ones_own_machine_is_for_nobody_else(
    world: World, lenders: Lenders, tmp_path: Path
) -> None:
    canary = f"canary-{random.randbytes(8).hex()}"
    body = canary.encode() * 1000 + random.randbytes(9 << 20)
    here = {"FALLOW_URL": world.net.url, "FALLOW_API_KEY": world.net.first.key, "XDG_CONFIG_HOME": str(tmp_path)}
    bucket = f"own-{random.randbytes(6).hex()}"
    (tmp_path / "in" / canary).mkdir(parents=True)
    for size in (100, 50_000, len(body)):
        (tmp_path / "in" / canary / f"{size}.bin").write_bytes(body[:size])

    async def typed(*words: str | Path) -> Any:
        said = await fallow("storage", *words, "--json", **here)
        assert said.code == 0, said.err + said.out
        return json.loads(said.out)

    kit = (await typed("init"))["kit"]
    await typed("mb", bucket)
    await typed("cp", "-r", tmp_path / "in", f"fallow://{bucket}/all")
    await typed("cp", "-r", f"fallow://{bucket}/all", tmp_path / "out")
    assert _digests(tmp_path / "out") == _digests(tmp_path / "in")
    assert (await typed("ls", f"fallow://{bucket}"))["folders"] == ["all/"]

    log = tmp_path / "serve.log"
    serving = start("s3", "serve", "--json", log=log, steps=None, **here)
    try:
        own = await asyncio.to_thread(_own_client, serving)
        got = await asyncio.to_thread(own.get_object, Bucket=bucket, Key=f"all/{canary}/{len(body)}.bin")
        assert await asyncio.to_thread(got["Body"].read) == body
        await asyncio.to_thread(own.put_object, Bucket=bucket, Key=f"{canary}.txt", Body=body[:50_000])
        with pytest.raises(ClientError, match="S3 gateway"):
            await asyncio.to_thread(own.list_objects_v2, Bucket=await asyncio.to_thread(world.bucket))
    finally:
        serving.terminate()
        ended = await asyncio.to_thread(serving.wait, BOUND)
        assert serving.stdout is not None
        serving.stdout.close()
    assert ended == 0, log.read_text()

    with pytest.raises(ClientError, match="own secret"):
        await asyncio.to_thread(world.s3.list_objects_v2, Bucket=bucket)
    with pytest.raises(ClientError, match="own secret"):
        await asyncio.to_thread(_got, world, bucket, f"{canary}.txt")
    wrong = await fallow("storage", "init", "--json", **{**here, "XDG_CONFIG_HOME": str(tmp_path / "other")})
    assert json.loads(wrong.out)["kit"] != kit
    refused = await fallow("storage", "ls", bucket, **{**here, "XDG_CONFIG_HOME": str(tmp_path / "other")})
    assert (refused.code, "storage.other_secret" in refused.err) == (1, True), refused.err
    await typed("rm", "-r", f"fallow://{bucket}/all")
    assert (await typed("ls", "-r", bucket))["objects"][0]["name"] == f"{canary}.txt"
    gone = await typed("rm", "-r", "--purge", f"fallow://{bucket}/")
    assert [one["name"] for one in gone["purged"]] == [f"{canary}.txt"]
    assert gone["waiting"]["pieces"] == gone["waiting"]["later"], "all who have a piece say that it is overwritten"
    assert {"nodes_word", "trash", "backups"} <= {one["code"] for one in gone["not_proved"]}
    assert (await typed("ls", "-r", bucket))["objects"] == []
    assert await asyncio.to_thread(_files_with, canary.encode(), lenders.running.data) == []
    lent = [lenders.running.data.parent / f"lent-{number}" for number in range(NODES)]
    assert await asyncio.to_thread(_files_with, canary.encode(), *lent) == []


async def test_a_part_is_shared_narrower_and_narrower_and_ends_when_its_owner_says(
    world: World, tmp_path: Path
) -> None:
    owner = {"FALLOW_URL": world.net.url, "FALLOW_API_KEY": world.net.first.key, "XDG_CONFIG_HOME": str(tmp_path / "o")}
    nobody = {"FALLOW_URL": "", "FALLOW_API_KEY": "", "XDG_CONFIG_HOME": str(tmp_path / "n")}
    bucket, body = f"own-{random.randbytes(6).hex()}", random.randbytes(3 << 20)
    for name in ("a/1", "a/b/2", "ab/3"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(body + name.encode())

    async def typed(*words: str | Path, code: str = "", **who: str) -> Any:
        said = await fallow("storage", *words, **(who or owner))
        assert (said.code == 0, code in said.err) == (not code, True), said.err + said.out
        return json.loads(said.out) if "--json" in words and not code else said.out

    await typed("init")
    await typed("mb", bucket)
    await typed("cp", "-r", tmp_path / "in", f"fallow://{bucket}")
    first = await typed("share", f"fallow://{bucket}/a/", "--allow", "read,list,write", "--until", "1h", "--json")
    share = ("share", f"fallow://{bucket}/a/b/", "--allow", "read,list", "--json")
    narrow = await typed(*share, **nobody, FALLOW_GRANT=first["grant"])
    a, b = ({**nobody, "FALLOW_GRANT": grant["grant"]} for grant in (first, narrow))

    assert [one["name"] for one in (await typed("ls", "-r", "--json", **a))["objects"]] == ["a/1", "a/b/2"]
    assert [one["name"] for one in (await typed("ls", "--json", **b))["objects"]] == ["a/b/2"]
    await typed("cp", f"fallow://{bucket}/a/b/2", tmp_path / "2", **b)
    assert (tmp_path / "2").read_bytes() == body + b"a/b/2"
    assert await asyncio.to_thread(_by_fsspec, narrow["grant"], bucket) == (
        [f"{bucket}/a/b/2"],
        body[1_000_000:1_000_100],
    )
    await typed("cp", f"fallow://{bucket}/a/1", tmp_path / "1", code="storage.", **b)
    await typed("cp", f"fallow://{bucket}/ab/3", tmp_path / "3", code="storage.", **a)
    await typed("cp", tmp_path / "in" / "a" / "1", f"fallow://{bucket}/a/new", **a)
    await typed("cp", tmp_path / "in" / "a" / "1", f"fallow://{bucket}/a/b/2", code="storage.condition", **a)
    await typed("rm", f"fallow://{bucket}/a/new", code="storage.grant", **a)
    await typed("cp", f"fallow://{bucket}/a/new", tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == body + b"a/1"

    log = tmp_path / "serve.log"
    serving = start("s3", "serve", "--json", log=log, steps=None, **b)
    try:
        theirs = await asyncio.to_thread(_own_client, serving)
        got = await asyncio.to_thread(theirs.get_object, Bucket=bucket, Key="a/b/2")
        assert await asyncio.to_thread(got["Body"].read) == body + b"a/b/2"
        with pytest.raises(ClientError, match="AccessDenied"):
            await asyncio.to_thread(theirs.get_object, Bucket=bucket, Key="a/1")
    finally:
        serving.terminate()
        await asyncio.to_thread(serving.wait, BOUND)
        assert serving.stdout is not None
        serving.stdout.close()

    await typed("revoke", narrow["id"])
    await typed("ls", code="auth.revoked", **b)
    await typed("ls", **a)
    await typed("revoke", first["grant"])
    await typed("ls", code="auth.revoked", **a)


def _by_fsspec(grant: str, bucket: str) -> tuple[list[str], bytes]:
    files = fsspec.filesystem("fallow", grant=grant, skip_instance_cache=True)
    try:
        with files.open(f"{bucket}/a/b/2") as file:
            file.seek(1_000_000)
            return files.find(f"{bucket}/a/b"), file.read(100)
    finally:
        files.storage.close()


def _own_client(serving: subprocess.Popen[str]) -> Any:
    assert serving.stdout is not None
    words = ""
    while not words.endswith("}\n"):
        line = serving.stdout.readline()
        assert line, "the gateway ended"
        words += line
    said = json.loads(words)
    return boto3.client(
        "s3",
        endpoint_url=said["endpoint"],
        aws_access_key_id=said["access_key"],
        aws_secret_access_key=said["secret_key"],
        region_name="fallow",
        config=CONFIG,
    )


def _files_with(words: bytes, *folders: Path) -> list[Path]:
    """Files below that hold these bytes: data of PostgreSQL and its log of writes, logs, pieces."""
    found, looked = list[Path](), 0
    for file in (Path(parent, name) for folder in folders for parent, _, names in os.walk(folder) for name in names):
        with suppress(FileNotFoundError):  # who works there deletes files, too
            if file.is_file():
                looked += 1
                found += [file] * (words in file.read_bytes())
    assert looked
    return found


async def test_with_half_of_the_machines_dead_all_is_read(world: World, lenders: Lenders) -> None:
    bucket, body = world.bucket(), random.randbytes(5 << 20)
    await asyncio.to_thread(world.s3.put_object, Bucket=bucket, Key="kept", Body=body)
    dead: list[Agent] = lenders.agents[: NODES - NEEDED]
    for agent in dead:
        agent.kill()
    assert await asyncio.to_thread(_got, world, bucket, "kept") == body
    for agent in dead:
        lenders.revive(agent)
    await until_async(lambda: asyncio.to_thread(_takes_bytes, world), "they are back")
    assert await asyncio.to_thread(_got, world, bucket, "kept") == body


async def test_who_reads_what_a_disk_has_spoilt_gets_it_from_others_and_the_network_finds_it_itself(
    world: World, lenders: Lenders
) -> None:
    bucket, body = world.bucket(), random.randbytes(5 << 20)
    await asyncio.to_thread(world.s3.put_object, Bucket=bucket, Key="spoilt", Body=body)
    (held,) = await world.net.fetch(
        "SELECT s.id, n.alias, n.node FROM storage.segment s JOIN storage.node n ON n.alias = s.nodes[1]"
        " ORDER BY s.made_ms DESC LIMIT 1"
    )
    (name,) = {agent.name for agent in lenders.agents if agent.node == held["node"].hex()}
    await asyncio.to_thread(_spoil, lenders.running.data.parent / name.replace("disk", "lent"))
    assert await asyncio.to_thread(_got, world, bucket, "spoilt") == body

    async def said() -> bool:
        due = "UPDATE storage.hint SET due_ms = 0 WHERE segment = $1 AND alias = $2 AND due_ms > 0 RETURNING 1"
        return bool(await world.net.fetch(due, held["id"], held["alias"]))

    async def found() -> bool:
        rows = await world.net.fetch("SELECT text FROM storage.finding WHERE alias = $1", held["alias"])
        return any(row["text"].startswith("failed: not given to a reader (storage.other_piece)") for row in rows)

    await until_async(said, "the gateway has told of it")
    await until_async(found, "the network has looked for itself")
    assert not await world.net.fetch(
        "SELECT 1 FROM storage.segment WHERE id = $1 AND $2 = ANY(nodes)", held["id"], held["alias"]
    )


def _spoil(folder: Path) -> None:
    """Change a bit in each share that a disk keeps."""
    for log in folder.glob("*.log"):
        data = bytearray(log.read_bytes())
        for at in range(0, len(data), SHARE_BYTES):
            data[at] ^= 1
        with log.open("r+b") as file:
            file.write(data)


def _got(world: World, bucket: str, key: str, span: str = "") -> bytes:
    asked = {"Range": span} if span else {}
    return bytes(world.s3.get_object(Bucket=bucket, Key=key, **asked)["Body"].read())


async def _run(world: World, *command: str | Path) -> None:
    done = await asyncio.to_thread(
        subprocess.run, [*map(str, command)], capture_output=True, text=True, env=world.environment, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
