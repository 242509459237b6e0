# ruff: noqa: D102
"""Bundles: what a script says it needs, and the archive that is made of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from fallow.cli.order import make_order
from fallow.cli.wanted import Wanted
from fallow.domain.errors import InvalidInput, Unavailable
from fallow.domain.orders import Requirements
from fallow.sdk import bundle as module
from fallow.sdk.bundle import Bundle, Target, bundle_script, running_python
from fallow.sdk.client import AsyncClient
from fallow.sdk.containers import Image
from fallow.sdk.functions import pack_call, pack_function, read_value
from fallow.sdk.metadata import Metadata, fits, read_metadata
from fallow.verticals.compute.core.work import ContainerWork, PythonWork, read_work
from fallow.verticals.compute.plugin import VERTICAL
from fallow.verticals.compute.worker.bundles import unpack

SCRIPT = """\
# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "pillow>=11",
#   "rich",
# ]
# ///
print("hello")
"""


class Installer:
    """Stands in for pip and uv: writes files, and notes what it was asked."""

    def __init__(self, **files: bytes) -> None:
        self.files = files or {"rich/__init__.py": b"R = 1"}
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, dependencies: Sequence[str], folder: Path, _target: Target) -> None:
        self.asked.append(tuple(dependencies))
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fallow" / "bundles"


@pytest.fixture
def installer(monkeypatch: pytest.MonkeyPatch) -> Installer:
    installer = Installer()
    monkeypatch.setattr(module, "install", installer)
    return installer


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "hello.py"
    path.write_text(SCRIPT)
    return path


def names(bundle: Bundle) -> list[str]:
    with zipfile.ZipFile(bundle.path) as archive:
        return archive.namelist()


# metadata


def test_metadata_are_read() -> None:
    assert read_metadata(SCRIPT) == Metadata(("pillow>=11", "rich"), ">=3.11")
    assert read_metadata(SCRIPT.replace("\n", "\r\n")) == read_metadata(SCRIPT)
    assert read_metadata("print(1)") == Metadata()
    assert read_metadata("# /// other\n# a = 1\n# ///\n") == Metadata()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\n# /// script\n# dependencies = []\nprint(1)\n", "line 2 are not closed"),
        ("# /// script\n#dependencies = []\n# ///\n", "line 1 are not closed"),
        (SCRIPT + SCRIPT, "two blocks"),
        ("# /// script\n# dependencies = [\n# ///\n", "no TOML"),
        ("# /// script\n# dependencies = 'rich'\n# ///\n", "list of strings"),
        ("# /// script\n# dependencies = [1]\n# ///\n", "list of strings"),
        ("# /// script\n# dependencies = ['--index-url=x']\n# ///\n", "begin with a dash"),
        ("# /// script\n# requires-python = 3\n# ///\n", "must be a string"),
    ],
)
def test_mistakes_in_metadata_are_explained(text: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        read_metadata(text)


@pytest.mark.parametrize(
    ("requires", "holds"),
    [
        ("", True),
        (">=3.11", True),
        (">=3.10,<4", True),
        ("<3.11", False),
        ("<3.12", True),
        ("<=3.11", True),
        (">3.10", True),
        (">3.11", False),
        ("==3.11.*", True),
        ("==3.12.*", False),
        ("!=3.11.*", False),
        ("!=3.11.3", True),
        ("~=3.9", True),
        ("~=3.12", False),
        (">=3", True),
        ("==3", True),
    ],
)
def test_versions_of_python(requires: str, holds: bool) -> None:
    assert fits("3.11", requires) is holds


def test_a_specifier_that_is_none() -> None:
    with pytest.raises(InvalidInput, match="no version specifier"):
        fits("3.11", "3.11 or so")


# archives


def test_the_same_script_gives_the_same_bytes(script: Path, own_cache: Path, installer: Installer) -> None:
    first = bundle_script(script)
    data = first.path.read_bytes()
    for path in own_cache.iterdir():
        path.unlink()
    installer.files = dict(reversed(installer.files.items()))
    assert bundle_script(script).path.read_bytes() == data
    assert names(first) == ["script.py", "site-packages/rich/__init__.py"]
    assert first.platform == "any"
    assert first.python == running_python()
    assert first.archive_bytes == len(data)
    assert first.unpacked_bytes == len(SCRIPT) + 5


def test_a_bundle_is_made_once(script: Path, installer: Installer) -> None:
    told: list[str] = []
    first = bundle_script(script, tell=told.append)
    assert bundle_script(script, tell=told.append) == first
    assert installer.asked == [("pillow>=11", "rich")]
    assert told == [f"Bundling pillow>=11, rich for Python {running_python()} ..."]
    script.write_text(SCRIPT + "print(2)\n")
    assert bundle_script(script).path != first.path


def test_bundles_that_were_not_used_for_longest_go_when_there_are_too_many(
    script: Path, own_cache: Path, installer: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(name: str) -> Bundle:
        script.write_text(f"{SCRIPT}print({name!r})")
        return bundle_script(script)

    old, used, fresh = made("old"), made("used"), made("fresh")
    for age, bundle in enumerate((fresh, used, old)):
        os.utime(bundle.path, (10**9 - 10_000 * age,) * 2)
    monkeypatch.setattr(module, "KEPT_BYTES_MAX", old.archive_bytes * 2 + old.archive_bytes // 2)
    assert made("used").path.exists()
    assert len(installer.asked) == 3
    last = made("last")
    assert {path.stem for path in own_cache.rglob("*.*")} == {last.path.stem, used.path.stem}
    assert made("last").path == last.path
    newest = made("newest")
    assert used.path.exists(), "it was used a moment ago, and may be on its way"
    assert {last.path.exists(), newest.path.exists()} == {True}


def test_a_bundle_that_was_cut_off_is_made_again(script: Path, installer: Installer) -> None:
    first = bundle_script(script)
    first.path.write_bytes(b"half")
    assert bundle_script(script).archive_bytes == first.archive_bytes
    assert len(installer.asked) == 2


def test_what_differs_between_installations_is_left_out(script: Path, installer: Installer, tmp_path: Path) -> None:
    dist = "rich-1.dist-info"
    installer.files = {
        "rich/__init__.py": b"",
        "rich/__pycache__/x.pyc": b"",
        "bin/rich": b"#!/somewhere",
        f"{dist}/RECORD": b"",
        f"{dist}/direct_url.json": b"",
        f"{dist}/METADATA": b"Name: rich",
    }
    bundle = bundle_script(script)
    assert names(bundle) == ["script.py", f"site-packages/{dist}/METADATA", "site-packages/rich/__init__.py"]
    unpack(bundle.path, tmp_path / "unpacked", bytes_max=bundle.unpacked_bytes)  # as a node does


def test_native_code_asks_for_its_platform(script: Path, installer: Installer) -> None:
    installer.files = {"fast.cpython-311-x86_64-linux-gnu.so": b"\x7fELF"}
    assert bundle_script(script).platform in {"linux-x86_64", "linux-aarch64"}


def test_another_python_than_the_script_allows(script: Path, installer: Installer) -> None:
    with pytest.raises(InvalidInput, match=r"requires Python >=3\.11"):
        bundle_script(script, python="3.10")
    assert bundle_script(script, python="3.13").python == "3.13"
    assert len(installer.asked) == 1


def test_a_script_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="no text"):
        bundle_script(path)


# installers


class Ran:
    """Stands in for subprocess.run."""

    def __init__(self, code: int = 0, stderr: str = "") -> None:
        self.commands: list[list[str]] = []
        self._answer = (code, stderr)

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        return subprocess.CompletedProcess(command, self._answer[0], "", self._answer[1])


@pytest.mark.parametrize("uv", [None, "/opt/uv"])
def test_only_built_packages_for_linux_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uv: str | None
) -> None:
    ran = Ran()
    monkeypatch.setattr(subprocess, "run", ran)
    monkeypatch.setattr(shutil, "which", lambda _: uv)
    module.install(["rich"], tmp_path / "to", Target("3.12", "x86_64"))
    (command,) = ran.commands
    assert command[:3] == ([uv, "pip", "install"] if uv else [sys.executable, "-m", "pip"])
    assert command[-2:] == ["--", "rich"]
    assert command[command.index("--only-binary") + 1] == ":all:"
    assert command[command.index("--python-version") + 1] == "3.12"
    assert any("manylinux_2_28" in word for word in command)
    assert not any("index" in word for word in command), "the buyer's own configuration says where from"


def test_what_the_installer_says_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", Ran(1, "ERROR: No matching distribution found for nope\n"))
    with pytest.raises(Unavailable, match="No matching distribution found for nope"):
        module.install(["nope"], tmp_path / "to", Target("3.11", "x86_64"))


def test_no_installer_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(Unavailable, match="Neither uv nor pip"):
        module.install(["rich"], tmp_path / "to", Target("3.11", "x86_64"))


# functions


def double(number: int) -> int:
    return FACTOR * number


FACTOR = 2


def called(fn: Any, *args: object, folder: Path) -> dict[str, bytes]:
    """Call a packed function as a node does, here, and return what it leaves."""
    bundle = pack_function(fn)
    unpack(bundle.path, folder / "bundle", bytes_max=1 << 20)
    for name in ("in", "out"):
        (folder / name).mkdir()
    (folder / "in" / "input").write_bytes(pack_call(args, {}))
    source = (folder / "bundle" / bundle.entry).read_text()
    for name in ("bundle", "in", "out"):
        source = source.replace(f'"/{name}/', f'"{folder / name}/')
    ran = subprocess.run(
        [sys.executable, "-S", "-c", source],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(folder / "bundle" / "site-packages")},
    )
    left = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
    return left | {"stderr": ran.stderr.encode()}


def test_a_function_takes_its_module_along(tmp_path: Path) -> None:
    assert called(double, 21, folder=tmp_path)["result.json"] == b"42"


def test_bytes_come_back_as_bytes(tmp_path: Path) -> None:
    assert called(bytes, 3, folder=tmp_path)["result.bin"] == b"\0\0\0"


def test_what_no_json_holds_is_explained(tmp_path: Path) -> None:
    left = called(lambda: {1, 2}, folder=tmp_path)
    assert b"must return what JSON can hold" in left["stderr"]
    assert set(left) == {"stderr"}


def test_a_function_that_cannot_be_sent() -> None:
    lock = threading.Lock()
    with pytest.raises(InvalidInput, match="cannot be sent"):
        pack_function(lambda: lock)
    with pytest.raises(InvalidInput, match="cannot be sent"):
        pack_call([lock], {})


class Left:
    """An `ItemResult` that a node may have left."""

    index, job_id, ok, reason = 0, "j", True, ""

    def __init__(self, **outputs: bytes) -> None:
        self._outputs = {name.replace("_", "."): data for name, data in outputs.items()}

    @property
    def outputs(self) -> list[Any]:
        return [type("Output", (), {"name": name}) for name in self._outputs]

    async def output(self, name: str) -> bytes:
        return self._outputs[name]


class Evil:
    """Does something when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a result was unpickled",))


