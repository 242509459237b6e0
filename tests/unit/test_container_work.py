"""Containers: the worker with a real engine, images made on the spot, blobs in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fallow.domain.errors import InvalidInput, Unavailable
from fallow.ports.public_only import PublicOnly
from fallow.verticals.compute.core.work import ContainerWork, read_work
from fallow.verticals.compute.worker import podman as podman_module
from fallow.verticals.compute.worker.container import _probe_job
from fallow.verticals.compute.worker.container_start import Launch
from fallow.verticals.compute.worker.podman import Podman, find_podman, find_runtimes
from fallow.verticals.compute.worker.tiny import write_tiny_image
from fallow.verticals.compute.worker.worker import ComputeWorker
from tests.container_jobs import ContainerCase, container_worker, docker_archive, gzipped, image, oci_archive, zstd
from tests.registry_server import RegistryServer, loopback


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComputeWorker]:
    with container_worker(tmp_path_factory.mktemp("containers")) as made:
        yield made


@pytest.fixture
def case(tmp_path: Path, worker: ComputeWorker) -> ContainerCase:
    return ContainerCase(tmp_path, worker)


async def test_the_probe_really_runs_a_container(case: ContainerCase) -> None:
    probe = await case.worker.probe()
    assert probe.attributes["compute.container"] == "linux/amd64"
    assert probe.attributes["compute.container.engine"] == "podman"
    assert "container" not in probe.missing


@pytest.mark.usefixtures("worker")
async def test_the_probe_says_what_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podman_module, "SEARCH", str(tmp_path))
    probe = await ComputeWorker(tmp_path / "cache").probe()
    assert "compute.container" not in probe.attributes
    assert "apt-get install" in probe.missing["container"]


@pytest.mark.usefixtures("worker")
async def test_the_probe_says_that_an_engine_does_not_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podman_module, "RUNTIMES", ("false",))
    probe = await ComputeWorker(tmp_path / "cache").probe()
    assert "compute.container" not in probe.attributes
    assert (
        'No container runs here: podman rm failed: default OCI runtime "false" not found' in probe.missing["container"]
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"env": {"HOME\n": "1"}},
        {"env": {"HOME": "1\n"}},
        {"inputs": {"a\n": "0" * 64}},
        {"workdir": "/work\n"},
        {"pull_secret": "NAME\n"},
        {"entrypoint": ["a" * 4096] * 16},
    ],
)
def test_what_an_engine_cannot_be_told_is_refused_at_the_door(bad: dict[str, Any]) -> None:
    """It would fail on every machine, and seem to be the machine's fault."""
    good = {"kind": "container", "archive": "0" * 64, "entrypoint": ["a" * 4096] * 15}
    assert isinstance(read_work(good), ContainerWork)
    with pytest.raises(InvalidInput):
        read_work(good | bad)


async def test_a_good_run(case: ContainerCase) -> None:
    finished = await case.run("echo hello; echo oh >&2; echo made > /out/file", item=b"one item")
    assert (finished.ok, finished.reason, finished.caused_by) == (True, "", "nobody")
    assert case.started.is_set()
    assert finished.used_ms > 0
    assert (case.stdout(finished), case.stderr(finished)) == ("hello\n", "oh\n")
    assert case.outputs(finished) == {"file": b"made\n"}


@pytest.mark.parametrize("archive", ["oci", "oci, gzip", "oci, zstd", "docker"])
async def test_every_kind_of_archive(case: ContainerCase, archive: str) -> None:
    pack = {"oci, gzip": gzipped, "oci, zstd": zstd}.get(archive)
    data = docker_archive(image()) if archive == "docker" else oci_archive(image(), pack)
    assert await case.printed("cat /in/input", archive=data, item=b"one item") == "one item"


async def test_the_images_own_program(case: ContainerCase) -> None:
    own = oci_archive(
        image(
            Entrypoint=["/bin/sh", "-c", "echo $0 $1 $(pwd) $OWN"],
            Cmd=["a", "b"],
            WorkingDir="/etc",
            Env=["PATH=/bin", "OWN=1"],
        )
    )
    assert await case.printed(archive=own) == "a b /etc 1\n"
    assert await case.printed(archive=own, args=["c"], env={"OWN": "2"}, workdir="/bin") == "c /bin 2\n"
    assert await case.printed(archive=own, entrypoint=["/bin/sh", "-c", "echo over"]) == "over\n"


async def test_variables_arrive_as_they_are(case: ContainerCase) -> None:
    env = {
        "SPACES": "  a  b ",
        "QUOTES": "\"q\" 'x' $HOME \\",
        "HASH": "# no comment",
        "WIDE": "é✓",
        "EMPTY": "",
        "EQ": "a=b",
    }
    printed = await case.printed("env", env=env)
    assert {f"{name}={value}" for name, value in env.items()} <= set(printed.split("\n"))


