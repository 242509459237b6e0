"""Containers that want more than their lease: the machine's files, its network, its memory, its disk, its time."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fallow.domain.streams import TerminalSize
from fallow.ports.vertical.work import Inside
from fallow.verticals.compute.worker.worker import ComputeWorker
from tests.capability import require
from tests.container_jobs import BUSYBOX, ContainerCase, container_worker, entry, image, layer, oci_archive
from tests.network import BOUND, until
from tests.python_jobs import left_over, redirecting

pytestmark = pytest.mark.xdist_group("containers")

MIB = 1 << 20
ENTRIES = {"bin", "checkpoint", "dev", "etc", "in", "out", "proc", "root", "run", "sys", "tmp", "work"}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComputeWorker]:
    with container_worker(tmp_path_factory.mktemp("containers")) as made:
        yield made


@pytest.fixture
def case(tmp_path: Path, worker: ComputeWorker) -> ContainerCase:
    return ContainerCase(tmp_path, worker)


# what can be seen and done


async def test_nothing_of_the_machine_is_there(case: ContainerCase, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret of the agent")
    wanted = [str(key), str(Path(__file__)), "/etc/shadow", "/etc/hosts", "/etc/resolv.conf"]
    wanted += [
        "/home",
        "/var",
        "/boot",
        "/usr",
        "/run/secrets",
        "/sys/firmware/dmi",
        "/dev/vda",
        "/dev/kmsg",
        "/dev/mem",
    ]
    printed = await case.printed(
        "for name in $WANTED; do ls -d $name 2>/dev/null; done; ls /", env={"WANTED": " ".join(wanted)}
    )
    assert set(printed.split()) <= ENTRIES


async def test_it_has_no_power(case: ContainerCase) -> None:
    printed = await case.printed("cat /proc/self/status; cat /proc/self/uid_map")
    status = dict(line.split(":\t", 1) for line in printed.splitlines() if ":\t" in line)
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    if os.geteuid() == 0:
        assert [int(field) for field in printed.splitlines()[-1].split()] == [0, 0x70000000, 65536]


@pytest.mark.parametrize("path", ["/file", "/in/file", "/etc/file", "/root/file", "/run/file", "/sys/fs/cgroup/file"])
async def test_all_but_four_folders_is_read_only(case: ContainerCase, path: str) -> None:
    assert (
        await case.run(f"echo x > /out/a; echo x > /work/a; echo x > /tmp/a; echo x > /checkpoint/a; echo x > {path}")
    ).reason == "program.exit"


async def test_nothing_can_be_mounted(case: ContainerCase) -> None:
    assert (await case.run("mount -t tmpfs none /tmp")).reason == "program.exit"
    assert (await case.run("mount -o remount,rw /")).reason == "program.exit"


async def test_there_is_no_network(case: ContainerCase) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = f"""
        ls /sys/class/net
        wget -q -T 2 -O - http://127.0.0.1:{port}/ && echo reached
        wget -q -T 2 -O - http://169.254.169.254/ && echo reached
        wget -q -T 2 -O - http://192.168.1.1/ && echo reached
        wget -q -T 2 -O - http://localhost:{port}/ && echo reached
        exit 0
        """
        assert (await case.printed(script)).split() == ["lo"]
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


async def test_names_and_redirects_lead_nowhere(case: ContainerCase) -> None:
    with redirecting("http://192.168.1.1/") as port:
        script = f"""
        for host in localhost 127.0.0.1 rebound.example fallow; do
          wget -q -T 2 -O - http://$host:{port}/ && echo $host
        done
        cat /etc/resolv.conf 2>/dev/null
        exit 0
        """
        assert await case.printed(script) == ""


async def test_no_variable_of_the_machine_is_there(case: ContainerCase, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FALLOW_API_KEY", "HTTPS_PROXY", "http_proxy", "LD_PRELOAD_X", "SECRET"):
        monkeypatch.setenv(name, "secret")
    names = {line.partition("=")[0] for line in (await case.printed("env", env={"MINE": "1"})).splitlines()}
    assert "MINE" in names
    assert names <= {
        *("MINE", "HOME", "PATH", "TZ", "FALLOW_SEED", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
        *("HOSTNAME", "TERM", "container", "SHLVL", "PWD"),
    }


async def test_variables_stand_on_no_command_line(case: ContainerCase) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(case.run("while :; do sleep 1; done", secrets={"TOKEN": "a-value-to-look-for"}))
        await case.started.wait()
        assert left_over("a-value-to-look-for") == []
        assert not list(case.workspace.rglob("env"))
        case.cancel.set()
    assert running.result().reason == "cancelled"


async def test_secrets_are_variables_of_the_program_alone(case: ContainerCase) -> None:
    secrets = {"TOKEN": "s3cret = $HOME", "PULL": "user:password"}
    printed = await case.printed("env; cat /proc/*/cmdline", secrets=secrets, pull_secret="PULL")  # noqa: S106
    assert "TOKEN=s3cret = $HOME\n" in printed
    assert "password" not in printed
    for broken in ({"KEY": "two\nlines"}, {"KEY\n": "value"}):
        refused = await case.run("env", secrets=broken)
        assert (refused.reason, refused.caused_by) == ("program.invalid", "buyer")
        assert "lines" not in case.stderr(refused).replace("line breaks", "")


async def test_the_owners_own_images_are_neither_seen_nor_changed(case: ContainerCase) -> None:
    before = await asyncio.to_thread(_owners_images)
    assert await case.printed("echo ran") == "ran\n"
    assert await asyncio.to_thread(_owners_images) == before


def _owners_images() -> bytes:
    command = ["podman", "--cgroup-manager", "cgroupfs", "images", "--quiet", "--all"]
    return subprocess.run(command, capture_output=True, check=True).stdout


# what can be taken


async def test_a_fork_bomb(case: ContainerCase) -> None:
    # By `command eval` the shell itself goes on where it may not fork, as beside other programs of the same user.
    finished = await case.run("f() { f | f & }; command eval f; while :; do :; done", time_limit_s=2)
    assert (finished.reason, finished.caused_by) == ("program.time", "buyer"), case.stderr(finished)
    assert finished.used_ms < 60_000


async def test_a_memory_bomb(case: ContainerCase) -> None:
    finished = await case.run("x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done", memory_mib=32)
    assert (finished.reason, finished.caused_by) == ("program.memory", "buyer")


async def test_files_in_memory_are_memory(case: ContainerCase) -> None:
    fill = "for name in /tmp/a /dev/shm/a; do dd if=/dev/zero of=$name bs=1M count=100; done; "
    script = f"{fill} stat -c %s /tmp/a /dev/shm/a"
    sizes = (await case.printed(script, memory_mib=64)).split()
    assert [int(size) for size in sizes] == [16 * MIB, 16 * MIB]


@pytest.mark.parametrize(
    "script",
    [
        "while :; do dd if=/dev/zero of=/out/$((i=i+1)) bs=1M count=4; done",
        "while :; do dd if=/dev/zero of=/work/$((i=i+1)) bs=1M count=4; done",
        "dd if=/dev/zero of=/out/a bs=1M count=1000; while :; do :; done",
        "cat /dev/zero",
        "cat /dev/zero >&2",
        "while :; do touch /out/$((i=i+1)); done",
    ],
)
async def test_the_disk_cannot_be_filled(case: ContainerCase, script: str) -> None:
    finished = await case.run(script, disk_mib=16, output_mib=16, time_limit_s=20)
    assert (finished.ok, finished.caused_by) == (False, "buyer")
    assert finished.reason in {"program.output", "program.time"}
    if finished.reason == "program.time":  # the kernel refuses more; it spins until its time is over
        assert "count=1000" in script


async def test_a_container_that_ignores_being_asked_is_killed(case: ContainerCase) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(
            case.run("trap '' TERM INT HUP; (trap '' TERM; sleep 45673) & while :; do sleep 1; done")
        )
        await case.started.wait()
        case.cancel.set()
    assert running.result().reason == "cancelled"
    # A process that was killed is there until the kernel has taken it down.
    gone = ("sleep\x0045673", "trap '' TERM INT HUP; (")
    await until(lambda: not any(map(left_over, gone)), "nothing of the container is left")


async def test_links_in_outputs_are_not_followed(case: ContainerCase) -> None:
    made = "ln -s /etc/passwd /out/link; ln -s / /out/root; echo x > /out/plain; mkfifo /out/pipe; chmod 0 /out/plain"
    tools = layer(*((entry(f"bin/{name}", tarfile.SYMTYPE, "busybox"), b"") for name in ("ln", "mkfifo", "chmod")))
    finished = await case.run(made, archive=oci_archive(image(tools)))
    assert case.outputs(finished) == {"plain": b"x\n"}, case.stderr(finished)


# images


async def test_a_layer_that_writes_through_its_own_link(case: ContainerCase, tmp_path: Path) -> None:
    """The lower layer makes a link to a folder of the machine, the upper one writes below it."""
    target = tmp_path / "owner"
    target.mkdir(mode=0o777)
    lower = layer((entry("way", tarfile.SYMTYPE, str(target)), b""))
    upper = layer((entry("way/escaped"), b"x"))
    await case.run("ls /", archive=oci_archive(image(lower, upper)))
    await case.run(
        "ls /",
        archive=oci_archive(
            image(layer((entry("way", tarfile.SYMTYPE, str(target)), b""), (entry("way/escaped"), b"x")))
        ),
    )
    assert list(target.iterdir()) == []


async def test_volumes_and_checks_of_an_image_are_not_made(case: ContainerCase) -> None:
    greedy = oci_archive(image(Volumes={"/data": {}}, Healthcheck={"Test": ["CMD", "/bin/touch", "/out/checked"]}))
    finished = await case.run("touch /data/x", archive=greedy)
    assert finished.reason == "program.exit"
    assert case.outputs(finished) == {}


async def test_a_program_with_the_owners_bit_stays_who_it_is(case: ContainerCase) -> None:
    tools = layer((entry("setuid/id", mode=0o4755), BUSYBOX.read_bytes()))
    printed = await case.printed("/setuid/id -u", archive=oci_archive(image(tools, User="1000:1000")))
    assert printed == "1000\n"


# the agent's end

AGENT = """
import asyncio, sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tests.container_jobs import ContainerCase
from fallow.verticals.compute.worker.worker import ComputeWorker