async def test_results_are_never_unpickled() -> None:
    pickled = cloudpickle.dumps(Evil())
    assert await read_value(Left(result_bin=pickled)) == pickled  # type: ignore[arg-type]
    for hostile in (pickled, b"[" * 100_000, b"\xff", b""):
        with pytest.raises(Unavailable):
            await read_value(Left(result_json=hostile))  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="left no result"):
        await read_value(Left())  # type: ignore[arg-type]
    assert await read_value(Left(result_json=json.dumps({"a": [1]}).encode())) == {"a": [1]}  # type: ignore[arg-type]


# orders


class Uploads(AsyncClient):
    """A client that uploads nowhere."""

    async def upload(self, source: Any) -> str:
        data = source if isinstance(source, bytes) else source.read_bytes()
        return hashlib.sha256(data).hexdigest()


async def test_the_order_of_a_script(script: Path, installer: Installer) -> None:
    async with Uploads("http://127.0.0.1", "key") as client:
        order = await client.python_order(
            script, ["a"], {"b": b"data"}, items=[b"1", b"2"], requirements=Requirements(disk_mib=10), output_mib=7
        )
    work = read_work(order.work)
    assert isinstance(work, PythonWork)
    assert (work.entry, work.args, work.python, work.platform) == ("script.py", ["a"], running_python(), "any")
    assert work.inputs == {"b": hashlib.sha256(b"data").hexdigest()}
    assert work.output_mib == 7
    assert len(order.items) == 2
    assert order.requirements.disk_mib == 11  # the bundle lies there too
    assert len(installer.asked) == 1


