"""Images that are not what they say, want to lead out of themselves, or are larger than they look."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import struct
import tarfile
from pathlib import Path

import pytest

from fallow.domain.errors import InvalidInput, TooMuch
from fallow.verticals.compute.worker.image_check import Checked, check_layout, import_archive
from fallow.verticals.compute.worker.image_child import Task
from fallow.verticals.compute.worker.images import check
from tests.container_jobs import Image, Pack, bare, docker_archive, entry, gzipped, layer, oci_archive, tar, zstd

MIB = 1 << 20
PLATFORM = "linux/amd64"


def take(folder: Path, archive: bytes, *, bytes_max: int = 16 * MIB) -> Checked:
    """Take an archive as a node does."""
    path = folder / "image.tar"
    path.write_bytes(archive)
    import_archive(path, folder / "layout", bytes_max=bytes_max)
    return check_layout(folder / "layout", PLATFORM, bytes_max=bytes_max)


GOOD = bare(layer((entry("file"), b"content")))


@pytest.mark.parametrize(
    "archive", [oci_archive(GOOD), oci_archive(GOOD, gzipped), oci_archive(GOOD, zstd), docker_archive(GOOD)]
)
def test_a_good_image_has_the_id_of_its_config(tmp_path: Path, archive: bytes) -> None:
    assert take(tmp_path, archive) == Checked(GOOD.id, len(GOOD.layers[0]))
    named = json.loads((tmp_path / "layout" / "index.json").read_bytes())["manifests"]
    assert len(named) == 1
    # The config, the layer and our own manifest, and nothing else that was in the archive.
    assert len(list((tmp_path / "layout" / "blobs" / "sha256").iterdir())) == 3


@pytest.mark.parametrize(
    "bad",
    [
        (entry("../out"), b"x"),
        (entry("a/../../out"), b"x"),
        (entry("/etc/passwd"), b"x"),
        (entry("device", tarfile.CHRTYPE), b""),
        (entry("device", tarfile.BLKTYPE), b""),
        (entry("hard", tarfile.LNKTYPE, "../../etc/shadow"), b""),
        (entry("hard", tarfile.LNKTYPE, "/etc/shadow"), b""),
    ],
)
@pytest.mark.parametrize("pack", [gzipped, zstd])
def test_entries_of_a_layer_that_lead_out_of_it(tmp_path: Path, bad: tuple[tarfile.TarInfo, bytes], pack: Pack) -> None:
    with pytest.raises(InvalidInput):
        take(tmp_path, oci_archive(bare(layer(bad)), pack))


def test_layers_of_another_image_under_its_config(tmp_path: Path) -> None:
    """Who comes later and wants the honest image would be given this one: it has its id."""
    poisoned = Image(GOOD.config, (layer((entry("file"), b"another")),))
    for name, archive in (("oci", oci_archive(poisoned)), ("docker", docker_archive(poisoned))):
        (tmp_path / name).mkdir()
        with pytest.raises(InvalidInput, match="not the one that the image's config names"):
            take(tmp_path / name, archive)


def test_a_blob_under_a_hash_that_it_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="does not have that hash"):
        take(tmp_path, oci_archive(GOOD).replace(b"content", b"CONTENT"))


@pytest.mark.parametrize("pack", [gzipped, zstd])
def test_a_layer_that_unpacks_to_more_than_a_node_takes(tmp_path: Path, pack: Pack) -> None:
    bomb = bare(layer((entry("zeros"), bytes(32 * MIB))))
    packed = oci_archive(bomb, pack)
    assert len(packed) < MIB
    with pytest.raises(TooMuch):
        take(tmp_path, packed)


def test_zeros_behind_a_layers_end_count_too(tmp_path: Path) -> None:
    with pytest.raises(TooMuch):
        take(tmp_path, oci_archive(bare(GOOD.layers[0] + bytes(32 * MIB)), gzipped))


async def test_a_header_that_fills_the_memory_of_who_reads_it(tmp_path: Path) -> None:
    head = entry("pax", tarfile.XHDTYPE)
    head.size = 2 << 30
    path = tmp_path / "image.tar"
    path.write_bytes(head.tobuf())
    os.truncate(path, 3 << 30)  # a hole, read as zeros
    with pytest.raises(InvalidInput, match="not sound: MemoryError"):
        await check(Task(str(tmp_path / "layout"), PLATFORM, 8 << 30, str(path)))


@pytest.mark.parametrize(
    "member",
    [
        entry(f"blobs/sha256/{GOOD.id}", tarfile.SYMTYPE, "/etc/shadow"),
        entry(f"blobs/sha256/{GOOD.id}", tarfile.SYMTYPE, "../../../../../../etc/shadow"),
        entry(f"blobs/sha256/{GOOD.id}", tarfile.LNKTYPE, "/etc/shadow"),
        entry(f"blobs/sha256/{GOOD.id}", tarfile.SYMTYPE, GOOD.id),
        entry(f"blobs/sha256/{GOOD.id}", tarfile.CHRTYPE),
    ],
)
def test_an_archive_whose_parts_are_links_and_devices(tmp_path: Path, member: tarfile.TarInfo) -> None:
    with tarfile.open(fileobj=io.BytesIO(oci_archive(GOOD))) as source:
        files = {one.name: source.extractfile(one).read() for one in source}  # type: ignore[union-attr]
    del files[f"blobs/sha256/{GOOD.id}"]
    parts = [(entry(name), data) for name, data in files.items()]
    with pytest.raises(InvalidInput, match="lacks a part"):
        take(tmp_path, layer((member, b""), *parts))


def test_links_within_a_saved_archive_are_other_names(tmp_path: Path) -> None:
    """As Docker saved a layer that an image has twice, and podman still does."""
    twice = Image(GOOD.config.replace(*_once_and_twice()), GOOD.layers * 2)
    saved = [{"Config": "config.json", "Layers": ["a/layer.tar", "b/layer.tar"]}]
    archive = layer(
        (entry("config.json"), twice.config),
        (entry("a/layer.tar"), GOOD.layers[0]),
        (entry("b/layer.tar", tarfile.SYMTYPE, "../a/layer.tar"), b""),
        (entry("manifest.json"), json.dumps(saved).encode()),
    )
    assert take(tmp_path, archive) == Checked(twice.id, 2 * len(GOOD.layers[0]))


def _once_and_twice() -> tuple[bytes, bytes]:
    digest = json.loads(GOOD.config)["rootfs"]["diff_ids"][0]
    return f'["{digest}"]'.encode(), f'["{digest}", "{digest}"]'.encode()


@pytest.mark.parametrize("name", ["../../escaped", "/opt/escaped-by-an-archive", "blobs/sha256/../../../escaped"])
def test_names_of_an_archive_that_lead_out_of_it(tmp_path: Path, name: str) -> None:
    with tarfile.open(fileobj=io.BytesIO(oci_archive(GOOD))) as source:
        files = {member.name: source.extractfile(member).read() for member in source}  # type: ignore[union-attr]
    with contextlib.suppress(InvalidInput):
        take(tmp_path, tar({name: b"x", **files}))
    assert not list(tmp_path.rglob("escaped*"))
    assert not list(tmp_path.parent.glob("escaped*"))
    assert not Path("/opt/escaped-by-an-archive").exists()


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        b"no archive",
        tar({}),
        tar({"index.json": b"{"}),
        tar({"index.json": b'{"manifests":[]}'}),
        tar({"index.json": json.dumps({"manifests": [{"digest": "sha256:" + "0" * 64, "size": 1}]}).encode()}),
        tar({"index.json": json.dumps({"manifests": [{"digest": "sha256:../../index", "size": 1}]}).encode()}),
        tar({"manifest.json": b"[]"}),
        tar({"manifest.json": b'[{"Config":"../../etc/passwd","Layers":[]}]'}),
        oci_archive(bare(b"no layer")),
        oci_archive(Image(GOOD.config.replace(b"amd64", b"s390x"), GOOD.layers)),
        oci_archive(Image(GOOD.config, GOOD.layers * 2)),
    ],
)
def test_what_is_no_image(tmp_path: Path, archive: bytes) -> None:
    with pytest.raises(InvalidInput):
        take(tmp_path, archive)


def test_indexes_of_indexes_come_to_an_end(tmp_path: Path) -> None:
    inner = b'{"manifests":[]}'
    with tarfile.open(fileobj=io.BytesIO(oci_archive(Image(inner, ())))) as source:
        names = [member.name for member in source if member.name.startswith("blobs/")]
        files = {name: source.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    digest = next(name for name, data in files.items() if data == inner).rpartition("/")[2]
    index = json.dumps({"manifests": [{"digest": f"sha256:{digest}", "size": 1}] * 1000}).encode()
    with pytest.raises(InvalidInput, match="no image for"):
        take(tmp_path, tar({"oci-layout": b"{}", "index.json": index, **files}))


def test_what_a_layer_packed_with_zstd_is_to_the_engine(tmp_path: Path) -> None:
    """Frames after one another and frames to be skipped are read as one; the engine gets what was read, unpacked."""
    plain = GOOD.layers[0]

    def in_parts(data: bytes) -> bytes:
        skipped = struct.pack("<II", 0x184D2A50, 4) + b"skip"
        return zstd(data[:100]) + skipped + zstd(data[100:]) + skipped

    assert take(tmp_path, oci_archive(GOOD, in_parts)) == Checked(GOOD.id, len(plain))
    blobs = tmp_path / "layout" / "blobs" / "sha256"
    assert (blobs / hashlib.sha256(plain).hexdigest()).read_bytes() == plain
    assert len(list(blobs.iterdir())) == 3


@pytest.mark.parametrize(
    "twist",
    [
        lambda data: data[:-5],
        lambda data: data[:20] + bytes([data[20] ^ 255]) + data[21:],
        lambda data: data + b"more",
        lambda data: data + zstd(b"more"),
        lambda data: data[:4] + b"\xff" * 100,
    ],
)
def test_a_layer_packed_with_zstd_that_is_broken_or_says_more(tmp_path: Path, twist: Pack) -> None:
    with pytest.raises(InvalidInput):
        take(tmp_path, oci_archive(GOOD, lambda data: twist(zstd(data))))


@pytest.mark.parametrize(("window_log", "good"), [(27, True), (28, False)])
def test_a_layer_that_asks_for_more_memory_than_a_reader_gives(tmp_path: Path, window_log: int, good: bool) -> None:
    """A frame's header names the window that its reader has to hold (RFC 8878, section 3.1.1.1.2)."""

    def pack(plain: bytes) -> bytes:
        raw_and_last = struct.pack("<I", len(plain) << 3 | 1)[:3]
        return b"\x28\xb5\x2f\xfd\x00" + bytes([window_log - 10 << 3]) + raw_and_last + plain

    archive = oci_archive(GOOD, pack)
    if good:
        assert take(tmp_path, archive).image == GOOD.id
        return
    with pytest.raises(InvalidInput, match="not sound"):
        take(tmp_path, archive)
