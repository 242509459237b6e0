"""The buyers' client against the control API in this process, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from fallow.domain.errors import (
    Conflict,
    FallowError,
    InsufficientFunds,
    InvalidInput,
    NotAllowed,
    NotFound,
    TooMuch,
    Unavailable,
)
from fallow.domain.orders import Order
from fallow.domain.views.jobs import JobEvent
from fallow.sdk.client import AsyncClient
from fallow.sdk.receipts import receipts_for
from fallow.verticals.compute.core.outcome import Outcome, Output, encode_outcome
from tests.unit import fake_network
from tests.unit.fake_network import BUYER, OPERATOR_KEY, FakeNetwork
from tests.unit.sdk_world import Broken, balance, canned, connected, events, failure, names, pauses_of


@pytest.fixture
async def client(network: FakeNetwork) -> AsyncIterator[AsyncClient]:
    async with connected(network) as client:
        yield client


# errors and retries


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidInput),
        (402, InsufficientFunds),
        (403, NotAllowed),
        (404, NotFound),
        (409, Conflict),
        (413, TooMuch),
    ],
)
async def test_errors_come_back_as_what_they_were(status: int, error: type[FallowError]) -> None:
    async with canned(failure(status, error.__name__, "some.code")) as client:
        with pytest.raises(error) as raised:
            await client.balance()
    assert (raised.value.code, raised.value.message, raised.value.hint) == ("some.code", "No.", "Hint.")


async def test_an_error_page_of_something_in_between_is_an_error_too() -> None:
    async with canned(httpx2.Response(404, text="<html>")) as client:
        with pytest.raises(NotFound) as raised:
            await client.balance()
    assert raised.value.code == "sdk.status"


async def test_what_can_pass_is_tried_again_with_growing_pauses() -> None:
    answers: list[httpx2.Response | Exception] = [
        httpx2.ConnectError("refused"),
        failure(503, "Unavailable", "bus.timeout"),
        failure(429, "TooMuch", "rate.requests", **{"Retry-After": "7"}),
        balance(),
    ]
    async with canned(*answers) as client:
        assert (await client.balance()).account == BUYER
    first, second, third = pauses_of(client)
    assert 0.1 <= first <= 0.2 <= second <= 0.4
    assert third == 7


@pytest.mark.parametrize("patience_s", [0.0, 5.0, 60.0])
async def test_patience_has_an_end(patience_s: float) -> None:
    async with canned(*[httpx2.ConnectError("refused")] * 1000, patience_s=patience_s) as client:
        with pytest.raises(Unavailable) as raised:
            await client.balance()
    assert raised.value.code == "sdk.unreachable"
    assert sum(pauses_of(client)) == pytest.approx(patience_s)
    assert len(pauses_of(client)) < 20


async def test_who_waits_is_told_once_an_outage() -> None:
    told: list[str] = []
    down, up = httpx2.ConnectError("refused"), balance()
    answers: list[httpx2.Response | Exception] = [down, down, up, *[down] * 6, up, *[down] * 4, up]
    async with canned(*answers, on_wait=lambda error: told.append(error.code)) as client:
        for outages in (0, 1, 2):
            await client.balance()
            assert told == ["sdk.unreachable"] * outages


async def test_a_pause_that_the_network_asks_for_is_not_cut_short() -> None:
    answer = failure(503, "Unavailable", "bus.timeout", **{"Retry-After": "30"})
    async with canned(answer, answer, patience_s=40.0) as client:
        with pytest.raises(Unavailable):
            await client.balance()
    assert pauses_of(client) == [30.0]


@pytest.mark.parametrize(
    "answer",
    [
        failure(404, "NotFound", "job.unknown"),
        failure(413, "TooMuch", "http.body"),
        failure(500, "Unavailable", "internal"),
    ],
)
async def test_what_cannot_pass_is_not_tried_again(answer: httpx2.Response) -> None:
    async with canned(answer) as client:
        with pytest.raises(FallowError):
            await client.job("0" * 32)
    assert pauses_of(client) == []


async def test_a_key_is_not_made_twice() -> None:
    async with canned(httpx2.ReadError("lost")) as client:
        with pytest.raises(Unavailable):
            await client.create_key()


async def test_what_surely_did_not_begin_is_sent_again() -> None:
    made = httpx2.Response(201, json={"secret": "fk_x", "account": BUYER})
    too_often = failure(429, "TooMuch", "rate.requests", **{"Retry-After": "1"})
    async with canned(httpx2.ConnectError("refused"), too_often, made) as client:
        assert (await client.create_key()).account == BUYER


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://fallow.example", "sdk.plain_http"),
        ("http://10.0.0.1:80", "sdk.plain_http"),
        ("ftp://127.0.0.1", "sdk.url"),
        ("nonsense", "sdk.url"),
    ],
)
def test_a_key_is_not_sent_in_the_clear(url: str, code: str) -> None:
    with pytest.raises(FallowError) as raised:
        AsyncClient(url, "key")
    assert raised.value.code == code


async def test_calls_of_buyer_and_operator(network: FakeNetwork, client: AsyncClient) -> None:
    assert (await client.network()).net == "lab-1"
    assert await client.nodes() == []
    assert await client.statement(limit=5) == []
    async with connected(network, OPERATOR_KEY) as operator:
        assert (await operator.create_token(uses=3)).secret
        assert (await operator.create_key(account=BUYER)).account == BUYER
        assert (await operator.grant(BUYER, 9)).spendable == {"granted": 9}
        assert (await operator.ledger_check()).ok
        assert (await operator.balance_of(BUYER)).account == BUYER
        assert [each.key_id for each in await operator.keys()] == ["k1"]
        (token,) = await operator.tokens()
        await operator.revoke_token(token.token_id)
        for name in ("", "../keys", "abc"):
            with pytest.raises(InvalidInput):
                await operator.revoke_token(name)
        await operator.revoke_key("buyer")
    with pytest.raises(NotAllowed) as raised:
        await client.balance()
    assert raised.value.code == "auth.key"


# jobs


async def result_blob(client: AsyncClient, text: bytes, *, exit_code: int = 0, name: str = "data.bin") -> str:
    """What a node leaves: outputs and the outcome document."""
    out = Output(name="stdout", sha256=await client.upload(text), size=len(text))
    err = Output(name="stderr", sha256=await client.upload(b""), size=0)
    file = Output(name=name, sha256=await client.upload(b"file of " + text), size=8 + len(text))
    outcome = Outcome(exit_code=exit_code, reason="exited", stdout=out, stderr=err, outputs=[file])
    return await client.upload(encode_outcome(outcome))


async def serve_items(network: FakeNetwork, client: AsyncClient, order: list[int]) -> str:
    """Wait for a job to be watched, then end its items in this order."""
    job = await network.job_asked.get()
    await network.job_asked.get()
    for index in order:
        await network.end_item(job, index, await result_blob(client, b"out %d" % index))
    return job


async def test_a_program_from_file_to_result(network: FakeNetwork, client: AsyncClient, tmp_path: Path) -> None:
    program = tmp_path / "program.wasm"
    program.write_bytes(b"wasm")
    async with asyncio.TaskGroup() as group:
        run = group.create_task(
            client.run_wasm(program, ["-v"], {"words": b"a b"}, env={"K": "V"}, label="mine", fuel=5, retries=1)
        )
        job = await serve_items(network, client, [0])
    result = await run
    _, order = network.orders[job]
    assert (order.label, order.retries, order.work["fuel"], order.work["args"]) == ("mine", 1, 5, ["-v"])
    assert order.work["inputs"] == {"words": hashlib.sha256(b"a b").hexdigest()}
    assert (result.ok, result.exit_code, result.reason, result.job.state) == (True, 0, "", "done")
    assert (await result.stdout(), await result.stderr()) == (b"out 0", b"")
    assert await result.output("data.bin") == b"file of out 0"
    with pytest.raises(NotFound):
        await result.output("other")
    saved = await result.save(tmp_path / "saved")
    assert [path.relative_to(tmp_path / "saved").as_posix() for path in saved] == ["stdout", "stderr", "out/data.bin"]


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "a/../../b", "a\\b"])
async def test_a_result_cannot_write_elsewhere(
    network: FakeNetwork, client: AsyncClient, tmp_path: Path, name: str
) -> None:
    order = await client.wasm_order(b"wasm")
    await client.submit(order)
    await network.end_item(order.id, 0, await result_blob(client, b"", name=name))
    result = await client.result(order.id)
    with pytest.raises(InvalidInput) as raised:
        await result.save(tmp_path / "saved")
    assert raised.value.code == "result.name"
    assert names(tmp_path) == []


async def test_what_one_machine_left_in_place_of_a_result_hides_no_others(
    network: FakeNetwork, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody signs that it came."""
    monkeypatch.setattr("fallow.sdk.runs.OUTCOME_BYTES_MAX", 2000)
    await client.delegate()
    order = await client.wasm_order(b"wasm", items=[b"%d" % index for index in range(5)])
    await client.submit(order)
    strange = Output(name="stdout", sha256="../account", size=1)
    left = [
        hashlib.sha256(b"never stored").hexdigest(),
        await client.upload(b"no outcome"),
        await client.upload(b" " * 2001),
        await client.upload(
            encode_outcome(Outcome(exit_code=0, reason="", stdout=strange, stderr=strange, outputs=[]))
        ),
        await result_blob(client, b"fine"),
    ]
    for index, blob in enumerate(left):
        await network.end_item(order.id, index, blob)
    signed: list[int] = []

    async def sign(_: str, items: Collection[int]) -> int:
        signed.extend(items)
        return 0

    monkeypatch.setattr(client, "countersign", sign)
    results = [result async for result in client.results(order.id)]
    faults = ["result.missing", "result.unreadable", "result.too_large", "result.unreadable", ""]
    assert [(result.fault, result.reason, result.ok) for result in results] == [
        (fault, fault, not fault) for fault in faults
    ]
    assert await results[-1].stdout() == b"fine"
    assert not (await client.result(order.id, 0)).ok
    assert signed == [4]