@pytest.mark.usefixtures("installer")
async def test_a_job_has_the_id_that_its_buyer_knows(script: Path) -> None:
    """So that he can cancel what he stops waiting for; without one it gets one of its own."""
    async with Uploads("http://127.0.0.1:1", "key") as client:
        named = await client.python_order(script, job_id="a" * 32)
        first, second = [await client.python_order(script) for _ in range(2)]
    assert (named.id, len({named.id, first.id, second.id})) == ("a" * 32, 3)


async def test_python_is_not_metered_by_fuel(script: Path, installer: Installer) -> None:
    async with Uploads("http://127.0.0.1", "key") as client:
        with pytest.raises(InvalidInput, match="fuel"):
            await client.python_order(script, fuel=5)
    assert installer.asked


class Buyer:
    """Notes which kind of order is made."""

    def __init__(self) -> None:
        self.kinds: list[str] = []

    def python_order(self, *_: Any, **__: Any) -> None:
        self.kinds.append("python")

    def wasm_order(self, *_: Any, **__: Any) -> None:
        self.kinds.append("wasm")

    def container_order(self, *_: Any, **__: Any) -> None:
        self.kinds.append("container")


def test_the_command_line_knows_scripts_by_their_name(tmp_path: Path) -> None:
    buyer: Any = Buyer()
    for name, content in (("a.py", b"print(1)"), ("b.wasm", b"\0asm"), ("c", b"\0asm")):
        (tmp_path / name).write_bytes(content)
        make_order(buyer, [str(tmp_path / name)], Wanted(), quiet=True)
    assert buyer.kinds == ["python", "wasm", "wasm"]
    (tmp_path / "d").write_bytes(b"#!/usr/bin/env python3\n")
    with pytest.raises(InvalidInput, match=r"ends in \.py|Python script"):
        make_order(buyer, [str(tmp_path / "d")], Wanted(), quiet=True)
    with pytest.raises(InvalidInput, match="--python"):
        make_order(buyer, [str(tmp_path / "b.wasm")], Wanted(python="3.11"), quiet=True)
    buyer.kinds.clear()
    make_order(buyer, ["sh", "-c", "true"], Wanted(image=str(tmp_path / "c")), quiet=True)
    make_order(buyer, [], Wanted(image=str(tmp_path / "c")), quiet=True)
    assert buyer.kinds == ["container", "container"]
    with pytest.raises(InvalidInput, match="no file sh"):
        make_order(buyer, ["sh"], Wanted(), quiet=True)
    with pytest.raises(InvalidInput, match="nothing to run"):
        make_order(buyer, [], Wanted(), quiet=True)
    with pytest.raises(InvalidInput, match="go with --image"):
        make_order(buyer, [str(tmp_path / "c")], Wanted(workdir="/"), quiet=True)


