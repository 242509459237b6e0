"""Containers on a machine that has Docker alone: what holds with podman holds there, and the daemon keeps nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fallow.domain.errors import Unavailable
from fallow.verticals.compute.worker.container_job import ContainerJob
from fallow.verticals.compute.worker.docker import Docker
from fallow.verticals.compute.worker.worker import ComputeWorker
from tests.attacks.test_containers import _ends, running, said
from tests.capability import require
from tests.container_jobs import ContainerCase, docker_archive, entry, image, layer, oci_archive, zstd
from tests.docker_daemon import docker_only
from tests.network import BOUND
from tests.python_jobs import left_over

pytestmark = [pytest.mark.xdist_group("docker"), pytest.mark.capability("docker")]
MIB = 1 << 20


@pytest.fixture(scope="module")
def socket() -> Iterator[str]:
    require("docker")
    with docker_only() as listens:
        yield listens


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, socket: str) -> Iterator[ComputeWorker]:
    made = ComputeWorker(tmp_path_factory.mktemp("containers"))
    yield made
    asyncio.run(made.erase(for_good=True))
    assert docker(socket, "ps", "--all", "--quiet") + docker(socket, "images", "--all", "--quiet") == ""


@pytest.fixture
def case(tmp_path: Path, worker: ComputeWorker) -> ContainerCase:
    return ContainerCase(tmp_path, worker)


def docker(socket: str, *words: str) -> str:
    """What its owner sees of the daemon."""
    command = ["docker", "--host", f"unix://{socket}", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


# that it runs


async def test_the_probe_says_which_engine_it_is(worker: ComputeWorker) -> None:
    probe = await worker.probe()
    assert (probe.attributes["compute.container"], probe.attributes["compute.container.engine"]) == (
        "linux/amd64",
        "docker",
    )
    assert "container" not in probe.missing


@pytest.mark.parametrize("archive", [oci_archive(image()), oci_archive(image(), zstd), docker_archive(image())])
async def test_what_goes_in_and_comes_out(case: ContainerCase, archive: bytes) -> None:
    script = "cat /in/input; echo oh >&2; echo $KEY > /out/file; echo kept > /work/x; pwd; sleep 0.5; exit 3"
    finished = await case.run(script, item=b"one item\n", archive=archive, secrets={"KEY": "s3cret"}, workdir="/work")
    assert (finished.ok, finished.reason, finished.caused_by) == (False, "program.exit", "buyer")
    assert case.outcome(finished).exit_code == 3
    assert (case.stdout(finished), case.stderr(finished)) == ("one item\n/work\n", "oh\n")
    assert case.outputs(finished) == {"file": b"s3cret\n"}
    assert finished.measures["peak_memory_bytes"] > 0


async def test_what_an_image_does_not_have(case: ContainerCase) -> None:
    finished = await case.run("", entrypoint=["/not/there"])
    assert (finished.reason, finished.caused_by, finished.used_ms) == ("program.invalid", "buyer", 0)
    assert str(case.workspace) not in case.stderr(finished)


async def test_one_that_is_cancelled_before_it_began(case: ContainerCase, socket: str) -> None:
    case.cancel.set()
    finished = await case.run("true")
    assert (finished.ok, finished.reason, finished.used_ms) == (False, "cancelled", 0)
    assert docker(socket, "ps", "--all", "--quiet", "--filter", "status=running") == ""


# what it may not


async def test_it_is_nobody_and_has_no_power(case: ContainerCase) -> None:
    shown = "id -u; id -g; grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status; cat /etc/resolv.conf; ls /sys/class/net"
    printed = (await case.printed(shown, archive=oci_archive(image(User="0:0")))).split()
    assert int(printed[0]) == int(printed[1]) >= 0x70000000, "whoever the image names"
    assert printed[-1] == "lo"
    status = dict(zip(printed[2:-1:2], printed[3:-1:2], strict=True))
    assert {status[name] for name in status if name.startswith("Cap")} == {"0" * 16}
    assert (status["NoNewPrivs:"], status["Seccomp:"], len(status)) == ("1", "2", 7)


async def test_nothing_of_the_image_is_made_on_the_owners_disk(case: ContainerCase, socket: str) -> None:
    greedy = image(Volumes={"/data": {}}, Healthcheck={"Test": ["CMD", "/bin/touch", "/out/checked"]}, User="0")
    script = "for at in /data /etc /bin /; do touch $at/x 2>/dev/null && echo $at; done; touch /tmp/x /work/x /out/x"
    finished = await case.run(script, archive=oci_archive(greedy))
    assert (finished.ok, case.stdout(finished)) == (True, "")
    assert case.outputs(finished) == {"x": b""}
    assert docker(socket, "volume", "ls", "--quiet") == ""


async def test_the_owners_bit_gives_nothing(case: ContainerCase) -> None:
    tools = layer((entry("setuid/cat", mode=0o4755), b"#!/bin/sh\n"), (entry("secret", mode=0o600), b"of root"))
    printed = await case.printed("cat /secret 2>/dev/null || echo refused", archive=oci_archive(image(tools)))
    assert printed == "refused\n"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("dd if=/dev/zero of=/dev/null bs=200M count=1", "program.memory"),
        ("while :; do dd if=/dev/zero of=/tmp/x bs=1M count=500; cat /tmp/x /tmp/x > /dev/null; done", "program.time"),
        ("dd if=/dev/zero of=/out/x bs=1M count=300", "program.output"),
        ("n=0; while :; do n=$((n+1)); echo $n > /out/$n; done", "program.output"),
        ("trap '' TERM; while :; do sleep 1; done", "program.time"),
    ],
)
async def test_its_limits(case: ContainerCase, script: str, reason: str) -> None:
    # Others come first: beside much other work it gets to its other limits late.
    finished = await case.run(script, time_limit_s=4 if reason == "program.time" else 120, disk_mib=16, output_mib=16)
    assert (finished.ok, finished.reason) == (False, reason), case.stderr(finished)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("dd if=/dev/zero of=/dev/null bs=200M count=1", "program.memory"),
        ("dd if=/dev/zero of=/out/x bs=1M count=300", "program.output"),
        ("exit 3", "program.exit"),
    ],
)
async def test_its_limits_though_it_has_ended_before_anybody_looked(
    case: ContainerCase, script: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Docker.first

    async def late(self: Docker, job: ContainerJob) -> int | None:
        """Whoever starts it takes None for not yet, and looks again."""
        return await real(self, job) or 0 if await over(self, job) else None

    async def over(engine: Docker, job: ContainerJob) -> bool:
        asked = ("ps", "--all", "--quiet", "--filter", f"name=^{job.name}$", "--filter", "status=exited")
        return bool((await engine.call(*asked)).strip())

    monkeypatch.setattr(Docker, "first", late)
    finished = await case.run(script, disk_mib=16, output_mib=16)
    assert (finished.ok, finished.reason, finished.caused_by) == (False, reason, "buyer")


async def test_a_fork_bomb(case: ContainerCase) -> None:
    finished = await case.run("bomb() { sleep 45675 & bomb; }; bomb", time_limit_s=4)
    assert not finished.ok
    assert left_over("sleep\x0045675") == []


async def test_commands_in_it(case: ContainerCase) -> None:
    async with running(case, archive=oci_archive(image()), secrets={"KEY": "s3cret"}) as inside:
        code, out, err = await said(inside, "cat; echo $KEY; id -u; echo wrong >&2; exit 7", b"hello ")
        assert (code, out.split()[:2], int(out.split()[2]) >= 0x70000000, err) == (
            7,
            ["hello", "s3cret"],
            True,
            "wrong\n",
        )
        assert await said(inside, "setsid sleep 45676 & echo left") == (0, "left\n", "")
        assert left_over("sleep\x0045676") == []


# the daemon outlives whoever asks it

AGENT = """
import asyncio, sys
from pathlib import Path
from fallow.domain.errors import NotFound
from fallow.verticals.compute.worker import container, docker
from fallow.verticals.compute.worker.worker import ComputeWorker
from tests.container_jobs import ContainerCase