@pytest.mark.parametrize(
    ("script", "changes", "reason", "code"),
    [
        ("exit 3", {}, "program.exit", 3),
        ("exit 125", {}, "program.exit", 125),
        ("exit 127", {}, "program.exit", 127),
        ("kill -9 $$; while :; do :; done", {"time_limit_s": 1}, "program.time", -1),
        ("", {"entrypoint": ["/not/there"]}, "program.invalid", -1),
        ("pwd", {"workdir": "/not/there"}, "program.invalid", -1),
        ("", {"archive": b"no archive"}, "program.invalid", -1),
    ],
)
async def test_how_containers_fail(
    case: ContainerCase, script: str, changes: dict[str, Any], reason: str, code: int
) -> None:
    finished = await case.run(script, **changes)
    assert (finished.ok, finished.reason, finished.caused_by) == (False, reason, "buyer"), case.stderr(finished)
    assert case.outcome(finished).exit_code == code
    if reason == "program.invalid":
        assert finished.used_ms == 0
        assert case.stderr(finished).startswith("fallow: ")
        assert str(case.workspace) not in case.stderr(finished)


async def test_an_image_that_names_a_user_it_does_not_have(case: ContainerCase) -> None:
    finished = await case.run("id", archive=oci_archive(image(User="nobody-knows")))
    assert (finished.reason, finished.caused_by, finished.used_ms) == ("program.invalid", "buyer", 0)


async def test_an_image_is_pulled_by_its_name_once(case: ContainerCase, tmp_path: Path) -> None:
    with RegistryServer(tmp_path).serving() as server:
        server.add(image())
        _, images = await case.worker._containers._ready()
        images._internet = lambda: PublicOnly(tls=server.trust, resolve=loopback, allowed=lambda _: True)
        assert await case.printed("echo pulled", image=f"{server.name}/team/app") == "pulled\n"
        blobs = [path for path, _ in server.asked if "/blobs/" in path]
        assert await case.printed("echo again", image=f"{server.name}/team/app") == "again\n"
        assert [path for path, _ in server.asked if "/blobs/" in path] == blobs
        missing = await case.run("true", image=f"{server.name}/team/other")
        assert (missing.reason, missing.caused_by, missing.used_ms) == ("program.invalid", "buyer", 0)
        assert case.stderr(missing) == f"fallow: There is no image {server.name}/team/other:latest\n"


