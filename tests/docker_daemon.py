"""A Docker daemon for tests, with folders of its own; the machine's, if there is one, is left alone."""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fallow.domain.errors import NotFound
from fallow.verticals.compute.worker import container, docker
from fallow.verticals.compute.worker.engine import Engine

DAEMON = "dockerd"
FLAGS = ("--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs", "--log-level=error")
START_S = 120


@contextmanager
def daemon() -> Iterator[str]:
    """Run a daemon; gives its socket. RuntimeError where it does not start."""
    with (
        tempfile.TemporaryDirectory(prefix="docker-") as name,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
    ):
        folder = Path(name)
        listens, says = folder / "docker.sock", folder / "ready.sock"
        told.bind(str(says))
        flags = [f"--host=unix://{listens}", f"--data-root={folder / 'data'}", f"--exec-root={folder / 'docker'}"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [DAEMON, *flags, f"--pidfile={folder / 'pid'}", *FLAGS],
                stdout=log,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": str(says)},
            )
        held = os.pidfd_open(process.pid)
        try:
            if told.fileno() not in select.select([told.fileno(), held], [], [], START_S)[0]:
                raise RuntimeError((folder / "log").read_text()[-1000:])
            yield str(listens)
        finally:
            os.close(held)
            process.terminate()
            process.wait(START_S)


@contextmanager
def docker_only() -> Iterator[str]:
    """Let workers find this daemon and no podman; gives its socket."""

    def no_podman(_: Path) -> Iterator[Engine]:
        raise NotFound("compute.no_podman", "podman is not installed.")

    with daemon() as listens, pytest.MonkeyPatch.context() as patch:
        patch.setattr(container, "_podmans", no_podman)
        patch.setattr(docker, "SOCKETS", (listens,))
        yield listens


def can_run() -> bool:
    """Whether a daemon runs on this machine."""
    if os.geteuid() or not all(shutil.which(name) for name in (DAEMON, "docker", "busybox")):
        return False
    try:
        with daemon():
            return True
    except (RuntimeError, OSError, subprocess.TimeoutExpired):
        return False
