"""The files of an epoch: what was filed is read back exactly, and whatever somebody changed is found."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from fallow.domain.batches import join_batch, open_batch, split_batch
from fallow.domain.encoding import encode
from fallow.domain.epochs.filing import kind_of
from fallow.domain.epochs.manifest import File, Manifest, frame, read_frames
from fallow.domain.epochs.reading import checked_records, filed_records, read_batches, records_of_kind
from fallow.domain.errors import InvalidInput
from fallow.domain.facts import LeaseAccepted, LeaseDeclined, UsageReceipt
from fallow.domain.records import Body, Record
from tests.epoch_files import NET, NETWORK_KEY, EpochFiles, Node, promise


class Rumour(Body, frozen=True, kw_only=True):
    """A kind that nobody knows."""

    kind = "gossip.heard"
    version = 1


def lease(number: int) -> bytes:
    return number.to_bytes(16, "big")


def accepted(number: int) -> Body:
    return LeaseAccepted(lease=lease(number))


def receipt(number: int) -> Body:
    return UsageReceipt(lease=lease(number), window=0, used_ms=1000, final=True, ok=True)


def some_batches() -> list[bytes]:
    first, second = Node(1), Node(2)
    return [
        first.batch(accepted(1), receipt(1), accepted(2)),
        second.batch(receipt(7)),
        first.batch(LeaseDeclined(lease=lease(3), reason="busy"), Rumour()),
        first.batch(receipt(2)),
    ]


def test_batches_come_back_byte_for_byte_and_records_in_order() -> None:
    batches = some_batches()
    epoch = EpochFiles(7, batches)
    assert sorted(epoch.files) == [
        "batches",
        "records/lease.accepted",
        "records/lease.declined",
        "records/other",
        "records/usage.receipt",
    ]
    read = list(read_batches(epoch.manifest, epoch.read))
    assert [join_batch(NET, filed.parts) for filed in read] == batches
    records = list(checked_records(epoch.manifest, epoch.read, NETWORK_KEY))
    assert [(filed.batch, filed.place, filed.record.kind) for filed in records] == [
        (0, 0, "lease.accepted"),
        (0, 1, "usage.receipt"),
        (0, 2, "lease.accepted"),
        (1, 0, "usage.receipt"),
        (2, 0, "lease.declined"),
        (2, 1, "gossip.heard"),
        (3, 0, "usage.receipt"),
    ]
    assert {filed.received_ms for filed in records} == {9}, "as the network has promised"
    assert list(filed_records(epoch.manifest, epoch.read)) == records
    assert [filed.raw for filed in records] == [raw for batch in batches for raw in split_batch(batch).records]
    of_kind = [filed._replace(received_ms=0) for filed in records if filed.record.kind == "usage.receipt"]
    assert list(records_of_kind(epoch.manifest, epoch.read, "usage.receipt")) == of_kind
    assert list(records_of_kind(epoch.manifest, epoch.read, "offer.made")) == []


def test_an_epoch_without_a_batch() -> None:
    epoch = EpochFiles(7, [])
    assert list(checked_records(epoch.manifest, epoch.read, NETWORK_KEY)) == []
    assert Manifest.decode(epoch.manifest.encode()) == epoch.manifest


@given(st.data())
def test_any_flipped_bit_is_found(data: st.DataObject) -> None:
    epoch = EpochFiles(7, some_batches())
    name = data.draw(st.sampled_from(sorted(epoch.files)))
    at = data.draw(st.integers(0, len(epoch.files[name]) - 1))
    epoch.files[name][at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(InvalidInput, match=r"archive\.(damaged|batch|promise|order)"):
        list(checked_records(epoch.manifest, epoch.read, NETWORK_KEY))
    with pytest.raises(InvalidInput, match=r"archive\.damaged"):
        list(read_frames(epoch.manifest.file(name), epoch.read(name)))


@given(st.data())
def test_a_file_that_is_cut_or_grows_is_found(data: st.DataObject) -> None:
    epoch = EpochFiles(7, some_batches())
    name = data.draw(st.sampled_from(sorted(epoch.files)))
    whole = bytes(epoch.files[name])
    epoch.files[name] = bytearray(data.draw(st.sampled_from([whole + b"\0", whole + whole, whole[:-1], b""])))
    with pytest.raises(InvalidInput, match=r"archive\.damaged"):
        list(checked_records(epoch.manifest, epoch.read, NETWORK_KEY))


def refiled(epoch: EpochFiles) -> Manifest:
    """The manifest that an operator would write who wants changed files to be believed."""
    files = [
        File(name=file.name, size=len(data), sha256=hashlib.sha256(data).digest(), count=file.count)
        for file in epoch.manifest.files
        for data in [epoch.files[file.name]]
    ]
    return Manifest(net=NET, epoch=epoch.manifest.epoch, files=files)


def test_a_record_that_is_changed_together_with_the_manifest_fits_no_signature() -> None:
    epoch = EpochFiles(7, some_batches())
    data = epoch.files["records/usage.receipt"]
    at = data.index(b"used_ms") + len(b"used_ms") + 1
    data[at : at + 2] = (2000).to_bytes(2, "big")
    with pytest.raises(InvalidInput, match=r"archive\.batch"):
        list(checked_records(refiled(epoch), epoch.read, NETWORK_KEY))


def test_a_file_that_the_manifest_leaves_out_leaves_batches_with_holes() -> None:
    epoch = EpochFiles(7, some_batches())
    files = [file for file in epoch.manifest.files if file.name != "records/lease.declined"]
    with pytest.raises(InvalidInput, match=r"archive\.damaged"):
        list(checked_records(msgspec.structs.replace(epoch.manifest, files=files), epoch.read, NETWORK_KEY))


def test_a_batch_that_was_dropped_leaves_a_gap_in_its_nodes_numbers() -> None:
    batches = some_batches()
    epoch = EpochFiles(7, [batches[0], batches[1], batches[3]])
    with pytest.raises(InvalidInput, match=r"archive\.order"):
        list(checked_records(epoch.manifest, epoch.read, NETWORK_KEY))


def test_a_batch_that_is_there_twice_is_found() -> None:
    batches = some_batches()
    epoch = EpochFiles(7, [*batches, batches[1]])
    with pytest.raises(InvalidInput, match=r"archive\.order"):
        list(checked_records(epoch.manifest, epoch.read, NETWORK_KEY))


def test_a_node_that_starts_anew_counts_from_nothing() -> None:
    node = Node(1)
    batches = [node.batch(accepted(1), accepted(2))]
    node.boot, node.seq = 5, 0
    epoch = EpochFiles(7, [*batches, node.batch(accepted(3))])
    assert len(list(checked_records(epoch.manifest, epoch.read, NETWORK_KEY))) == 3


@pytest.mark.parametrize(
    "forge",
    [
        lambda batch: promise(batch, 8),
        lambda batch: promise(batch, 7, key=SigningKey(b"f" * 32)),
        lambda batch: promise(Node(9).batch(accepted(1)), 7),  # noqa: ARG005 - of another batch
        lambda batch: b"",  # noqa: ARG005
    ],
    ids=["epoch", "key", "batch", "none"],
)
def test_a_promise_that_does_not_fit_is_found(forge: Callable[[bytes], bytes]) -> None:
    batch = Node(1).batch(accepted(1))
    epoch = EpochFiles(7, [batch], [forge(batch)])
    with pytest.raises(InvalidInput, match=r"archive\.promise"):
        list(checked_records(epoch.manifest, epoch.read, NETWORK_KEY))


def test_records_of_another_node_are_not_passed_off_as_ones_own() -> None:
    mine, other = Node(1).batch(accepted(1)), Node(2).batch(accepted(2))
    forged = split_batch(mine)._replace(records=split_batch(other).records)
    epoch = EpochFiles(7, [join_batch(NET, forged)], [promise(mine, 7)])
    with pytest.raises(InvalidInput, match=r"archive\.batch"):
        list(checked_records(epoch.manifest, epoch.read, NETWORK_KEY))


def swapped(frames: list[list[Any]]) -> list[list[Any]]:
    return [frames[1], frames[0]]


def doubled(frames: list[list[Any]]) -> list[list[Any]]:
    return [frames[0], frames[0], *frames[1:]]


def stuttering(frames: list[list[Any]]) -> list[list[Any]]:
    batch, indexes, raws = frames[0]
    return [[batch, [*indexes, *indexes], [*raws, *raws]], *frames[1:]]


def of_nobody(frames: list[list[Any]]) -> list[list[Any]]:
    return [*frames, [99, [0], [b"x"]]]


def uneven(frames: list[list[Any]]) -> list[list[Any]]:
    batch, indexes, raws = frames[0]
    return [[batch, [*indexes, 1], raws], *frames[1:]]


@pytest.mark.parametrize("change", [swapped, doubled, stuttering, of_nobody, uneven])
def test_records_that_are_out_of_place_are_found(
    change: Callable[[list[list[Any]]], list[list[Any]]],
) -> None:
    epoch = EpochFiles(7, some_batches())
    name = "records/usage.receipt"
    frames = change(list(read_frames(epoch.manifest.file(name), epoch.read(name))))
    epoch.files[name] = bytearray(b"".join(frame(value) for value in frames))
    with pytest.raises(InvalidInput, match=r"archive\.damaged"):
        list(checked_records(refiled(epoch), epoch.read, NETWORK_KEY))


def test_a_count_that_no_batch_has_is_refused_before_anything_is_made_of_it() -> None:
    epoch = EpochFiles(7, [Node(1).batch(accepted(1))])
    (head,) = read_frames(epoch.manifest.file("batches"), epoch.read("batches"))
    head[3] = 1 << 60
    epoch.files["batches"] = bytearray(frame(head))
    with pytest.raises(InvalidInput, match=r"archive\.damaged"):
        list(read_batches(refiled(epoch), epoch.read))


def test_bytes_that_are_no_record_are_found_where_no_signature_is_looked_at() -> None:
    epoch = EpochFiles(7, [Node(1).batch(accepted(1), accepted(2))])
    broken = frame([0, [0, 1], [b"\xa1", b"\xff"]])
    epoch.files["records/lease.accepted"][:] = broken
    with pytest.raises(InvalidInput, match=r"archive\.damaged"):
        list(filed_records(refiled(epoch), epoch.read))


@given(st.text(max_size=30), st.binary(max_size=30), st.booleans())
def test_a_records_kind_is_found_whatever_else_is_in_it(kind: str, said: bytes, hostile: bool) -> None:
    """A kind that was read wrong would put a record into another one's file."""
    inside = b"dkind\x6dusage.receipt" + said if hostile else said
    record = Record(
        net=NET, kind=kind, v=1, node=inside, boot=1, seq=0, at=0, body={"kind": kind, "x": inside}, sealed={}
    )
    assert kind_of(record.encode()) == kind
    assert kind_of(msgspec.structs.replace(record, body={}, kind=f"dkindcabc{kind}").encode()) == f"dkindcabc{kind}"


