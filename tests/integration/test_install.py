"""The one line for another machine: from an empty home to a paid job, and what it never runs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fallow.bootstrap.install import make_installer
from fallow.bootstrap.wheel import pack_wheel
from fallow.cli.install_line import install_line
from tests.engines import reachable_folder
from tests.network import BOUND, NEEDS, Running, clean_environment, connected, running_network, until
from tests.programs import hello

pytestmark = pytest.mark.xdist_group("tls")

ROOT = Path(__file__).parents[2]
OPTIONS = "--yes --label newcomer --cpu 0.4 --memory 256 --disk 256 --price-core-hour 36"
SIZE_MAX = 150_000_000
INSTALL_S = 240.0


@pytest.fixture(scope="module")
def encrypted() -> Iterator[Running]:
    with running_network(listen="127.0.0.1:0") as running:
        yield running


@pytest.fixture
def machine() -> Iterator[Path]:
    """A machine's folder with an empty home, where pip is set up as it is here and there is no systemd."""
    with reachable_folder() as folder:
        for name in ("home", "bin"):
            (folder / name).mkdir()
        (folder / "bin" / "systemctl").write_text("#!/bin/sh\nexit 1\n")
        (folder / "bin" / "systemctl").chmod(0o755)
        yield folder


def environment(machine: Path) -> dict[str, str]:
    here = clean_environment()
    path = [str(machine / "bin"), *(part for part in here["PATH"].split(os.pathsep) if ".venv" not in part)]
    return here | {
        "HOME": str(machine / "home"),
        "XDG_CONFIG_HOME": here.get("XDG_CONFIG_HOME", str(Path.home() / ".config")),
        "PATH": os.pathsep.join(path),
        "FALLOW_PREFIX": str(machine / "program"),
        "TMPDIR": str(machine),
    }


@contextmanager
def typed(line: str, machine: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Type it in a shell on that machine; what runs ends with the context, and `said` is in `machine / "log"`."""
    with (machine / "log").open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", f"{line} {OPTIONS}"], env=environment(machine), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(BOUND)


def said(machine: Path) -> str:
    return (machine / "log").read_text()


def refused(line: str, machine: Path) -> str:
    """What it says when it gives up."""
    with typed(line, machine) as process:
        assert process.wait(BOUND) != 0
    assert not (machine / "program").exists(), "nothing was installed"
    assert list((machine / "home").iterdir()) == []
    return said(machine)


async def test_from_an_empty_home_to_a_paid_job(encrypted: Running, machine: Path) -> None:
    line = encrypted.welcome["install"]
    assert "\n" not in line
    with typed(line, machine) as process:
        await until(lambda: process.poll() is not None or "until Ctrl-C" in said(machine), "it joins", bound=INSTALL_S)
        assert process.poll() is None, said(machine)
        assert f"into {machine / 'program'}" in said(machine)
        assert "Joined" in said(machine)
        async with connected(encrypted) as net:
            order = await net.buyer.wasm_order(hello(), requirements=NEEDS, time_limit_s=60)
            await net.buyer.submit(order)
            assert (await net.finished(order.id)).state == "done"
            assert [node.label for node in await net.buyer.nodes()] == ["newcomer"]
            assert (await net.buyer.job(order.id)).owed_microusd > 0
    is_small_and_the_same(machine / "program")


def is_small_and_the_same(program: Path) -> None:
    assert sum(path.lstat().st_size for path in program.rglob("*")) < SIZE_MAX
    python = program / "bin" / "python"
    assert installed(python) == {*locked("src/fallow/agent/requirements.lock"), "fallow"}
    # What it runs is what the network runs, and makes the same bytes again.
    code = "from fallow.bootstrap.wheel import pack_wheel; print(pack_wheel().sha256)"
    again = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=program)
    assert again.stdout.strip() == pack_wheel().sha256


def test_a_script_that_was_changed_on_the_way_is_not_run(encrypted: Running, machine: Path) -> None:
    assert make_installer().sha256 in encrypted.welcome["install"]
    other = install_line(encrypted.url, encrypted.welcome["join_token"], hashlib.sha256(b"").hexdigest())
    assert "FAILED" in refused(other, machine)


def test_a_wheel_that_was_changed_on_the_way_is_not_installed(machine: Path) -> None:
    installer = make_installer()
    with serving({"/install.sh": installer.script, f"/install/{installer.wheel_name}": installer.wheel + b"x"}) as url:
        assert "not the one that was announced" in refused(install_line(url, "fj_token", installer.sha256), machine)


def test_a_network_of_another_version(machine: Path) -> None:
    installer = make_installer()
    with serving({"/install.sh": installer.script}) as url:
        assert "does not hand out" in refused(install_line(url, "fj_token", installer.sha256), machine)


def test_what_an_agent_installs_is_nothing_of_the_networks_side() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    agent = {*names(project["dependencies"]), *names(project["optional-dependencies"]["agent"])}
    network = {*names(project["optional-dependencies"]["network"])} - agent - {"h11"}  # httpx speaks by it, too
    found = locked("src/fallow/agent/requirements.lock")
    assert agent <= found
    assert found.isdisjoint(network | {"asyncpg", "litestar", "uvicorn"})


def test_an_agents_packages_are_those_that_were_tested() -> None:
    assert pins("src/fallow/agent/requirements.lock") <= pins("requirements.lock")


def test_the_wheel_is_whole_and_always_the_same(tmp_path: Path) -> None:
    wheel = pack_wheel()
    assert wheel == pack_wheel()
    file = tmp_path / wheel.name
    file.write_bytes(wheel.data)
    with zipfile.ZipFile(file) as archive:
        listed = archive.read("fallow-0.1.0.dist-info/RECORD").decode().splitlines()
        assert sorted(line.split(",")[0] for line in listed) == sorted(archive.namelist())
        assert b"Name: fallow" in archive.read("fallow-0.1.0.dist-info/METADATA")
        assert not [name for name in archive.namelist() if name.endswith((".pyc", ".pth"))]


def installed(python: Path) -> set[str]:
    command = [str(python), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {one["name"].lower().replace("_", "-") for one in found} - {"pip", "typing-extensions"}


def locked(lock: str) -> set[str]:
    """Packages that a lock file has for Linux."""
    lines = (line for line in (ROOT / lock).read_text().splitlines() if "== 'emscripten'" not in line)
    return {match[1] for line in lines if (match := re.match(r"([a-z0-9-]+)==", line))} - {"typing-extensions"}


def pins(lock: str) -> set[str]:
    return set(re.findall(r"^[a-z0-9-]+==[^ ;]+", (ROOT / lock).read_text(), re.MULTILINE))


def names(requirements: list[str]) -> list[str]:
    return [re.split(r"[^a-z0-9-]", requirement)[0] for requirement in requirements]


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[str]:
    """A web server, as somebody in between would run it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