async def main() -> None:
    case = ContainerCase(Path(sys.argv[1]), ComputeWorker(Path(sys.argv[1], "cache")))
    async with asyncio.TaskGroup() as group:
        group.create_task(case.run("trap '' TERM; while :; do sleep 4321; done", time_limit_s=600))
        await case.started.wait()
        print((case.workspace / "pid").read_text(), flush=True)

asyncio.run(main())
"""


def test_no_container_outlives_an_agent_that_was_killed(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", AGENT, str(tmp_path)]
    with container_worker(tmp_path / "cache"):
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, start_new_session=True) as agent:
            assert agent.stdout is not None
            held = os.pidfd_open(int(agent.stdout.readline()))
            agent.send_signal(signal.SIGKILL)
        assert _ends(held, seconds=BOUND)


def _ends(held: int, *, seconds: float) -> bool:
    """Whether a process, of which a descriptor is held, ends within that time."""
    try:
        return bool(select.select([held], [], [], seconds)[0])
    finally:
        os.close(held)


# the owner's disk


@pytest.mark.parametrize("kind", ["input", "image"])
async def test_a_disk_that_its_owner_filled_is_nobodys_fault_but_his(
    case: ContainerCase, tmp_path: Path, kind: str
) -> None:
    require("root")
    case.workspaces = tmp_path / "full"
    case.workspaces.mkdir()
    with mounted(case.workspaces, bytes_max=MIB):
        what = (
            {"item": bytes(2 * MIB)} if kind == "input" else {"archive": oci_archive(image(layer((entry("x"), b"x"))))}
        )
        finished = await case.run("true", **what)
        assert (finished.ok, finished.reason, finished.caused_by) == (False, "agent.disk_full", "owner")
        assert not case.started.is_set()


@contextmanager
def mounted(folder: Path, *, bytes_max: int) -> Iterator[None]:
    """A small file system of its own in a folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={bytes_max}", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