container._podmans = lambda _: iter(())
docker.SOCKETS = (sys.argv[2],)

async def main() -> None:
    case = ContainerCase(Path(sys.argv[1]), ComputeWorker(Path(sys.argv[1], "cache")))
    async with asyncio.TaskGroup() as group:
        group.create_task(case.run("trap '' TERM; while :; do sleep 45677; done", time_limit_s=600))
        await case.started.wait()
        print("started", flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("keeper", [True, False])
def test_no_container_outlives_an_agent_that_was_killed(tmp_path: Path, socket: str, keeper: bool) -> None:
    """Its keeper removes it; where that was killed too, the agent's next start does."""
    owners = docker(socket, "ps", "--all", "--quiet")
    command = [sys.executable, "-c", AGENT, str(tmp_path), socket]
    again = ComputeWorker(tmp_path / "cache")
    try:
        with subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE) as agent:
            assert agent.stdout is not None
            assert agent.stdout.readline() == b"started\n"
            [name] = docker(socket, "ps", "--format", "{{.Names}}").split()
            held = os.pidfd_open(int(docker(socket, "inspect", "--format", "{{.State.Pid}}", name)))
            if not keeper:
                for pid in left_over(name):
                    os.kill(pid, signal.SIGKILL)
            agent.send_signal(signal.SIGKILL)
        if not keeper:
            asyncio.run(again.probe())
        assert _ends(held, seconds=BOUND)
    finally:
        asyncio.run(again.erase(for_good=True))
    assert docker(socket, "ps", "--all", "--quiet") == owners


async def test_what_its_owner_has_in_the_daemon_is_left_alone(case: ContainerCase, socket: str, tmp_path: Path) -> None:
    own = tmp_path / "own.tar"
    own.write_bytes(docker_archive(image(Env=["PATH=/bin", "OWN=1"])))
    docker(socket, "load", "--quiet", "--input", str(own))
    docker(socket, "create", "--name", "owners", "a:b")
    try:
        other = ComputeWorker(tmp_path / "other")
        await case.printed("echo mine")
        await other.probe()
        await other.erase(for_good=True)
        assert docker(socket, "ps", "--all", "--format", "{{.Names}}") == "owners\n"
        assert "a:b" in docker(socket, "images", "--format", "{{.Repository}}:{{.Tag}}")
    finally:
        docker(socket, "rm", "owners")
        docker(socket, "rmi", "a:b")


@pytest.mark.parametrize(
    ("option", "why"),
    [
        ('"SecurityOptions":["name=seccomp,profile=unconfined"]', "filters no system calls"),
        ('"SecurityOptions":[]', "filters no system calls"),
        ('"SecurityOptions":["name=seccomp,profile=default","name=rootless"]', "other users"),
        ('"SwapLimit":false', "cannot bound memory"),
    ],
)
async def test_a_daemon_that_would_not_hold_it(tmp_path: Path, option: str, why: str) -> None:
    good = '"SecurityOptions":["name=seccomp,profile=default"],"MemoryLimit":true,"SwapLimit":true,"PidsLimit":true'
    binary = tmp_path / "docker"
    binary.write_text(f"#!/bin/sh\necho '{{{good},\"CpuCfsQuota\":true,{option}}}'\n")
    binary.chmod(0o700)
    with pytest.raises(Unavailable, match=why):
        await Docker(str(binary), "", "label", tmp_path / "home").ready()
