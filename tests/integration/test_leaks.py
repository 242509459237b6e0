"""What a network publishes tells no name, address, place or buyer; and a person can be erased from the rest."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest
from coincurve import PrivateKey

from fallow.adapters.published import HttpPublished
from fallow.domain.epochs.judging import domain_of, root_of
from fallow.domain.epochs.quorum import Vote
from fallow.domain.epochs.statement import Statement
from fallow.domain.identity import address
from fallow.domain.wallets import address_of
from fallow.sdk.trust import verifying
from tests.integration.test_validators import all_is_sealed
from tests.network import BOUND, Net, fallow, network, until_async
from tests.programs import SECOND

VALIDATOR = PrivateKey(b"v" * 32)
LABEL, JOB, KEY = "Zebulon-Quartz", "for-Kunigunde", "Ottokars-key"
LATITUDE, LONGITUDE = 52.123456, 13.654321
ROUTES = (
    "/v1/network",
    "/v1/nodes",
    "/v1/epochs",
    "/v1/checks",
    "/v1/checks/3/parts",
    "/v1/roll-calls",
    "/schema/openapi.json",
)


class Marked(NamedTuple):
    """Something that must not show, and what it is."""

    what: str
    value: bytes


def forms(value: bytes) -> Iterator[bytes]:
    """A value as somebody may have written it: as it is, in hex, and in base64 wherever in a text it begins."""
    yield value.lower()
    yield value.hex().encode()
    for ahead in range(3):  # the characters that hold nothing of what stands before and after it
        text = base64.b64encode(bytes(ahead) + value + bytes(2))
        inner = text[-(-ahead * 8 // 6) : (ahead + len(value)) * 8 // 6]
        yield from {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}


def shown_in(marked: list[Marked], data: bytes) -> list[str]:
    """What of it shows."""
    lower = data.lower()
    return [one.what for one in marked if any(form in lower or form in data for form in forms(one.value))]


@pytest.mark.parametrize("ahead", range(4))
def test_the_search_finds_what_is_there(ahead: int) -> None:
    salt = Marked("a salt", bytes(range(100, 132)))
    for written in (salt.value, salt.value.hex().upper().encode(), base64.b64encode(b"x" * ahead + salt.value)):
        assert shown_in([salt], b"some" + written + b"more") == ["a salt"]
    assert shown_in([salt], b"some" + salt.value[1:] + b"more") == []


async def test_nothing_that_is_published_tells_of_people_and_one_who_is_erased_changes_no_epoch(tmp_path: Path) -> None:
    place = ("--country", "de", "--at", f"{LATITUDE},{LONGITUDE}")
    async with network(validators=f"0x{address_of(VALIDATOR).hex()}") as net:
        async with net.agent(LABEL, place=place) as agent:
            owner = agent.account
            await net.finished((await net.submit([SECOND // 20], label=JOB)).id)
            await net.operator.create_key(account=net.first.account, label=KEY)
            await until_async(partial(all_is_sealed, net), "what was decided is among the records")
            epoch = (await net.operator.closed_epoch((await net.operator.end_epoch()).epoch)).epoch
            vote(net, epoch)
            before = await audited(net, epoch, tmp_path / "before")
            marked = await hidden(net)
            assert len(marked) >= 12
            found = [*published(tmp_path / "before"), *await answers(net, epoch)]
            assert len(found) >= 20
            for where, data in found:
                assert shown_in(marked, data) == [], where
            assert LABEL in {node.label for node in await net.buyer.nodes()}, (
                "who has a key is told what nodes are called"
            )

        for account in (owner, net.first.account):
            for _ in range(2):
                await net.operator.act("erase", account, "asked for it")
        (left,) = await net.fetch("SELECT count(*) AS left FROM ingest.opening")
        (named,) = await net.fetch("SELECT count(*) AS named FROM registry.node WHERE label <> ''")
        (seen,) = await net.fetch("SELECT count(*) AS seen FROM registry.connection")
        assert (left["left"], named["named"], seen["seen"]) == (0, 0, 0)
        assert await audited(net, epoch, tmp_path / "after") == before
        for path in (tmp_path / "before").rglob("*"):
            if path.is_file():
                assert path.read_bytes() == (tmp_path / "after" / path.relative_to(tmp_path / "before")).read_bytes()


def vote(net: Net, epoch: int) -> None:
    """Sign what is stated."""
    with closing(HttpPublished(net.url, verifying(net.running.ca))) as outside:
        sealed = b"".join(outside.read(epoch, "statement"))
        statement = Statement.open(sealed, network_key(net))
        outside.vote(epoch, Vote.cast(VALIDATOR, domain_of(statement), root_of(statement, sealed)).encode())


def network_key(net: Net) -> bytes:
    """As the network tells it."""
    answer = httpx2.get(f"{net.url}/v1/network", verify=verifying(net.running.ca), timeout=BOUND)
    return bytes.fromhex(json.loads(answer.content)["public_key"])


async def hidden(net: Net) -> list[Marked]:
    """All that was planted, and every salt that keeps a commitment from being guessed."""
    rows = await net.fetch("SELECT field, salt FROM ingest.opening")
    salts = [Marked(f"the salt of a {row['field']}", row["salt"]) for row in rows]
    assert {one.what for one in salts} >= {"the salt of a label", "the salt of a payer"}
    line = f"127.0.{net.running.joined}.1"
    texts = {"a machine's name": LABEL, "a job's name": JOB, "a key's name": KEY, "an address": line}
    places = [
        Marked("a place", form)
        for degrees in (LATITUDE, LONGITUDE)
        for form in (str(degrees).encode(), struct.pack(">d", degrees), struct.pack("<d", degrees))
    ]
    buyer = Marked("a buyer", address(net.first.account))
    return [*(Marked(what, text.encode()) for what, text in texts.items()), *places, buyer, *salts]


def published(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of the archive that a stranger has fetched."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()


async def answers(net: Net, epoch: int) -> list[tuple[str, bytes]]:
    """What the public routes say to who has no key."""
    mine = f"/v1/epochs/{epoch}"
    routes = (*ROUTES, mine, f"{mine}/votes", f"{mine}/files/votes/0x{address_of(VALIDATOR).hex()}")
    found = []
    async with httpx2.AsyncClient(base_url=net.url, verify=verifying(net.running.ca), timeout=BOUND) as stranger:
        for route in routes:
            answer = await stranger.get(route)
            assert answer.is_success, (route, answer.content)
            found.append((route, answer.content))
    return found


async def audited(net: Net, epoch: int, folder: Path) -> dict[str, object]:
    """What a stranger computes from the archive alone."""
    ca = ("--ca", net.running.ca) if net.running.ca else ()
    key = network_key(net).hex()
    said = await fallow("epoch", "fetch", str(epoch), "--from", net.url, *ca, "--into", folder, "--key", key, "--json")
    assert said.code == 0, said
    assert len(json.loads(said.out)["votes"]) == 1
    said = await fallow("epoch", "audit", str(epoch), "--from", net.url, *ca, "--into", folder, "--key", key, "--json")
    assert said.code == 0, said
    found: dict[str, object] = json.loads(said.out)
    return found
