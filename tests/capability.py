"""What tests need of the machine: found out by trying, once, and listed in `capabilities.toml`."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fallow.verticals.compute.worker.cgroups import open_group
from fallow.verticals.compute.worker.container import ContainerRunner
from tests import docker_daemon

CHROMIUM = "chromium"
LISTED: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("capabilities.toml").read_text())


def require(name: str) -> None:
    """Skip the test where the machine lacks `name`, and say how to get it.

    Under CI a skip fails, unless the list says that it depends on the machine.
    """
    listed = LISTED[name]
    if _has(name):
        return
    reason = f"{name} is missing: {listed['what']}. {listed['get']}."
    if os.environ.get("CI") and not listed["machine"]:
        pytest.fail(reason)
    pytest.skip(reason)


@cache
def _has(name: str) -> bool:
    return _PROBES[name]()


def _bubblewrap() -> bool:
    command = ["bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
    return _works(command)


def _root() -> bool:
    return os.geteuid() == 0


def _podman() -> bool:
    return shutil.which("busybox") is not None and asyncio.run(_runs_containers())


def _qemu_user() -> bool:
    return _works(["qemu-x86_64", "-cpu", "Conroe", sys.executable, "-c", ""])


async def _runs_containers() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        runner = ContainerRunner(Path(folder))
        try:
            return "compute.container" in (await runner.probe()).attributes
        finally:
            await runner.erase()


def _namespaces() -> bool:
    name = f"fallow-test-{os.getpid()}"
    inside = ("ip", "netns", "exec", name)
    try:
        return all(
            _works([*command])
            for command in (
                ("ip", "netns", "add", name),
                (*inside, "iptables", "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE"),
                (*inside, "iptables", "-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"),
                (*inside, "iptables", "-A", "INPUT", "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset"),
            )
        )
    finally:
        _works(["ip", "netns", "del", name])


def _mounts() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        return _works(["mount", "-t", "tmpfs", "none", folder]) and _works(["umount", folder])


def _npm() -> bool:
    return _works(["npm", "--version"])


def _chromium() -> bool:
    return _works([CHROMIUM, "--version"])


def promtool() -> str:
    """Where Prometheus' tool is: the machine's, or the one that tools/setup.sh has taken out of its package."""
    return shutil.which("promtool") or str(Path(sys.executable).with_name("promtool"))


def _promtool() -> bool:
    return _works([promtool(), "--version"])


def _memory_cgroup() -> bool:
    group = open_group(f"fallow-test-{os.getpid()}", memory_bytes=1 << 24, processes=8, cpu_milli=1000)
    if group is not None:
        group.close()
    return group is not None


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0
    except OSError:
        return False


_PROBES: dict[str, Callable[[], bool]] = {
    "bubblewrap": _bubblewrap,
    "root": _root,
    "memory-cgroup": _memory_cgroup,
    "podman": _podman,
    "docker": docker_daemon.can_run,
    "qemu-user": _qemu_user,
    "namespaces": _namespaces,
    "mounts": _mounts,
    "npm": _npm,
    "chromium": _chromium,
    "promtool": _promtool,
}
