"""Records and batches: what was signed is read, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from nacl.signing import SigningKey

from fallow.domain.batches import (
    BATCH_BYTES_MAX,
    BATCH_RECORDS_MAX,
    BATCH_TAG,
    open_batch,
    seal_batch,
    stored_records,
)
from fallow.domain.encoding import decode, encode
from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotAllowed
from fallow.domain.facts import LeaseAccepted, LeaseDeclined, NodeEnrolled, OfferMade, UsageReceipt
from fallow.domain.merkle import merkle_proof, merkle_root, proves
from fallow.domain.records import (
    COUNT_MAX,
    RECORD_BYTES_MAX,
    Body,
    Opening,
    Record,
    check_openings,
    commitment,
    make_record,
    to_builtins,
)
from fallow.domain.resources import Resources, Terms
from fallow.domain.signing import signed_message
from fallow.services.ingest.rules import check_order, check_same

NET = "net"
KEY, OTHER_KEY = SigningKey(bytes(32)), SigningKey(b"1" * 32)
NODE = bytes(KEY.verify_key)


def sign(message: bytes) -> bytes:
    return KEY.sign(message).signature


def record(seq: int, body: Body | None = None, net: str = NET, node: bytes = NODE, boot: int = 3) -> Record:
    body = body or LeaseAccepted(lease=bytes([seq % 256]) * 16)
    made, _ = make_record(body, net=net, node=node, boot=boot, seq=seq, at=1000 + seq, new_salt=lambda: bytes(32))
    return made


def records(count: int, start: int = 5) -> list[Record]:
    return [record(seq) for seq in range(start, start + count)]


def forged(of: Sequence[Record], **changes: Any) -> bytes:
    """A batch whose parts can be anything, correctly signed by our key."""
    encoded = changes.pop("encoded", None) or [one.encode() for one in of]
    first = of[0]
    head = {"net": first.net, "node": first.node, "boot": first.boot, "seq": first.seq, **changes}
    message = encode([head["net"], head["node"], head["boot"], head["seq"], len(encoded), merkle_root(encoded)])
    return encode({**head, "records": encoded, "sig": sign(signed_message(BATCH_TAG, message))})


def refused(data: bytes, net: str = NET) -> str:
    with pytest.raises(FallowError) as caught:
        open_batch(data, net=net)
    assert isinstance(caught.value, InvalidInput | NotAllowed)
    return caught.value.code


# Batches


def test_what_was_sealed_is_opened() -> None:
    sent = records(3)
    data = seal_batch(sent, sign)
    batch = open_batch(data, net=NET)
    assert batch.records == tuple(sent)
    assert (batch.net, batch.node, batch.boot, batch.seq, batch.data) == (NET, NODE, 3, 5, data)
    assert stored_records(data) == sent
    encoded = [one.encode() for one in sent]
    assert all(proves(batch.root, one, merkle_proof(encoded, index)) for index, one in enumerate(encoded))


def test_a_byte_that_was_changed_anywhere_is_noticed() -> None:
    data = seal_batch(records(2), sign)
    for at in range(len(data)):
        for flip in (0x01, 0x80):
            assert refused(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])


def test_a_batch_that_was_cut_or_lengthened_is_refused() -> None:
    data = seal_batch(records(1), sign)
    for end in range(len(data)):
        assert refused(data[:end])
    assert refused(data + b"\0")


def test_a_foreign_signature_is_refused() -> None:
    data = seal_batch(records(1), lambda message: OTHER_KEY.sign(message).signature)
    assert refused(data) == "batch.signature"


def test_a_signature_for_something_else_is_refused() -> None:
    """The same bytes under another tag."""
    data = seal_batch(records(1), lambda message: sign(message.replace(BATCH_TAG.encode(), b"fallow/promise/1")))
    assert refused(data) == "batch.signature"


def test_another_network_is_refused() -> None:
    assert refused(seal_batch(records(1), sign), net="other") == "batch.network"


def test_records_of_another_network_within_are_refused() -> None:
    assert refused(forged([record(5), record(6, net="other")])) == "batch.order"


@pytest.mark.parametrize(
    "wrong",
    [
        [record(5), record(7)],  # a gap
        [record(6), record(5)],  # swapped
        [record(5), record(5)],  # twice
        [record(5), record(6, boot=4)],
        [record(5), record(6, node=bytes(OTHER_KEY.verify_key))],
    ],
)
def test_only_consecutive_records_of_one_boot_make_a_batch(wrong: list[Record]) -> None:
    with pytest.raises(InvalidInput) as caught:
        seal_batch(wrong, sign)
    assert caught.value.code == "batch.order"
    assert refused(forged(wrong)) == "batch.order"


@pytest.mark.parametrize("changes", [{"seq": 6}, {"boot": 4}])
def test_a_head_that_does_not_fit_is_refused(changes: dict[str, int]) -> None:
    assert refused(forged(records(1), **changes)) == "batch.header"


def test_records_that_were_swapped_after_signing_are_refused() -> None:
    envelope = decode(seal_batch(records(2), sign))
    envelope["records"].reverse()
    assert refused(encode(envelope)) == "batch.signature"


def test_a_record_that_was_left_out_is_noticed() -> None:
    envelope = decode(seal_batch(records(3), sign))
    del envelope["records"][2]
    assert refused(encode(envelope)) == "batch.signature"


def test_counts() -> None:
    assert len(open_batch(seal_batch(records(BATCH_RECORDS_MAX), sign), net=NET).records) == BATCH_RECORDS_MAX
    with pytest.raises(InvalidInput, match="1 to 512"):
        seal_batch(records(BATCH_RECORDS_MAX + 1), sign)
    with pytest.raises(InvalidInput, match="1 to 512"):
        seal_batch([], sign)
    assert refused(forged(records(BATCH_RECORDS_MAX + 1))) == "batch.count"
    nothing = encode([NET, NODE, 3, 5, 0, merkle_root([])])
    head = {"net": NET, "node": NODE, "boot": 3, "seq": 5, "records": []}
    assert refused(encode({**head, "sig": sign(signed_message(BATCH_TAG, nothing))})) == "batch.count"


def test_sizes() -> None:
    big = OfferMade(
        offer=1,
        open=True,
        total=Resources(cpu_milli=1, memory_mib=1),
        terms=Terms(price_microusd_per_core_hour=1),
        attributes={f"attribute{number}": "v" * 200 for number in range(60)},
    )
    few = [record(seq, big) for seq in range(5, 50)]
    with pytest.raises(InvalidInput) as caught:
        seal_batch(few, sign)
    assert caught.value.code == "batch.too_large"
    assert refused(bytes(BATCH_BYTES_MAX + 1)) == "batch.too_large"
    with pytest.raises(InvalidInput) as caught:
        Record.decode(bytes(RECORD_BYTES_MAX + 1))
    assert caught.value.code == "record.too_large"


@pytest.mark.parametrize(
    "change",
    [
        {"at": 1.0},
        {"at": -1},
        {"at": COUNT_MAX + 1},
        {"seq": True},
        {"more": 1},
        {"kind": b"lease.accepted"},
        {"body": []},
        {"sealed": {"label": "text"}},
        {"net": None},
    ],
)
def test_records_of_another_form_are_refused(change: dict[str, Any]) -> None:
    fields = {**decode(record(5).encode()), **change}
    import cbor2  # noqa: PLC0415 - writes what our encoding refuses to

    data = cbor2.dumps(fields, canonical=True)
    with pytest.raises(InvalidInput):
        Record.decode(data)
    assert refused(forged(records(1), encoded=[data]))


@pytest.mark.parametrize("field", ["net", "kind", "v", "node", "boot", "seq", "at", "body", "sealed"])
def test_a_record_has_all_its_fields(field: str) -> None:
    fields = decode(record(5).encode())
    del fields[field]
    with pytest.raises(InvalidInput) as caught:
        Record.decode(encode(fields))
    assert caught.value.code == "record.malformed"


# Bodies


def test_a_body_is_read_as_what_it_is() -> None:
    body = UsageReceipt(lease=bytes(16), window=2, used_ms=3, final=True, ok=True, result=bytes(32), measures={"x": 1})
    assert record(5, body).read(UsageReceipt) == body


def test_a_body_of_another_kind_or_version_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        record(5).read(LeaseDeclined)
    assert caught.value.code == "record.kind"
    newer = msgspec.structs.replace(record(5), v=2)
    with pytest.raises(InvalidInput) as caught:
        newer.read(LeaseAccepted)
    assert caught.value.code == "record.kind"


@pytest.mark.parametrize(
    ("body_type", "body"),
    [
        (LeaseAccepted, {"lease": bytes(15)}),
        (LeaseAccepted, {"lease": bytes(16), "more": 1}),
        (LeaseAccepted, {}),
        (LeaseDeclined, {"lease": bytes(16), "reason": "Not For You"}),
        (LeaseDeclined, {"lease": bytes(16), "reason": "a" * 61}),
        (UsageReceipt, {"lease": bytes(16), "window": -1, "used_ms": 0, "final": True}),
        (UsageReceipt, {"lease": bytes(16), "window": 0, "used_ms": 0, "final": True, "result": bytes(31)}),
        (UsageReceipt, {"lease": bytes(16), "window": 0, "used_ms": 0, "final": True, "caused_by": "market"}),
        (UsageReceipt, {"lease": bytes(16), "window": 0, "used_ms": 0, "final": 1}),
        (
            OfferMade,
            {
                "offer": 1,
                "open": True,
                "total": {"cpu_milli": -1, "memory_mib": 1},
                "terms": {"price_microusd_per_core_hour": 1},
            },
        ),
        (
            OfferMade,
            {
                "offer": 1,
                "open": True,
                "total": {"cpu_milli": 1, "memory_mib": 1},
                "terms": {"price_microusd_per_core_hour": -1},
            },
        ),
    ],
)
def test_a_body_that_says_what_none_can_say_is_refused(body_type: type[Body], body: dict[str, Any]) -> None:
    made = msgspec.structs.replace(record(5), kind=body_type.kind, v=body_type.version, body=body)
    with pytest.raises(InvalidInput) as caught:
        made.read(body_type)
    assert caught.value.code == "record.body"


# Private fields

ENROLLED = NodeEnrolled(account=bytes(20), account_signature=bytes(65), label="the attic")


def enrolled() -> tuple[Record, dict[str, Opening]]:
    salts = (bytes([number]) * 32 for number in itertools.count(1))
    return make_record(ENROLLED, net=NET, node=NODE, boot=1, seq=0, at=0, new_salt=lambda: next(salts))


def test_a_private_value_is_not_in_the_record() -> None:
    made, openings = enrolled()
    assert b"attic" not in made.encode()
    assert set(made.sealed) == {"label"}
    assert openings["label"].value == "the attic"
    assert made.read(NodeEnrolled) == msgspec.structs.replace(ENROLLED, label="")
    check_openings(made, openings)


@pytest.mark.parametrize(
    "opening",
    [Opening(b"\2" * 32, "the attic"), Opening(b"\1" * 32, "the cellar"), Opening(b"\1" * 32, b"the attic")],
)
def test_another_salt_or_value_does_not_open_it(opening: Opening) -> None:
    made, _ = enrolled()
    with pytest.raises(InvalidInput) as caught:
        check_openings(made, {"label": opening})
    assert caught.value.code == "record.openings"


def test_a_commitment_is_for_one_network_kind_and_field() -> None:
    opening = Opening(bytes(32), "x")
    all_ = {commitment(net, kind, field, opening) for net in "ab" for kind in "ab" for field in "ab"}
    assert len(all_) == 8


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_salt_has_32_bytes(length: int) -> None:
    made, openings = enrolled()
    short = Opening(bytes(length), openings["label"].value)
    with pytest.raises(InvalidInput) as caught:
        check_openings(made, {"label": short})
    assert caught.value.code == "record.salt"


def test_openings_are_neither_missing_nor_too_many() -> None:
    made, openings = enrolled()
    for wrong in ({}, {**openings, "more": openings["label"]}, {"more": openings["label"]}):
        with pytest.raises(InvalidInput) as caught:
            check_openings(made, wrong)
        assert caught.value.code == "record.openings"


def test_a_value_that_the_encoding_does_not_have_opens_nothing() -> None:
    made, _ = enrolled()
    with pytest.raises(InvalidInput):
        check_openings(made, {"label": Opening(bytes(32), 1.5)})


def test_what_is_private_stands_sealed_and_what_is_public_does_not() -> None:
    made, _ = enrolled()
    open_ = msgspec.structs.replace(made, body={**made.body, "label": "the attic"})
    unsealed = msgspec.structs.replace(made, sealed={})
    more = msgspec.structs.replace(made, sealed={**made.sealed, "account": bytes(32)})
    for wrong in (open_, unsealed, more):
        with pytest.raises(InvalidInput) as caught:
            wrong.read(NodeEnrolled)
        assert caught.value.code == "record.sealed"


def test_only_maps_are_records() -> None:
    class Row(msgspec.Struct, array_like=True):
        value: int

    with pytest.raises(TypeError):
        to_builtins(Row(1))


# What ingest takes


def batch_of(seq: int, boot: int = 3) -> Any:
    return open_batch(seal_batch([record(seq, boot=boot), record(seq + 1, boot=boot)], sign), net=NET)


@pytest.mark.parametrize(
    ("expected", "seq", "boot"),
    [(None, 0, 3), ((3, 7), 7, 3), ((2, 99), 0, 3), ((1, 0), 0, 3)],
)
def test_the_next_number_or_the_first_of_a_later_boot_is_taken(
    expected: tuple[int, int] | None, seq: int, boot: int
) -> None:
    check_order(batch_of(seq, boot), expected)


@pytest.mark.parametrize(
    ("expected", "seq", "boot", "code"),
    [
        (None, 1, 3, "ingest.out_of_order"),
        ((3, 7), 8, 3, "ingest.out_of_order"),
        ((3, 7), 6, 3, "ingest.out_of_order"),
        ((2, 9), 9, 3, "ingest.out_of_order"),
        ((4, 0), 0, 3, "ingest.old_boot"),
        ((4, 7), 7, 3, "ingest.old_boot"),
    ],
)
def test_gaps_repetitions_and_old_boots_are_refused(
    expected: tuple[int, int] | None, seq: int, boot: int, code: str
) -> None:
    with pytest.raises(Conflict) as caught:
        check_order(batch_of(seq, boot), expected)
    assert caught.value.code == code


def test_two_batches_under_one_number_contradict_each_other() -> None:
    batch = batch_of(0)
    check_same(batch, batch.root)
    with pytest.raises(Conflict) as caught:
        check_same(batch, bytes(32))
    assert caught.value.code == "ingest.contradiction"