@pytest.mark.parametrize(("ordered", "expected"), [(False, [2, 0, 1]), (True, [0, 1, 2])])
async def test_a_map_gives_each_result_once(
    network: FakeNetwork, client: AsyncClient, ordered: bool, expected: list[int]
) -> None:
    async def collect() -> list[tuple[int, bytes]]:
        results = client.map_wasm(b"wasm", [b"a", b"b", b"c"], ordered=ordered)
        return [(result.index, await result.stdout()) async for result in results]

    async with asyncio.TaskGroup() as group:
        collected = group.create_task(collect())
        await serve_items(network, client, [2, 0, 1])
    # The in-process server hands its events over all at once, so both orders are the items' own or as they came.
    assert sorted(await collected) == [(index, b"out %d" % index) for index in range(3)]
    if ordered:
        assert [index for index, _ in await collected] == expected


async def test_a_map_of_nothing_buys_nothing(network: FakeNetwork, client: AsyncClient) -> None:
    assert [result async for result in client.map_wasm(b"wasm", [])] == []
    assert network.orders == {}


async def test_an_unreadable_input_is_told_as_it_is(client: AsyncClient, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await client.run_wasm(tmp_path / "missing.wasm")


async def test_a_client_with_a_key_signs_what_it_orders_and_gets(network: FakeNetwork, client: AsyncClient) -> None:
    signer = await client.delegate()
    order = await client.wasm_order(b"program", items=[b"a", b"b"])
    await client.submit(order)
    (signed,) = network.signed
    assert (signed.key, signed.account, msgspec.json.decode(signed.body, type=Order)) == (signer.public, BUYER, order)
    await client.submit(msgspec.structs.replace(order, id="a" * 32), secrets={"TOKEN": "hush"})
    assert b"hush" not in network.signed[-1].body
    empty = Output(name="stdout", sha256="0" * 64, size=0)
    outcome = encode_outcome(Outcome(exit_code=0, reason="", stdout=empty, stderr=empty, outputs=[]))
    network.leases[order.id] = [fake_network.lease_view(order.id, index) for index in range(2)]
    async with asyncio.TaskGroup() as group:
        results = group.create_task(collected(client, order.id))
        await network.end_item(order.id, 0, await client.upload(outcome))
        await network.end_item(order.id, 1, None, "failed")
    assert len(results.result()) == 2
    assert network.mutual == {f"{0:032x}"}, "what failed is not signed for"
    async with connected(network) as unsigned:
        assert await unsigned.countersign(order.id, [0]) == 0


async def collected(client: AsyncClient, job_id: str) -> list[Any]:
    return [result async for result in client.results(job_id)]


def test_each_lease_is_looked_at_once_for_all_receipts() -> None:
    """A map of ten thousand has twice as many leases: to look at all for each item takes 7 s."""
    items = [fake_network.item_view(index, "done", "f" * 64) for index in range(3)]
    items += [fake_network.item_view(3, "failed", "f" * 64), fake_network.item_view(4, "done")]
    leases = [fake_network.lease_view("0" * 32, index, id=f"{index}" * 32) for index in range(5)]
    again = msgspec.structs.replace(leases[0], id="a" * 32, used_ms=2000)
    lost = msgspec.structs.replace(leases[1], id="b" * 32, used_ms=9000, reason="node.lost")
    others = msgspec.structs.replace(leases[2], id="c" * 32, used_ms=9000, node="cd" * 32)
    receipts = receipts_for(items, iter([*leases, again, lost, others]))
    assert [(each.item, each.lease, each.used_ms) for each in receipts] == [
        (0, "a" * 32, 2000),
        (1, "1" * 32, 1500),
        (2, "2" * 32, 1500),
    ]


async def test_a_job_is_ordered_once_more(network: FakeNetwork, client: AsyncClient) -> None:
    program = b"program"
    order = await client.wasm_order(program, items=[b"a", b"b", b"c"], label="mine", budget_microusd=7)
    await client.submit(order)
    for index, state in enumerate(("done", "failed", "cancelled")):
        await network.end_item(order.id, index, None, state)
    again = await client.order((await client.rerun(order.id)).id)
    failed = await client.order((await client.rerun(order.id, failed=True)).id)
    assert len({order.id, again.id, failed.id}) == 3
    assert msgspec.structs.replace(again, id=order.id) == order
    assert msgspec.structs.replace(failed, id=order.id) == msgspec.structs.replace(order, items=order.items[1:])
    assert {job.id async for job in client.all_jobs()} == {order.id, again.id, failed.id}
    with pytest.raises(InvalidInput, match="nothing_failed"):
        await client.rerun(again.id, failed=True)


async def test_a_job_whose_inputs_are_gone_is_not_ordered_once_more(network: FakeNetwork, client: AsyncClient) -> None:
    order = await client.wasm_order(b"program", items=[b"a", b"b", b"c"])
    await client.submit(order)
    for index, state in enumerate(("failed", "failed", "done")):
        await network.end_item(order.id, index, None, state)
    owners = {one.owner async for one in network.blobs.stored() if one.sha256 == order.items[1]}
    for gone, what in ((order.items[1], "the input of item 1"), (order.work["program"], "its program")):
        for owner in owners:
            assert await network.blobs.remove(owner, gone, unused_since=2**62)
        for failed in (False, True):
            with pytest.raises(NotFound, match=f"cannot run again: {what} is not kept") as caught:
                await client.rerun(order.id, failed=failed)
            assert (caught.value.code, "fallow run" in caught.value.hint) == ("job.inputs_gone", True)
        await client.upload(b"b")
    assert [job.id async for job in client.all_jobs()] == [order.id], "nothing was bought"


async def test_a_job_with_secrets_is_ordered_once_more_with_the_same_ones(client: AsyncClient) -> None:
    order = await client.wasm_order(b"program")
    await client.submit(order, secrets={"KEY": "old", "OTHER": "x"})
    with pytest.raises(InvalidInput, match=r"job\.secrets") as caught:
        await client.rerun(order.id, secrets={"OTHER": "y"})
    assert caught.value.hint == "Give them again: --secret KEY"
    again = await client.rerun(order.id, secrets={"OTHER": "y", "KEY": "new"})
    assert (again.id != order.id, again.secrets) == (True, ["KEY", "OTHER"])


async def test_events_go_on_after_a_broken_connection() -> None:
    job = fake_network.job_view("0" * 32)
    item = JobEvent(job=job.id, at=1, state="done", item=0)
    end = JobEvent(job=job.id, at=2, state="done")
    kind = {"content-type": "text/event-stream"}
    error = b'event: error\ndata: {"kind":"Unavailable","code":"bus.timeout","message":"Gone.","hint":""}\n\n'
    answers = [
        httpx2.Response(200, headers=kind, stream=Broken(events(job, item))),
        httpx2.Response(200, headers=kind, content=events(job) + error),
        httpx2.Response(200, headers=kind, content=events(job)),
        httpx2.Response(200, headers=kind, content=events(job, end)),
    ]
    async with canned(*answers) as client:
        seen = [event async for event in client.events(job.id)]
    assert seen == [job, item, job, job, job, end]
    assert len(pauses_of(client)) == 3


async def test_what_was_followed_goes_on_in_the_result_of_the_same_lease() -> None:
    """Though another machine's, which only checked it, began later."""
    stdout = Output(name="stdout", sha256=hashlib.sha256(b"first, last").hexdigest(), size=11)
    outcome = encode_outcome(Outcome(exit_code=0, reason="exited", stdout=stdout, stderr=stdout, outputs=[]))
    own = fake_network.lease_view("0" * 32, 0, id="a" * 32, started_at=1)
    checking = fake_network.lease_view("0" * 32, 0, "cd" * 32, id="b" * 32, started_at=2)
    done = fake_network.item_view(0, "done", hashlib.sha256(outcome).hexdigest())
    pages = [[fake_network.item_view(0, "running")], [done], [done], [own, checking], []]
    running, ended, again, first, second = [httpx2.Response(200, json=msgspec.to_builtins(page)) for page in pages]
    live = httpx2.Response(200, content=b"first", headers={"Fallow-Lease": own.id})
    answers = [running, live, ended, again, httpx2.Response(200, content=outcome), first, second]
    async with canned(*answers, httpx2.Response(200, content=b"first, last")) as client:
        assert b"".join([piece async for piece in client.logs("0" * 32, follow=True)]) == b"first, last"


async def test_events_of_no_such_job_end_at_once() -> None:
    async with canned(failure(404, "NotFound", "job.unknown")) as client:
        with pytest.raises(NotFound):
            await anext(client.events("0" * 32))


async def test_a_bill_that_cannot_be_made_says_why_as_any_call_does() -> None:
    job = fake_network.job_view("0" * 32)
    async with canned(httpx2.Response(200, json=msgspec.to_builtins(job)), failure(404, "NotFound", "job.x")) as client:
        with pytest.raises(NotFound) as raised:
            await client.bill(job.id)
    assert raised.value.code == "job.x"


async def test_all_movements_come_page_by_page() -> None:
    lines = [
        {"id": str(id_), "at": 0, "kind": "grant", "credit_class": "granted", "amount_microusd": 1, "ref": ""}
        for id_ in range(3)
    ]
    seen: list[httpx2.Request] = []
    pages = [httpx2.Response(200, json=page) for page in (lines[:2], lines[2:], [])]
    async with canned(*pages, seen=seen) as client:
        assert [line.id async for line in client.all_movements()] == ["0", "1", "2"]
    assert [request.url.params.get("after") for request in seen] == [None, "1", "2"]


async def test_an_answer_that_is_not_understood() -> None:
    async with canned(httpx2.Response(200, json={"account": 1})) as client:
        with pytest.raises(Unavailable) as raised:
            await client.balance()
    assert raised.value.code == "sdk.answer"
