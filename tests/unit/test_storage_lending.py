"""What an owner lends to storage: how he says it, and a folder that is this node's alone."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from fallow.domain.errors import Conflict, FallowError, InvalidInput, NotAllowed, Unavailable
from fallow.verticals.storage.core.lending import Lending, read_lending, size_text
from fallow.verticals.storage.plugin import VERTICAL
from fallow.verticals.storage.worker.folder import MARK, NOTE, Folder
from fallow.verticals.storage.worker.worker import OPEN_S
from tests.storage_node import Node
from tests.unit.agent_fakes import FakeClock

SIZE = "64MiB"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("/srv/fallow:500GB", Lending("/srv/fallow", 500 * 10**9)),
        ("/srv/a:b:1.5TB", Lending("/srv/a:b", 1_500 * 10**9)),
        ("/x:200MiB", Lending("/x", 200 << 20)),
        ("/x:0.125 GiB", Lending("/x", 128 << 20)),
        ("/srv/fallow:500GB:cached", Lending("/srv/fallow", 500 * 10**9, durable=False)),
        ("/srv/a:cached:500GB", Lending("/srv/a:cached", 500 * 10**9)),
    ],
)
def test_an_owner_says_a_folder_and_a_size(text: str, meant: Lending) -> None:
    assert read_lending(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/x",
        "/x:",
        "x:1GB",
        "~/x:1GB",
        "/x:1",
        "/x:1gb",
        "/x:-1GB",
        "/x:1.2345GB",
        "/x:10MB",
        "/x\n/y:1GB",
        "/x:cached",
    ],
)
def test_what_is_no_folder_and_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_lending(text)
    assert caught.value.code == "agent.lends"


def test_sizes_are_said_as_disks_are_sold() -> None:
    assert [size_text(n) for n in (1_500_000_000_000, 200 << 20, 12_345)] == ["1.5 TB", "209.7 MB", "12.35 kB"]


def test_the_owner_agrees_to_a_sentence_and_nothing_is_made_yet(tmp_path: Path) -> None:
    text = VERTICAL.check_lending(f"{tmp_path / 'new'}:{SIZE}")
    assert f"67.11 MB of disk in {tmp_path / 'new'}" in text
    assert "power failure" not in text
    assert "power failure" in VERTICAL.check_lending(f"{tmp_path / 'new'}:{SIZE}:cached")
    assert not (tmp_path / "new").exists()
    assert VERTICAL.check_lending(f"{tmp_path}:{SIZE}"), "an empty folder is fine, too"


def test_a_folder_that_cannot_be_lent_is_refused_before_the_owner_agrees(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.log").write_text("mine")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "file").write_text("")
    for words in (f"{tmp_path / 'full'}:{SIZE}", f"{tmp_path / 'open'}:{SIZE}", f"{tmp_path / 'file'}:{SIZE}",
                  f"{tmp_path / 'file' / 'below'}:{SIZE}", f"{tmp_path}:9999999TB", "/proc/x:1GB"):  # fmt: skip
        with pytest.raises(InvalidInput) as caught:
            VERTICAL.check_lending(words)
        assert caught.value.code == "agent.lends"
    assert (tmp_path / "full" / "letter.log").read_text() == "mine"


def folder(path: Path, kept: Path, node: bytes = b"n" * 32) -> Folder:
    return Folder(path, kept, net="lab-1", node=node)


def test_a_folder_is_claimed_once_and_by_one_node(tmp_path: Path) -> None:
    path, kept = tmp_path / "a" / "lent", tmp_path / "kept"
    folder(path, kept).claim()
    folder(path, kept).claim()
    assert path.stat().st_mode & 0o777 == 0o700
    with pytest.raises(Conflict):
        folder(path, tmp_path / "other", b"m" * 32).claim()
    path.chmod(0o722)
    with pytest.raises(NotAllowed):
        folder(path, kept).claim()


def test_a_mark_that_nobody_can_read_is_another_s(tmp_path: Path) -> None:
    path, kept = tmp_path / "lent", tmp_path / "kept"
    folder(path, kept).claim()
    (path / MARK).write_bytes(b"\xff\xfe\0")
    (kept / NOTE).write_bytes(b"\xff\n")
    with pytest.raises(Conflict):
        folder(path, kept).claim()
    folder(path, kept).erase()
    assert (path / MARK).exists()


def test_a_mark_for_which_there_was_no_room_keeps_nobody_from_lending_the_folder_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, kept = tmp_path / "lent", tmp_path / "kept"

    def full(file: Path, _data: bytes) -> None:
        file.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(Unavailable, match="No space left"):
            folder(path, kept).claim()
    folder(path, kept).claim()
    folder(path, kept).claim()


def test_a_folder_whose_disk_is_not_mounted_is_not_begun_anew(tmp_path: Path) -> None:
    path, kept = tmp_path / "lent", tmp_path / "kept"
    folder(path, kept).claim()
    (path / MARK).unlink()  # what is below a mount point
    with pytest.raises(Unavailable) as caught:
        folder(path, kept).claim()
    assert caught.value.code == "storage.folder_gone"
    assert list(path.iterdir()) == []


def test_what_is_another_s_is_never_removed(tmp_path: Path) -> None:
    path, kept = tmp_path / "lent", tmp_path / "kept"
    folder(path, kept).claim()
    (path / "00000001.log").write_bytes(b"pieces")
    folder(path, kept, b"m" * 32).erase()
    assert (path / "00000001.log").exists()
    mine = [path / "letter", path / "rsync.log"]
    for one in mine:
        one.write_text("mine")
    folder(path, kept).erase()
    assert sorted(path.iterdir()) == mine
    folder(path, kept).erase()
    folder(tmp_path / "nothing", kept).erase()
    for one in mine:
        one.unlink()
    folder(path, kept).claim()
    folder(path, kept).erase()
    assert not path.exists()


async def test_pieces_stay_when_a_node_leaves_and_go_when_its_key_does(tmp_path: Path) -> None:
    made = Node(tmp_path, FakeClock())
    async with made.running() as client:
        await client.put(made.terms.limit(1), b"abc")
    await made.worker.erase(for_good=False)
    async with made.running() as client:
        assert await client.get(made.terms.limit(2, "get"), 0, 3) == b"abc"
    await made.worker.erase(for_good=True)
    assert not made.folder.exists()


async def test_a_folder_that_fails_at_the_start_is_said_and_not_offered(tmp_path: Path) -> None:
    made = Node(tmp_path, FakeClock())
    made.folder.mkdir()
    (made.folder / "letter").write_text("mine")
    async with made.running() as client:
        assert "other things" in made.missing["storage"]
        lent = await made.worker.lent()
        assert lent is not None
        assert "other things" in lent.trouble
        with pytest.raises(FallowError):
            await client.put(made.terms.limit(1), b"abc")
    made = Node(tmp_path, FakeClock())
    made.ground = made.ground._replace(lends=f"{made.ground.cache / 'x'}:{SIZE}")
    async with made.running():
        assert "may be deleted" in made.missing["storage"]


async def test_a_disk_that_is_mounted_after_the_agent_has_started_is_used_then(tmp_path: Path) -> None:
    clock = FakeClock()
    made = Node(tmp_path, clock)
    async with made.running() as client:
        await client.put(made.terms.limit(1), b"abc")
    made.folder.rename(tmp_path / "unplugged")
    made.folder.mkdir(mode=0o700)
    async with made.running() as client:
        assert "Is its disk mounted?" in made.missing["storage"]
        await clock.advance(OPEN_S)
        with pytest.raises(FallowError):
            await client.get(made.terms.limit(2, "get"), 0, 3)
        made.folder.rmdir()
        (tmp_path / "unplugged").rename(made.folder)
        await clock.advance(OPEN_S)
        assert await client.get(made.terms.limit(3, "get"), 0, 3) == b"abc"
        lent = await made.worker.lent()
        assert lent is not None
        assert not lent.trouble