# by way of commands in it


@asynccontextmanager
async def running(case: ContainerCase, script: str = "exec sleep 60", **changes: Any) -> AsyncIterator[Inside]:
    """A container that runs, and the way into it."""
    ways: list[Inside | None] = []
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        work = group.create_task(case.run(script, opened=ways.append, **changes))
        await until(lambda: bool(ways) or work.done(), "it runs")
        assert ways, work.result()
        assert ways[0] is not None
        yield ways[0]
        case.cancel.set()
        await work
    assert ways[1:] == [None]


async def said(inside: Inside, script: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """What became of a script in a container."""
    async with inside.command(["sh", "-c", script], None) as command:
        assert command.stderr is not None
        command.stdin.write(stdin)
        command.stdin.write_eof()
        ended, out, err = await asyncio.gather(command.wait(), command.stdout.read(), command.stderr.read())
    return ended.code, out.decode(), (err + ended.said).decode()


SIZE = TerminalSize(24, 80)


async def test_a_command_in_it_has_what_its_program_has(case: ContainerCase) -> None:
    require("memory-cgroup")
    shown = "id; env; cat /proc/self/limits; grep -E '^(Cap|NoNew|Seccomp)' /proc/self/status"
    shown += "; stat -L -c %i /proc/self/ns/*"
    script = f"cd /work; ({shown}) > /work/own; echo begun; exec sleep 60"
    async with running(case, script, env={"MINE": "1"}, secrets={"KEY": "s3cret"}, workdir="/work") as inside:
        await until(lambda: (case.workspace / "stdout").stat().st_size > 0, "it has begun")
        code, out, err = await said(inside, shown)
        own = (case.workspace / "work" / "own").read_text()
    changing = ("SHLVL=", "OLDPWD=")
    lines = [[one for one in text.splitlines() if not one.startswith(changing)] for text in (out, own)]
    assert (code, err, sorted(lines[0])) == (0, "", sorted(lines[1]))
    assert "KEY=s3cret" in lines[0]
    assert "NoNewPrivs:\t1" in lines[0]


async def test_a_command_in_it_reads_writes_and_says_how_it_ended(case: ContainerCase) -> None:
    require("memory-cgroup")
    async with running(case) as inside:
        assert await said(inside, "cat; echo wrong >&2; exit 7", b"hello") == (7, "hello", "wrong\n")
        assert (await said(inside, "kill -9 $$"))[0] == 137
        async with inside.command(["/no/such"], None) as command:
            ended = await command.wait()
        assert (ended.code, b"no such program" in ended.said) == (127, True)
        becomes = 'until [ "$(stty size 2>/dev/null)" = "{}" ]; do sleep 0.05; done; stty size;'
        grows = f"{becomes.format('24 80')} {becomes.format('50 132')} read a; echo $a"
        async with inside.command(["sh", "-c", grows], SIZE) as command:
            assert await command.stdout.readline() == b"24 80\r\n"
            command.resize(TerminalSize(50, 132))
            assert await command.stdout.readline() == b"50 132\r\n"
            command.stdin.write(b"abc\r")
            assert (await command.stdout.readline(), await command.stdout.readline()) == (b"abc\r\n", b"abc\r\n")
            assert (await command.wait()).code == 0


async def test_what_a_command_in_it_started_ends_with_it(case: ContainerCase) -> None:
    require("memory-cgroup")
    async with running(case) as inside:
        assert await said(inside, "setsid sleep 45671 & echo left") == (0, "left\n", "")
        assert left_over("sleep\x0045671") == []
        async with inside.command(["sh", "-c", "setsid sleep 45672 & echo begun; exec sleep 45672"], None) as command:
            assert await command.stdout.readline() == b"begun\n"
        assert left_over("sleep\x0045672") == []
        async with inside.command(["sh", "-c", "setsid sleep 45673 & echo begun; exec sleep 45673"], None) as command:
            assert await command.stdout.readline() == b"begun\n"
            case.cancel.set()
            assert (await command.wait()).code == 137
        assert left_over("sleep\x0045673") == []


async def test_a_fork_bomb_by_a_command_in_it(case: ContainerCase) -> None:
    require("memory-cgroup")
    async with running(case) as inside:
        bomb = "bomb() { sleep 45674 & bomb; }; bomb"
        code, _, err = await said(inside, f"({bomb}); echo {{}}; exit 3")
        assert (code, "fork" in err) == (3, True)
        assert left_over("sleep\x0045674") == []
