"""What the tools under the sandboxes take by themselves, each started by hand: the baseline of `bench/start.py`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from fallow.verticals.compute.worker.podman import find_podman, find_runtimes
from tests.container_jobs import image, oci_archive
from tests.programs import hello

SCRIPT = "print('hello', flush=True)"
SHELL = ("sh", "-c", "echo hello")
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=256:256")
"""Without them it asks for more than some machines give to it."""

WASMTIME = """
import sys, wasmtime
config = wasmtime.WasiConfig()
config.inherit_stdout()
engine = wasmtime.Engine()
store = wasmtime.Store(engine)
store.set_wasi(config)
linker = wasmtime.Linker(engine)
linker.define_wasi()
module = wasmtime.Module.from_file(engine, sys.argv[1])
linker.instantiate(store, module).exports(store)["_start"](store)
"""


class Tool(NamedTuple):
    """A command that says hello; `env` None is ours."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] | None = None

    async def first_byte_s(self) -> float:
        """Run it, wait for the first byte and then for its end; returns the seconds to the byte."""
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *self.command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, env=self.env
        )
        assert process.stdout is not None
        assert await process.stdout.read(1), f"{self.name} said nothing"
        took = time.monotonic() - began
        await process.communicate()
        return took


@asynccontextmanager
async def tools(folder: Path) -> AsyncIterator[dict[str, Tool]]:
    """The tool under each kind of work; podman has a store of its own while the context is open."""
    (folder / "hello.wasm").write_bytes(hello())
    (folder / "hello.py").write_text(SCRIPT)
    (folder / "hello.tar").write_bytes(oci_archive(image()))
    bwrap = (
        *("bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib"),
        *("--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev"),
        *("--ro-bind", str(folder), "/bundle", "/usr/bin/python3", "/bundle/hello.py"),
    )
    podman = find_podman(folder, find_runtimes()[0], groups=True)
    podman.prepare()
    try:
        name = (await podman.call("load", "--quiet", "--input", str(folder / "hello.tar"))).split()[-1]
        run = podman.command("run", "--rm", "--network", "none", *LIMITS, name.removeprefix("sha256:"), *SHELL)
        yield {
            "wasm": Tool("a fresh Python with wasmtime", (sys.executable, "-c", WASMTIME, str(folder / "hello.wasm"))),
            "python": Tool("bubblewrap and Python", bwrap),
            "container": Tool("podman run", tuple(run), podman.environment),
        }
    finally:
        await podman.erase()