def test_a_frame_has_an_end() -> None:
    data = (1 << 31).to_bytes(4, "big") + b"x" * 100
    file = File(name="batches", size=len(data), sha256=hashlib.sha256(data).digest(), count=1)
    with pytest.raises(InvalidInput, match=r"archive\.damaged"):
        list(read_frames(file, [data]))


def test_a_manifest_has_one_form() -> None:
    manifest = EpochFiles(7, some_batches()).manifest
    assert Manifest.decode(manifest.encode()) == manifest
    as_map = msgspec.to_builtins(manifest, builtin_types=(bytes,))
    files = as_map["files"]
    outside = {**files[0], "name": "../../secrets"}
    for wrong in (files[1:], [*files, files[-1]], files[::-1], [*files, outside], []):
        with pytest.raises(InvalidInput, match=r"archive\.manifest"):
            Manifest.decode(encode({**as_map, "files": wrong}))
    with pytest.raises(InvalidInput, match=r"archive\.manifest"):
        Manifest.decode(encode({**as_map, "format": "fallow/archive/2"}))
    with pytest.raises(InvalidInput, match=r"archive\.manifest"):
        manifest.file("nothing")


def test_joining_is_the_inverse_of_splitting() -> None:
    for batch in some_batches():
        assert join_batch(NET, split_batch(batch)) == batch
        assert open_batch(batch, net=NET).data == batch