class Meter:
    """A line of which so many bytes are left."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.moved = 0

    def has_room(self, size: int) -> bool:
        """See the port."""
        return self.moved + size <= self.left

    def count(self, size: int) -> None:
        """See the port."""
        self.moved += size


async def test_what_is_pulled_counts_on_the_owners_line_and_keeps_to_it(case: ContainerCase, tmp_path: Path) -> None:
    made = image(Env=["PATH=/bin", "METERED=1"])
    with RegistryServer(tmp_path).serving() as server:
        server.add(made)
        size = sum(len(data) for path, (_, data) in server.files.items() if "/blobs/" in path)
        _, images = await case.worker._containers._ready()
        images._internet = lambda: PublicOnly(tls=server.trust, resolve=loopback, allowed=lambda _: True)
        short = Meter(size)  # but for the manifest, which is asked for to know the size
        declined = await case.run("true", image=f"{server.name}/team/app", line=short)
        assert (declined.reason, declined.caused_by, declined.used_ms) == ("owner.data_budget", "owner", 0)
        assert 0 < short.moved < 2000
        assert not [path for path, _ in server.asked if "/blobs/" in path]
        enough = Meter(size + 2000)
        assert await case.printed("echo $METERED", image=f"{server.name}/team/app", line=enough) == "1\n"
        assert size < enough.moved <= size + 2000
        again = Meter(0)
        assert await case.printed("echo $METERED", image=f"{server.name}/team/app", line=again) == "1\n"
        assert 0 < again.moved < 2000, "it lies here by now"


async def test_a_private_image_is_pulled_with_a_secret(case: ContainerCase, tmp_path: Path) -> None:
    with RegistryServer(tmp_path).serving() as server:
        server.add(image(Env=["PATH=/bin", "PRIVATE=1"]))
        server.password = "right"  # noqa: S105 - a test's own
        _, images = await case.worker._containers._ready()
        images._internet = lambda: PublicOnly(tls=server.trust, resolve=loopback, allowed=lambda _: True)
        named: dict[str, Any] = {"image": f"{server.name}/team/app", "pull_secret": "PULL"}
        assert await case.printed("echo $PULL$PRIVATE", secrets={"PULL": "buyer:right"}, **named) == "1\n"
        # It lies here by now, but that is for those to whom the registry gives it.
        for wrong in ({"PULL": "buyer:wrong"}, {"PULL": "no colon"}, {}):
            refused = await case.run("true", secrets=wrong, **named)
            assert (refused.reason, refused.caused_by) == ("program.invalid", "buyer")


async def test_an_image_that_lies_here_is_not_for_whoever_only_names_it(case: ContainerCase, tmp_path: Path) -> None:
    """A registry of one's own can name any image's config in its manifest, without having a part of it."""
    with RegistryServer(tmp_path).serving() as server:
        server.add(image(Env=["PATH=/bin", "COVETED=1"]))
        _, images = await case.worker._containers._ready()
        images._internet = lambda: PublicOnly(tls=server.trust, resolve=loopback, allowed=lambda _: True)
        assert await case.printed("echo $COVETED", image=f"{server.name}/team/app") == "1\n"
        for path, file in list(server.files.items()):
            if "/manifests/" in path:
                server.files[path.replace("team/app", "thief/app")] = file
        stolen = await case.run("true", image=f"{server.name}/thief/app")
        assert (stolen.reason, stolen.caused_by) == ("program.invalid", "buyer")
        assert await case.printed("echo $COVETED", image=f"{server.name}/team/app") == "1\n"


async def test_a_registry_that_cannot_be_reached_is_nobodys_doing(case: ContainerCase) -> None:
    _, images = await case.worker._containers._ready()
    images._internet = lambda: PublicOnly(resolve=loopback)
    finished = await case.run("true", image="registry.test/team/app")
    assert (finished.ok, finished.reason, finished.caused_by) == (False, "image.unavailable", "nobody")


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
async def test_what_podman_itself_saves(case: ContainerCase, tmp_path: Path, form: str) -> None:
    assert (await case.run("true")).ok
    podman, _ = await case.worker._containers._ready()
    saved = tmp_path / "saved.tar"
    await podman.call("save", "--format", form, "--output", str(saved), image().id)
    assert await case.printed("echo saved", archive=await asyncio.to_thread(saved.read_bytes)) == "saved\n"


@pytest.mark.parametrize(
    ("code", "said", "error"),
    [
        (127, 'Error: runc create failed: exec: "/nope": stat /nope: no such file or directory', InvalidInput),
        (126, 'Error: runc create failed: exec: "/etc/own": permission denied: OCI permission denied', InvalidInput),
        (126, 'Error: workdir "/nope" does not exist on container 0e80', InvalidInput),
        (125, "Error: unable to find user nobody-knows: no matching entries in passwd file", InvalidInput),
        (126, "Error: unable to apply cgroup configuration: mkdir /sys/fs/cgroup: permission denied", Unavailable),
        (127, "Error: OCI runtime error: unable to init seccomp", Unavailable),
        (125, "Error: image not known", Unavailable),
    ],
)
async def test_who_is_to_blame_when_a_container_does_not_begin(
    tmp_path: Path, code: int, said: str, error: type[Exception]
) -> None:
    """The engine uses the same codes for the image and for itself; its words stay on the machine."""
    engine = tmp_path / "engine"
    engine.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit {code}\n")
    engine.chmod(0o755)
    podman = Podman(str(engine), "runc", groups=False, store=tmp_path, run=tmp_path, home=tmp_path)
    launch = Launch(_probe_job(tmp_path, "0" * 64), podman)
    try:
        with pytest.raises(error):
            await launch.pid(asyncio.Event())
    finally:
        await launch.close()
    assert (tmp_path / "stderr").read_bytes() == b""


# podman's store


async def test_notes_that_were_lost_with_the_machines_power_are_made_anew(case: ContainerCase) -> None:
    assert (await case.run("true")).ok
    engine, images = await case.worker._containers._ready()
    for note, left in zip(sorted(engine.images.iterdir()), ("", "\0" * 64) * 100, strict=False):
        note.write_text(left)
    await images.reconcile()
    assert await case.printed("echo again") == "again\n"


async def test_nothing_is_noted_of_an_image_that_is_gone(case: ContainerCase) -> None:
    assert (await case.run("true")).ok
    engine, images = await case.worker._containers._ready()
    await engine.forget(image().id)
    await images.reconcile()
    assert not [note for note in engine.images.glob("*") if note.read_text() == image().id]
    assert await case.printed("echo again") == "again\n"


@pytest.mark.usefixtures("worker")
async def test_an_image_is_taken_over_from_a_folder_whatever_its_name_is(tmp_path: Path) -> None:
    """As `~/.fallow/agent` is, or a temporary folder: what podman calls an image must not hold such a name."""
    podman = find_podman(tmp_path / "cache", find_runtimes()[0], groups=False)
    layout = tmp_path / ".hidden" / "tmp___a_" / "image"
    layout.parent.mkdir(parents=True)
    podman.prepare()
    try:
        image = write_tiny_image(layout, "amd64")
        assert image is not None
        await podman.load(layout, image)
        assert await podman.loaded() == {image}
    finally:
        await podman.erase()


def test_where_podman_cannot_begin_it_keeps_nobody_from_leaving(tmp_path: Path) -> None:
    podman = Podman("/bin/false", "", False, tmp_path / "kept" / "store", tmp_path / "run", tmp_path / "kept" / "home")
    podman.prepare()
    (podman.store / "libpod").mkdir()
    asyncio.run(podman.erase())
    assert list(tmp_path.iterdir()) == []
