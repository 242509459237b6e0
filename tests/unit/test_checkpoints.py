# ruff: noqa: ASYNC240, D102
"""Checkpoints: what is saved of a folder that a stranger's program writes to, and what of it comes back."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fallow.domain.errors import InvalidInput, NotFound, TooMuch, Unavailable
from fallow.domain.leases import CHECKPOINT_UNUSABLE
from fallow.verticals.compute.worker.bundles import unpack
from fallow.verticals.compute.worker.checkpoints import look, pack
from fallow.verticals.compute.worker.worker import ComputeWorker
from tests.capability import require
from tests.container_jobs import ContainerCase, container_worker
from tests.python_jobs import PythonCase

MIB = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "checkpoint"
    made.mkdir()
    return made


def packed(folder: Path, **changes: Any) -> bytes | None:
    """What is saved of a folder, if anything is."""
    archive = folder.with_name("archive.zip")
    written = pack(folder, archive, changes.pop("known", []), bytes_max=changes.pop("bytes_max", MIB))
    return None if written is None else archive.read_bytes()


def fill(folder: Path) -> None:
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "deep").write_bytes(b"deep")
    (folder / "a" / "run").write_bytes(b"x" * 1000)
    (folder / "state").write_text("7")


def test_what_is_saved_comes_back(folder: Path, tmp_path: Path) -> None:
    fill(folder)
    assert packed(folder) is not None
    unpack(tmp_path / "archive.zip", tmp_path / "back", bytes_max=MIB)
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    assert sorted(str(path.relative_to(tmp_path / "back")) for path in (tmp_path / "back").rglob("*")) == names
    assert (tmp_path / "back" / "a" / "b" / "deep").read_bytes() == b"deep"


def test_the_same_files_make_the_same_archive(tmp_path: Path) -> None:
    archives = []
    for name in ("one", "two"):
        folder = tmp_path / name / "checkpoint"
        folder.mkdir(parents=True)
        fill(folder)
        os.utime(folder / "state", (len(name), 10**9))
        archives.append(packed(folder))
    assert archives[0] == archives[1] is not None


def test_what_is_saved_already_is_not_saved_again(folder: Path) -> None:
    assert packed(folder) is None
    fill(folder)
    known = look(folder)
    assert packed(folder, known=known) is None
    (folder / "state").write_text("8")
    assert packed(folder, known=known) is not None


def test_what_changes_meanwhile_is_not_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(folder)
    read = os.read

    def writing(fd: int, size: int) -> bytes:
        (folder / "state").write_text("a torn one")
        return read(fd, size)

    monkeypatch.setattr(os, "read", writing)
    assert packed(folder) is None


def test_links_lead_nowhere(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the owner")
    (folder / "file").symlink_to(secret)
    (folder / "folder").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    (folder / "plain").write_text("x")
    assert packed(folder) is not None
    with zipfile.ZipFile(tmp_path / "archive.zip") as archive:
        assert archive.namelist() == ["plain"]


def test_a_folder_that_becomes_a_link_meanwhile_is_not_entered(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at a name and its opening lies time enough to swap it."""
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner" / "deep").write_text("of the owner")
    fill(folder)
    opened = os.open

    def swapping(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if path == "b" and (folder / "a" / "b").is_dir() and not (folder / "a" / "b").is_symlink():
            (folder / "a" / "b").rename(folder / "aside")
            (folder / "a" / "b").symlink_to(tmp_path / "owner")
        return opened(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", swapping)
    assert packed(folder) is None
    assert "a/b/deep" not in {seen.name for seen in look(folder)}


@pytest.mark.parametrize(
    ("fill", "error"),
    [
        (lambda folder: (folder / "large").write_bytes(bytes(2 * MIB)), TooMuch),
        (lambda folder: Path(folder, *["d"] * 40).mkdir(parents=True), TooMuch),
        (lambda folder: (folder / "a\nb").write_text("x"), InvalidInput),
        (lambda folder: (folder / "a\\b").write_text("x"), InvalidInput),
        (
            lambda folder: (folder / ("n" * 250)).mkdir() or (folder / ("n" * 250) / ("m" * 254)).write_text(""),
            InvalidInput,
        ),
    ],
)
def test_what_cannot_be_kept(folder: Path, fill: Callable[[Path], object], error: type[Exception]) -> None:
    fill(folder)
    with pytest.raises(error):
        packed(folder)


# whole runs

COUNT = """
import os, signal, sys, time
path = "/checkpoint/count"
count = int(open(path).read()) if os.path.exists(path) else 0
print("from", count, flush=True)
def end(*_):
    open(path, "w").write(str(10**6 + count))
    sys.exit(1)
signal.signal(signal.SIGTERM, end)
while count < {until}:
    count += 1
    open(path + ".new", "w").write(str(count))
    os.replace(path + ".new", path)
    time.sleep(0.02)
print("done", count)
"""


class Kept:
    """Where checkpoints go; `enough` is set with the second one."""

    def __init__(self, case: PythonCase | ContainerCase) -> None:
        self.case = case
        self.saved: list[tuple[str, int]] = []
        self.enough = asyncio.Event()
        self.error: Exception | None = None

    async def save(self, archive: Path, used_ms: int) -> None:
        if self.error is not None:
            raise self.error
        self.saved.append((self.case.blobs.add(archive.read_bytes()), used_ms))
        if len(self.saved) > 1:
            self.enough.set()


@pytest.fixture
def case(tmp_path: Path) -> PythonCase:
    require("bubblewrap")
    return PythonCase(tmp_path)


async def interrupted(case: PythonCase | ContainerCase, script: str, kept: Kept, **changes: Any) -> None:
    """Run a script until it has saved twice, then have its owner come back."""
    async with asyncio.TaskGroup() as group:
        running = group.create_task(case.run(script, save=kept.save, checkpoint_s=1, **changes))
        await kept.enough.wait()
        case.cancel.set()
    assert (running.result().ok, running.result().reason) == (False, "cancelled")


async def test_a_script_goes_on_from_its_last_checkpoint(case: PythonCase, tmp_path: Path) -> None:
    kept = Kept(case)
    await interrupted(case, COUNT.format(until=10**7), kept)
    times = [used_ms for _, used_ms in kept.saved]
    assert times == sorted(times)
    assert len(kept.saved) > 2  # the last one when it was told to end
    again = PythonCase(tmp_path / "elsewhere")
    again.blobs = case.blobs
    finished = await again.run(COUNT.format(until=3), resume=kept.saved[-1][0], save=kept.save)
    first, last = again.stdout(finished).split("\n")[:2]
    assert int(first.removeprefix("from ")) > 10**6
    assert last.startswith("done")


async def test_a_checkpoint_that_cannot_be_saved_ends_nothing(case: PythonCase) -> None:
    kept = Kept(case)
    kept.error = Unavailable("agent.gateway", "No gateway.")
    finished = await case.run(COUNT.format(until=60), save=kept.save, checkpoint_s=1)
    assert finished.ok
    assert kept.saved == []


@pytest.mark.parametrize("archive", [None, b"no archive", b"PK\x05\x06" + bytes(18)[:10]])
async def test_a_checkpoint_that_is_missing_or_broken(case: PythonCase, archive: bytes | None) -> None:
    missing = hashlib.sha256(b"missing").hexdigest()
    if archive is None:
        fetch = case.blobs.fetch

        async def none_there(sha256: str, to: Path) -> None:
            if sha256 == missing:
                raise NotFound("blob.unknown", "No such blob.")
            await fetch(sha256, to)

        case.blobs.fetch = none_there  # type: ignore[method-assign]
    resume = missing if archive is None else case.blobs.add(archive)
    finished = await case.run("print(1)", resume=resume)
    assert (finished.ok, finished.reason, finished.caused_by) == (False, CHECKPOINT_UNUSABLE, "nobody")
    assert (finished.used_ms, finished.result) == (0, None)


async def test_a_process_that_is_stopped_leaves_its_result(case: PythonCase) -> None:
    script = """
    import signal, sys, time
    def end(*_):
        open("/out/last", "w").write("all of it")
        sys.exit(3)
    signal.signal(signal.SIGTERM, end)
    print("up", flush=True)
    open("/checkpoint/up", "w").close()
    while True:
        time.sleep(0.05)
    """
    kept = Kept(case)

    async def save(archive: Path, used_ms: int) -> None:
        await kept.save(archive, used_ms)
        case.cancel.set()

    finished = await case.run(script, save=save, checkpoint_s=1, until_stopped=True)
    assert (finished.ok, finished.reason, finished.caused_by) == (True, "", "nobody")
    assert case.outputs(finished) == {"last": b"all of it"}
    assert case.stdout(finished) == "up\n"


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComputeWorker]:
    with container_worker(tmp_path_factory.mktemp("containers")) as made:
        yield made


SHELL = """
read count < /checkpoint/count; echo from ${count:=0}
while [ $count -lt $UNTIL ]; do
  count=$((count+1)); echo $count > /checkpoint/new; mv /checkpoint/new /checkpoint/count; sleep 0.02
done
"""


async def test_a_container_goes_on_from_its_last_checkpoint(tmp_path: Path, worker: ComputeWorker) -> None:
    case = ContainerCase(tmp_path, worker)
    kept = Kept(case)
    await interrupted(case, SHELL, kept, env={"UNTIL": "1000000"})
    again = ContainerCase(tmp_path / "elsewhere", worker)
    again.blobs = case.blobs
    printed = await again.printed(SHELL, env={"UNTIL": "3"}, resume=kept.saved[-1][0])
    with zipfile.ZipFile(io.BytesIO(case.blobs.blobs[kept.saved[-1][0]])) as last:
        assert printed.split()[1].encode() == last.read("count").strip() != b"0"
