"""An archive that was tampered with, by who stores it or by the operator himself: what a stranger's check finds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from nacl.signing import SigningKey

from fallow.adapters.archive import folder_archive
from fallow.domain.batches import join_batch, split_batch
from fallow.domain.epochs.manifest import MANIFEST, STATEMENT, path_of
from fallow.domain.epochs.statement import Statement
from fallow.domain.errors import FallowError
from fallow.domain.facts import LeaseAccepted, UsageReceipt
from fallow.sdk.epochs import verify_epoch
from tests.epoch_files import NET, NETWORK_KEY, EpochFiles, Node, promise

EPOCH = 7


def batches() -> list[bytes]:
    """Three batches of two nodes."""
    first, second = Node(1), Node(2)
    receipt = UsageReceipt(lease=bytes(16), window=0, used_ms=1000, final=True, ok=True)
    return [first.batch(LeaseAccepted(lease=bytes(16)), receipt), second.batch(receipt), first.batch(receipt)]


def archived(folder: Path, made: EpochFiles) -> Path:
    """An archive in a folder; returns that of the epoch in it."""
    made.put(folder_archive(folder))
    return folder / path_of(EPOCH, "")


def test_an_honest_archive_holds(tmp_path: Path) -> None:
    archived(tmp_path, EpochFiles(EPOCH, batches()))
    found = verify_epoch(tmp_path, EPOCH, NETWORK_KEY)
    assert (found.batches, found.records, found.nodes, found.follows) == (3, 4, 2, False)


FILES = ("statement", "manifest", "batches", "records/lease.accepted", "records/usage.receipt")


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found_wherever_it_is(name: str, tmp_path: Path) -> None:
    file = archived(tmp_path, EpochFiles(EPOCH, batches())) / name
    whole = file.read_bytes()
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        with pytest.raises(FallowError, match=r"\[(archive|signing|encoding)\."):
            verify_epoch(tmp_path, EPOCH, NETWORK_KEY)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(name: str, tmp_path: Path) -> None:
    (archived(tmp_path, EpochFiles(EPOCH, batches())) / name).unlink()
    with pytest.raises(FallowError, match=r"archive\.damaged"):
        verify_epoch(tmp_path, EPOCH, NETWORK_KEY)


def test_a_manifest_and_files_that_fit_one_another_do_not_fit_the_statement(tmp_path: Path) -> None:
    other = EpochFiles(EPOCH, batches()[:2])
    folder = archived(tmp_path, EpochFiles(EPOCH, batches()))
    for name, data in other.files.items():
        (folder / name).write_bytes(data)
    (folder / MANIFEST).write_bytes(other.manifest.encode())
    with pytest.raises(FallowError, match=r"archive\.manifest"):
        verify_epoch(tmp_path, EPOCH, NETWORK_KEY)


def test_another_epoch_is_not_passed_off_as_this_one(tmp_path: Path) -> None:
    folder = archived(tmp_path, EpochFiles(EPOCH, batches()))
    folder.rename(folder.with_name("8"))
    with pytest.raises(FallowError, match=r"archive\.epoch"):
        verify_epoch(tmp_path, 8, NETWORK_KEY)


def test_a_statement_under_another_key_is_none(tmp_path: Path) -> None:
    folder = archived(tmp_path, EpochFiles(EPOCH, batches()))
    said = Statement.open((folder / STATEMENT).read_bytes(), NETWORK_KEY)
    (folder / STATEMENT).write_bytes(said.seal(lambda message: SigningKey(b"x" * 32).sign(message).signature))
    with pytest.raises(FallowError, match=r"signing\.signature"):
        verify_epoch(tmp_path, EPOCH, NETWORK_KEY)


def dropped() -> EpochFiles:
    """The operator leaves a batch out, after which its node sent another one."""
    node = Node(1)
    first, _, third = (node.batch(LeaseAccepted(lease=bytes(16))) for _ in range(3))
    return EpochFiles(EPOCH, [first, third])


def forged() -> EpochFiles:
    """The operator writes a larger number into a receipt and promises himself the batch."""
    honest = batches()[1]
    parts = split_batch(honest)
    at = parts.records[0].index(b"used_ms") + len(b"used_ms") + 1
    raw = parts.records[0][:at] + (2000).to_bytes(2, "big") + parts.records[0][at + 2 :]
    return EpochFiles(EPOCH, [join_batch(NET, parts._replace(records=[raw]))], [promise(honest, EPOCH)])


def invented() -> EpochFiles:
    """The operator signs for a node with a key of his own."""
    stranger, victim = Node(9), Node(1)
    stranger.id = victim.id
    batch = stranger.batch(LeaseAccepted(lease=bytes(16)))
    genuine = victim.batch(LeaseAccepted(lease=bytes(16)))
    return EpochFiles(EPOCH, [batch], [promise(genuine, EPOCH)])


def moved() -> EpochFiles:
    """The operator counts a batch that he promised for another epoch."""
    return EpochFiles(EPOCH, batches()[:1], [promise(batches()[0], EPOCH + 1)])


@pytest.mark.parametrize(
    ("lie", "code"),
    [(dropped, "archive.order"), (forged, "archive.batch"), (invented, "archive.batch"), (moved, "archive.promise")],
)
def test_an_operator_who_signs_for_a_lie_is_found_all_the_same(
    lie: Callable[[], EpochFiles], code: str, tmp_path: Path
) -> None:
    archived(tmp_path, lie())
    with pytest.raises(FallowError, match=code.replace(".", r"\.")):
        verify_epoch(tmp_path, EPOCH, NETWORK_KEY)


def test_a_history_that_was_rewritten_does_not_follow(tmp_path: Path) -> None:
    archive = folder_archive(tmp_path)
    before, now = EpochFiles(EPOCH - 1, batches()[:1]), EpochFiles(EPOCH, batches()[1:2])
    before.put(archive)
    now.put(archive, previous=hashlib.sha256(before.sealed()).digest())
    assert verify_epoch(tmp_path, EPOCH, NETWORK_KEY).follows
    (tmp_path / path_of(EPOCH - 1, STATEMENT)).write_bytes(before.sealed(until_ms=2))
    with pytest.raises(FallowError, match=r"archive\.chain"):
        verify_epoch(tmp_path, EPOCH, NETWORK_KEY)


def test_what_the_closing_made_is_held_against_the_statement(tmp_path: Path) -> None:
    made = EpochFiles(EPOCH, batches())
    state = msgspec.structs.replace(
        made.manifest.files[0], name="state", size=3, sha256=hashlib.sha256(b"abc").digest()
    )
    made.put(folder_archive(tmp_path), files=[state])
    with pytest.raises(FallowError, match=r"archive\.damaged"):
        verify_epoch(tmp_path, EPOCH, NETWORK_KEY)
    (tmp_path / path_of(EPOCH, "state")).write_bytes(b"abc")
    assert verify_epoch(tmp_path, EPOCH, NETWORK_KEY).batches == 3