async def test_a_container_is_ordered_with_its_image_and_what_it_overrides(tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(bytes(3 << 20))
    image = Image(archive=archive, entrypoint=["/bin/sh", "-c"], workdir="/etc")
    async with Uploads("http://127.0.0.1", "key") as client:
        order = await client.container_order(
            image, ["true"], {"a": b"data"}, items=[b"1"], env={"X": "y"}, output_mib=7
        )
        with pytest.raises(InvalidInput, match="fuel"):
            await client.container_order(image, fuel=5)
        with pytest.raises(InvalidInput, match="line breaks"):
            await client.container_order(image, env={"X": "two\nlines"})
    work = read_work(order.work)
    assert isinstance(work, ContainerWork)
    assert work.archive == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert (work.entrypoint, work.args, work.workdir) == (["/bin/sh", "-c"], ["true"], "/etc")
    assert (work.env, work.inputs) == ({"X": "y"}, {"a": hashlib.sha256(b"data").hexdigest()})
    assert (work.platform, work.output_mib, len(order.items)) == ("linux/amd64", 7, 1)
    assert order.requirements.disk_mib == 64 + 3  # the archive lies there too
    needs = VERTICAL.check_work(order.work, order.items[0])
    assert needs.attributes == {"compute.container": "linux/amd64"}
    assert needs.blobs == {work.archive, *work.inputs.values(), order.items[0]}
