"""Python jobs for tests: a worker, one lease, and bundles made of source texts."""

from __future__ import annotations

import io
import os
import textwrap
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fallow.ports.vertical.work import Finished
from fallow.verticals.compute.worker.sandbox_root import find_interpreter
from fallow.verticals.compute.worker.worker import ComputeWorker
from tests.job_case import JobCase

VERSION = find_interpreter().version


def bundle(script: str, **files: str) -> bytes:
    """Pack a script, and other files by their name with `__` for `/`."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in {"script": script, **files}.items():
            member = zipfile.ZipInfo(name.replace("__", "/") + ".py")  # of no time: the same files are the same bundle
            member.external_attr = 0o600 << 16
            archive.writestr(member, textwrap.dedent(text), zipfile.ZIP_DEFLATED)
    return data.getvalue()


class PythonCase(JobCase):
    """One lease of a Python job, and the worker that does its work."""

    def __init__(self, folder: Path) -> None:
        super().__init__(ComputeWorker(folder / "cache"), folder / "lease")
        self.workspace.mkdir(mode=0o700, parents=True)

    async def run(self, script: str | bytes, **changes: Any) -> Finished:
        """Run a script (or a whole bundle); `changes` go over the work's fields, or are those of the lease."""
        code = script if isinstance(script, bytes) else bundle(script)
        work = {"kind": "python", "bundle": self.blobs.add(code), "entry": "script.py", "python": VERSION}
        return await self.do(work, **{"memory_mib": 128, "seed": bytes(range(32)), **changes})

    async def printed(self, script: str, **changes: Any) -> str:
        """Run a script that must end well, and return what it printed."""
        finished = await self.run(script, **changes)
        assert finished.ok, (finished, self.stderr(finished))
        return self.stdout(finished)


@contextmanager
def redirecting(target: str) -> Iterator[int]:
    """A web server on this machine that sends everybody on to `target`; gives its port, and fails if it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", target)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
    assert asked == []


def left_over(mark: str) -> list[int]:
    """Pids of this machine's processes that hold `mark` in their arguments."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            others = folder.name.isdecimal() and int(folder.name) != os.getpid()
            if others and mark.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found
