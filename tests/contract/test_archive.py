"""What every archive promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from fallow.adapters.archive import PIECE_BYTES, StoreArchive, folder_archive, memory_archive, url_archive
from fallow.domain.errors import InvalidInput, NotFound, Unavailable
from fallow.ports.archive import Archive, Archived, whole

LARGE = bytes(range(256)) * (2 * PIECE_BYTES // 256) + b"end"


@pytest.fixture(params=["folder", "memory"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> StoreArchive:
    return folder_archive(tmp_path / "archive") if request.param == "folder" else memory_archive()


@pytest.mark.parametrize("data", [b"", b"x", LARGE], ids=["empty", "small", "large"])
def test_what_was_put_is_read_back(archive: Archive, data: bytes) -> None:
    archive.put("epochs/7/records/usage.receipt", data)
    assert b"".join(archive.read("epochs/7/records/usage.receipt")) == data
    assert archive.size("epochs/7/records/usage.receipt") == len(data)


def test_a_file_is_put(archive: Archive, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(LARGE)
    with (tmp_path / "part").open("rb") as file:
        archive.put("epochs/7/batches", file)
    assert b"".join(archive.read("epochs/7/batches")) == LARGE


@pytest.mark.parametrize(
    ("start", "end"), [(0, 3), (PIECE_BYTES - 2, PIECE_BYTES + 5), (len(LARGE) - 2, 1 << 40), (1 << 40, None)]
)
def test_a_range_is_read(archive: Archive, start: int, end: int | None) -> None:
    archive.put("a", LARGE)
    assert b"".join(archive.read("a", start, end)) == LARGE[start:end]
    assert whole(archive, "a", 10) == LARGE[:11]


def test_putting_replaces_and_creating_does_not(archive: Archive) -> None:
    archive.put("a", b"1")
    archive.put("a", b"2")
    assert not archive.create("a", b"3")
    assert archive.create("b/c", b"4")
    assert (whole(archive, "a", 9), whole(archive, "b/c", 9)) == (b"2", b"4")


def test_what_is_not_there_is_said(archive: Archive) -> None:
    with pytest.raises(NotFound, match=r"archive\.missing"):
        archive.size("epochs/1/batches")
    with pytest.raises(NotFound, match=r"archive\.missing"):
        list(archive.read("epochs/1/batches"))


def test_names_below_a_prefix_in_order(archive: Archive) -> None:
    for name in ("epochs/10/manifest", "epochs/1/records/b", "epochs/1/batches", "other"):
        archive.put(name, name.encode())
    assert list(archive.names("epochs/1/")) == [Archived("epochs/1/batches", 16), Archived("epochs/1/records/b", 18)]
    assert list(archive.names("epochs/2/")) == []
    assert sorted(archive.folders("epochs/")) == ["1", "10"]
    assert archive.folders("epochs/1/") == ["records"]
    assert archive.folders("nothing/") == []


def test_a_folder_that_cannot_be_written_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "epochs").write_text("a file where a folder should be")
    with pytest.raises(Unavailable, match=r"archive\.unavailable"):
        folder_archive(tmp_path).put("epochs/1/batches", b"x")


def test_a_store_by_url(tmp_path: Path) -> None:
    archive = url_archive(f"file://{tmp_path}")
    archive.put("a", b"1")
    assert (tmp_path / "a").read_bytes() == b"1"
    with pytest.raises(InvalidInput, match=r"archive\.url"):
        url_archive("gopher://example.org/1")
