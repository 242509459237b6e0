"""Blobs at the control API: of buyers, and of nodes that show a ticket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2

from fallow.domain import calls
from fallow.http.limits import Limits
from fallow.ports.rates import Rate
from fallow.ports.remembered import MOMENT_MS
from tests.network import until
from tests.unit import fake_network
from tests.unit.fake_network import OTHER_KEY, FakeNetwork
from tests.unit.http_world import NODE, STRANGER, browser, key, refused, sha, upload


async def test_a_blob_goes_on_where_it_broke_off(http: httpx2.AsyncClient) -> None:
    data = bytes(range(256)) * 20
    path = f"/v1/blobs/{await upload(http, data)}"
    looked = await http.head(path, headers=key())
    assert (looked.status_code, looked.headers["content-length"], looked.content) == (200, str(len(data)), b"")
    whole = await http.get(path, headers=key())
    assert (whole.status_code, whole.content) == (200, data)
    assert whole.headers["content-disposition"] == "attachment"
    rest = await http.get(path, headers=key() | {"Range": "bytes=1000-"})
    assert (rest.status_code, rest.content) == (206, data[1000:])
    assert rest.headers["content-range"] == f"bytes 1000-{len(data) - 1}/{len(data)}"
    beyond = await http.get(path, headers=key() | {"Range": f"bytes={len(data)}-"})
    refused(beyond, 416, "blob.range")
    assert beyond.headers["content-range"] == f"bytes */{len(data)}"
    other_form = await http.get(path, headers=key() | {"Range": "bytes=0-1,5-6"})
    assert (other_form.status_code, other_form.content) == (200, data)


async def test_a_blob_must_have_its_hash(http: httpx2.AsyncClient) -> None:
    refused(await http.put(f"/v1/blobs/{sha(b'a')}", content=b"b", headers=key()), 400, "blob.hash")
    refused(await http.put("/v1/blobs/short", content=b"b", headers=key()), 400, "http.invalid")
    assert (await http.head(f"/v1/blobs/{sha(b'a')}", headers=key())).status_code == 404
    refused(await http.get(f"/v1/blobs/{sha(b'a')}", headers=key()), 404, "blob.missing")


async def test_a_blob_is_its_buyers_alone(http: httpx2.AsyncClient) -> None:
    path = f"/v1/blobs/{await upload(http, b'mine')}"
    refused(await http.get(path, headers=key(OTHER_KEY)), 404, "blob.missing")


async def test_a_blob_may_be_larger_than_json_but_not_than_its_limit() -> None:
    limits = Limits(json_bytes_max=100, blob_bytes_max=1000)
    async with fake_network.fake_network(limits) as network, browser(network) as http:
        await upload(http, b"0" * 1000)
        data = b"0" * 1001
        refused(await http.put(f"/v1/blobs/{sha(data)}", content=data, headers=key()), 413, "blob.too_large")

        async def unannounced() -> AsyncIterator[bytes]:
            yield data

        response = await http.put(f"/v1/blobs/{sha(data)}", content=unannounced(), headers=key())
        refused(response, 413, "blob.too_large")
        refused(await http.post("/v1/jobs", json={"label": "x" * 200}, headers=key()), 413, "http.body")


async def test_an_account_stores_so_fast_and_no_faster() -> None:
    async with fake_network.fake_network(Limits(uploads=Rate(10.0, 100))) as network, browser(network) as http:
        await upload(http, b"0" * 80)
        more = b"1" * 80
        response = await http.put(f"/v1/blobs/{sha(more)}", content=more, headers=key())
        refused(response, 429, "rate.requests")
        network.clock.advance(1000 * int(response.headers["retry-after"]))
        await upload(http, more)


async def test_a_node_reads_and_writes_what_its_ticket_says(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    given, other = await upload(http, b"given"), await upload(http, b"other")
    headers = network.ticket(NODE, reads=[bytes.fromhex(given)])
    assert (await http.get(f"/v1/blobs/{given}", headers=headers)).content == b"given"
    refused(await http.get(f"/v1/blobs/{other}", headers=headers), 403, "ticket.read")
    assert (await http.head(f"/v1/blobs/{other}", headers=headers)).status_code == 403
    output, large = b"o" * 100, b"o" * 101
    assert (await http.put(f"/v1/blobs/{sha(output)}", content=output, headers=headers)).status_code == 200
    refused(await http.put(f"/v1/blobs/{sha(large)}", content=large, headers=headers), 413, "blob.too_large")
    assert (await http.get(f"/v1/blobs/{sha(output)}", headers=key())).content == output


async def test_tickets_that_are_misused(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    reads = [bytes.fromhex(await upload(http, b"given"))]
    good = network.ticket(NODE, reads=reads)
    flipped = (
        good["Fallow-Ticket"][:20] + ("A" if good["Fallow-Ticket"][20] != "A" else "B") + good["Fallow-Ticket"][21:]
    )
    for headers, code in (
        (network.ticket(NODE, reads=reads, prover=STRANGER), "ticket.proof"),
        (network.ticket(NODE, reads=reads, expires_at=network.clock.ms), "ticket.expired"),
        (network.ticket(NODE, reads=reads, net="lab-2"), "ticket.net"),
        (network.ticket(NODE, reads=reads, signer=STRANGER), "ticket.signature"),
        (good | {"Fallow-Proof": network.ticket(NODE)["Fallow-Proof"]}, "ticket.proof"),
        (good | {"Fallow-Proof": ""}, "ticket.proof"),
        (good | {"Fallow-Proof": "*"}, "ticket.malformed"),
        (good | {"Fallow-Ticket": ""}, "ticket.malformed"),
        (good | {"Fallow-Ticket": "A" * 70_000}, "ticket.malformed"),
        # A bad ticket is not made good by a good key beside it.
        (network.ticket(NODE, net="lab-2") | key(), "ticket.net"),
    ):
        refused(await http.get(f"/v1/blobs/{reads[0].hex()}", headers=headers), 403, code)
    tampered = await http.get(f"/v1/blobs/{reads[0].hex()}", headers=good | {"Fallow-Ticket": flipped})
    assert tampered.status_code == 403
    assert (await http.get(f"/v1/blobs/{reads[0].hex()}", headers=good)).status_code == 200


async def test_a_ban_ends_a_ticket_at_once_and_what_it_was_moving(
    network: FakeNetwork, http: httpx2.AsyncClient
) -> None:
    given = await upload(http, b"given")
    headers = network.ticket(NODE, reads=[bytes.fromhex(given)])
    output = b"o" * 60

    async def ban() -> None:
        network.shut_out.add(NODE.verify_key.encode().hex())
        await network.bus.publish(calls.actions.BANNED, b"")
        for _ in range(5):  # the gateway hears of it
            await asyncio.sleep(0)

    async def broken_off() -> AsyncIterator[bytes]:
        yield output[:30]
        await ban()
        yield output[30:]

    async with network.app.state.gateway.nodes.hearing():
        assert (await http.get(f"/v1/blobs/{given}", headers=headers)).content == b"given"
        upload_ = await http.put(f"/v1/blobs/{sha(output)}", content=broken_off(), headers=headers)
        refused(upload_, 403, "ticket.node")
        refused(await http.get(f"/v1/blobs/{given}", headers=headers), 403, "ticket.node")
    refused(await http.get(f"/v1/blobs/{sha(output)}", headers=key()), 404, "blob.missing")
    network.shut_out.clear()
    assert (await http.get(f"/v1/blobs/{given}", headers=headers)).content == b"given"


async def test_a_lost_word_of_a_ban_is_made_up_for_within_seconds(
    network: FakeNetwork, http: httpx2.AsyncClient
) -> None:
    given = await upload(http, b"given")
    headers = network.ticket(NODE, reads=[bytes.fromhex(given)])
    assert (await http.get(f"/v1/blobs/{given}", headers=headers)).content == b"given"
    network.shut_out.add(NODE.verify_key.encode().hex())
    network.clock.advance(MOMENT_MS)
    refused(await http.get(f"/v1/blobs/{given}", headers=headers), 403, "ticket.node")


async def test_a_remembered_ticket_still_expires(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    given = await upload(http, b"given")
    headers = network.ticket(NODE, reads=[bytes.fromhex(given)])
    assert (await http.get(f"/v1/blobs/{given}", headers=headers)).status_code == 200
    network.clock.advance(60_000)
    refused(await http.get(f"/v1/blobs/{given}", headers=headers), 403, "ticket.expired")


async def test_a_ticket_opens_no_other_door(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    refused(await http.get("/v1/account", headers=network.ticket(NODE)), 401, "auth.missing")


async def test_a_lease_cannot_fill_the_disk_blob_by_blob(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    size = 6 << 20
    headers = network.ticket(NODE, write_bytes_max=size)
    statuses = []
    for n in range(6):
        data = bytes([n]) * size
        response = await http.put(f"/v1/blobs/{sha(data)}", content=data, headers=headers)
        statuses.append(response.status_code)
    assert statuses == [200] * 5 + [413]


async def test_nor_with_many_blobs_at_once(network: FakeNetwork, http: httpx2.AsyncClient) -> None:
    size, begun, go = 6 << 20, list[int](), asyncio.Event()
    headers = network.ticket(NODE, write_bytes_max=size)

    async def slowly(n: int) -> AsyncIterator[bytes]:
        begun.append(n)
        await go.wait()
        yield bytes([n]) * size

    async def put(n: int, content: bytes | AsyncIterator[bytes]) -> int:
        name = sha(bytes([n]) * size)
        return (await http.put(f"/v1/blobs/{name}", content=content, headers=headers)).status_code

    async with asyncio.TaskGroup() as group:
        taken = [group.create_task(put(n, slowly(n))) for n in range(5)]
        await until(lambda: len(begun) == len(taken), "all have begun")
        assert await put(5, bytes([5]) * size) == 413
        go.set()
    assert [one.result() for one in taken] == [200] * 5
