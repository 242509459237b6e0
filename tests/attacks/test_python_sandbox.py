# ruff: noqa: ASYNC240
"""Scripts and bundles that want more than their lease: the machine's files, its network, its memory, its disk."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import socket
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fallow.domain.errors import InvalidInput, TooMuch
from fallow.verticals.compute.worker import sandbox
from fallow.verticals.compute.worker.bundles import ENTRIES_MAX, unpack
from tests.capability import require
from tests.python_jobs import PythonCase, left_over, redirecting

MIB = 1 << 20


@pytest.fixture
def case(tmp_path: Path) -> PythonCase:
    require("bubblewrap")
    return PythonCase(tmp_path)


@pytest.fixture(params=["cgroup", "rlimits"])
def limited_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of keeping a program in its bounds."""
    require("bubblewrap")
    if request.param == "cgroup":
        require("memory-cgroup")
    else:
        monkeypatch.setattr(sandbox, "open_group", lambda *_, **__: None)
    return str(request.param)


# what can be seen


async def test_files_of_the_machine_are_not_there(case: PythonCase, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret of the agent")
    wanted = ["/etc/shadow", "/root", "/home", "/var", "/sys", "/boot", "/etc/hostname", "/run"]
    wanted += [str(Path.home()), str(key), str(case.workspace), str(Path(__file__).resolve())]
    printed = await case.printed(
        """
        import json, os, sys
        print(json.dumps([path for path in sys.argv[1:] if os.path.exists(path)]))
        """,
        args=wanted,
    )
    assert json.loads(printed) == []


async def test_the_whole_tree_holds_no_file_of_the_owner(case: PythonCase) -> None:
    printed = await case.printed(
        """
        import json, os
        print(json.dumps([sorted(os.listdir("/")), sorted(os.listdir("/etc")), open("/etc/passwd").read(),
                          os.listdir("/usr/local") if not __import__("sys").prefix.startswith("/usr/local") else []]))
        """
    )
    top, etc, passwd, local = json.loads(printed)
    assert set(top) <= {
        *("bin", "bundle", "checkpoint", "dev", "etc", "in", "lib", "lib32", "lib64", "libx32"),
        *("nix", "out", "proc", "python", "sbin", "tmp", "usr", "work"),
    }
    assert set(etc) <= {"group", "hosts", "ld.so.cache", "nsswitch.conf", "passwd"}
    assert passwd == "job:x:1000:1000::/work:/bin/sh\n"  # noqa: S105 - a file's content
    assert local == []


async def test_packages_that_the_owner_installed_are_not_there(case: PythonCase) -> None:
    printed = await case.printed("import importlib.util as u; print(u.find_spec('pip'), u.find_spec('msgspec'))")
    assert printed == "None None\n"


async def test_the_environment_holds_no_secret(case: PythonCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FALLOW_API_KEY", "fk_secret")
    monkeypatch.setenv("HOME_OF_SECRETS", "x")
    printed = await case.printed("import json, os; print(json.dumps(dict(os.environ)))", env={"MINE": "1"})
    found = json.loads(printed)
    assert found["MINE"] == "1"
    assert found["HOME"] == "/work"
    assert not {"FALLOW_API_KEY", "HOME_OF_SECRETS", "USER", "VIRTUAL_ENV"} & set(found)


async def test_secrets_are_variables_and_stand_on_no_command_line(case: PythonCase) -> None:
    value = "a-value\nof two lines"
    secrets = {"TOKEN": value, "LD_LIBRARY_PATH": "/nowhere/in-particular", "MINE": "over the order's"}
    script = """
    import json, os, time
    lines = [open(f"/proc/{pid}/cmdline").read() for pid in os.listdir("/proc") if pid.isdecimal()]
    print(json.dumps([dict(os.environ), lines]), flush=True)
    open("/checkpoint/up", "w").write("1")
    time.sleep(60)
    """
    seen: list[int] = []

    async def look(_archive: Path, _used_ms: int) -> None:
        for one in secrets.values():
            seen.extend(left_over(one))
        case.cancel.set()

    lease: dict[str, Any] = {"secrets": secrets, "save": look, "checkpoint_s": 1, "until_stopped": True}
    finished = await case.run(script, env={"MINE": "1"}, **lease)
    assert seen == []
    environment, lines = json.loads(case.stdout(finished))
    assert secrets.items() <= environment.items()
    assert not [name for name in environment if name.startswith("FALLOW_SECRET")]
    assert not [line for line in lines if "a-value" in line]


async def test_no_process_of_the_machine_is_seen(case: PythonCase) -> None:
    printed = await case.printed(
        """
        import os
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            print(open(f"/proc/{pid}/cmdline").read().replace("\\0", " "))
        try:
            os.kill(1, 9); os.kill(1, 0)
        except OSError as error:
            print(error)
        """
    )
    assert len(printed.splitlines()) <= 4
    assert "pytest" not in printed


async def test_the_job_is_nobody_of_the_machine(case: PythonCase) -> None:
    status = json.loads(
        await case.printed(
            """
            import json
            lines = (line.split(":") for line in open("/proc/self/status"))
            print(json.dumps({line[0]: line[1].split() for line in lines}))
            """
        )
    )
    assert status["Uid"] == ["1000"] * 4
    assert [status[name] for name in ("CapPrm", "CapEff", "CapAmb")] == [["0" * 16]] * 3
    assert status["NoNewPrivs"] == ["1"]
    assert status["Seccomp"] == ["2"]


async def test_started_by_root_it_is_not_root_outside(case: PythonCase) -> None:
    require("root")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(
            case.run("print('/in/waits-here'); import threading; threading.Event().wait()", args=["mark-of-uids"])
        )
        await case.started.wait()
        pids = await appeared("mark-of-uids", "python")
        uids = {Path(f"/proc/{pid}").stat().st_uid for pid in pids}
        case.cancel.set()
    assert running.result().reason == "cancelled"
    assert uids
    assert 0 not in uids


async def test_variables_cannot_get_at_what_sets_the_sandbox_up(case: PythonCase) -> None:
    finished = await case.run("print('ran')", env={"LD_PRELOAD": "/bundle/evil.so", "BASH_ENV": "/bundle/x"})
    assert finished.ok
    # The loader complains once for each program that saw the variable: the interpreter, and nothing before it.
    assert case.stderr(finished).count("evil.so") <= 1


# what can be reached


async def test_there_is_no_network(case: PythonCase) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        printed = await case.printed(
            """
            import json, socket, sys
            found = []
            for host, port in [("127.0.0.1", int(sys.argv[1])), ("192.168.0.1", 80), ("169.254.169.254", 80),
                               ("10.0.0.1", 80), ("1.1.1.1", 53), ("::1", int(sys.argv[1]))]:
                try:
                    socket.create_connection((host, port), timeout=3)
                    found.append(host)
                except OSError:
                    pass
            for family in (40, 16, 17):  # vsock, netlink, packet
                try:
                    socket.socket(family, socket.SOCK_DGRAM)
                    found.append(family)
                except OSError:
                    pass
            try:
                socket.getaddrinfo("example.com", 80)
                found.append("names")
            except OSError:
                pass
            print(json.dumps([found, socket.gethostname()]))
            """,
            args=[str(server.getsockname()[1])],
        )
    assert json.loads(printed) == [[], "fallow"]


async def test_names_and_redirects_lead_nowhere(case: PythonCase) -> None:
    """Neither a name that is resolved anew each time nor a server's redirect is of use where nothing is reached."""
    with redirecting("http://192.168.1.1/") as port:
        printed = await case.printed(
            """
            import socket, sys, urllib.request
            for host in ("localhost", "127.0.0.1", "rebound.example", "fallow"):
                try:
                    print(urllib.request.urlopen(f"http://{host}:{sys.argv[1]}/", timeout=3).read())
                except OSError:
                    pass
                try:
                    print([where for *_, where in socket.getaddrinfo(host, 80)
                           if not where[0].startswith(("127.", "::1"))] or "")
                except OSError:
                    pass
            """,
            args=[str(port)],
        )
    assert printed.split() == []


async def test_abstract_sockets_of_the_machine_are_not_there(case: PythonCase) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(b"\0fallow-test-%d" % os.getpid())
        server.listen()
        finished = await case.run(
            "import socket, sys; socket.socket(socket.AF_UNIX).connect(b'\\0' + sys.argv[1].encode())",
            args=[f"fallow-test-{os.getpid()}"],
        )
    assert "ConnectionRefusedError" in case.stderr(finished)


async def test_no_more_namespaces_and_no_kernel_doors(case: PythonCase) -> None:
    printed = await case.printed(
        """
        import ctypes, os
        libc = ctypes.CDLL(None, use_errno=True)
        calls = {"unshare": (0x10000000,), "mount": (None, b"/work", b"tmpfs", 0, None), "chroot": (b"/work",),
                 "ptrace": (0, 0, 0, 0), "setns": (0, 0)}
        for name, arguments in calls.items():
            print(name, getattr(libc, name)(*arguments))
        libc.syscall.restype = ctypes.c_long
        print("io_uring", libc.syscall(425, 8, None), "userns clone", libc.syscall(435, None, 0))
        """
    )
    words = printed.split()
    assert set(words) & {"0", "1", "2", "3", "4"} == set(), printed
    assert words.count("-1") == 7


# what can be written


async def test_nothing_but_its_own_folders_can_be_written(case: PythonCase) -> None:
    printed = await case.printed(
        """
        import json, os
        found = []
        for folder, _, _ in os.walk("/"):
            if folder.startswith("/proc/") or not os.access(folder, os.W_OK):
                continue
            try:
                with open(os.path.join(folder, "x"), "w"):
                    found.append(folder)
            except OSError:
                pass
        for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/bundle/script.py"):
            try:
                open(path, "w")
                found.append(path)
            except OSError:
                pass
        print(json.dumps(sorted(found)))
        """
    )
    assert json.loads(printed) == ["/checkpoint", "/dev/shm", "/out", "/tmp", "/work"]  # noqa: S108


async def test_links_in_outputs_are_not_followed(case: PythonCase, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the owner")
    finished = await case.run(
        """
        import os, sys
        for number, target in enumerate(["/etc/passwd", "/etc/shadow", "/proc/self/environ", sys.argv[1], ".."]):
            os.symlink(target, f"/out/{number}")
        os.mkdir("/out/folder")
        os.symlink("/", "/out/folder/root")
        os.mkfifo("/out/pipe")
        open("/out/good", "w").write("mine")
        os.link("/out/good", "/out/twice")
        open("/out/single", "w").write("mine too")
        """,
        args=[str(secret)],
    )
    assert finished.ok
    assert case.outputs(finished) == {"single": b"mine too"}


async def test_outputs_that_nobody_may_read_do_not_harm(case: PythonCase) -> None:
    finished = await case.run(
        """
        import os
        os.mkdir("/out/closed")
        open("/out/closed/file", "w").write("x")
        os.chmod("/out/closed/file", 0)
        os.chmod("/out/closed", 0)
        os.chmod("/out", 0)
        """
    )
    assert case.outputs(finished) == {"closed/file": b"x"}
    shutil.rmtree(case.workspace)


async def test_folders_without_end_do_not_harm(case: PythonCase) -> None:
    finished = await case.run(
        """
        import os
        for folder in ("/out", "/work"):
            os.chdir(folder)
            for _ in range(3000):
                os.mkdir("d" * 50)
                os.chdir("d" * 50)
        """
    )
    assert (finished.reason, finished.caused_by) == ("program.output", "buyer")
    assert not (case.workspace / "work").exists()
    shutil.rmtree(case.workspace)


async def test_names_that_are_no_text_are_refused(case: PythonCase) -> None:
    finished = await case.run("open(b'/out/\\xff\\xfe', 'w'); open('/out/\\x1b[2J', 'w')")
    assert (finished.reason, finished.caused_by) == ("program.output", "buyer")


# what can be used up


async def test_a_memory_bomb(case: PythonCase, limited_by: str) -> None:
    finished = await case.run(
        """
        held = []
        while True:
            held.append(bytearray(1 << 20))
        """,
        memory_mib=96,
    )
    assert (finished.reason, finished.caused_by) == ("program.memory", "buyer"), limited_by
    assert finished.measures["peak_memory_bytes"] < 2048 * MIB


async def test_a_memory_bomb_of_many_processes(case: PythonCase, limited_by: str) -> None:
    finished = await case.run(
        """
        import os
        for _ in range(8):
            if not os.fork():
                held = bytearray(os.urandom(1 << 20) * 40)
                while True: pass
        raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))
        """,
        memory_mib=128,
        time_limit_s=20,
    )
    assert (finished.reason, finished.caused_by) == ("program.memory", "buyer"), limited_by


async def test_files_in_memory_are_bounded(case: PythonCase, limited_by: str) -> None:
    finished = await case.run(
        """
        for folder in ("/tmp", "/dev/shm"):
            try:
                with open(folder + "/big", "wb") as file:
                    for _ in range(200): file.write(bytes(1 << 20))
                print("written")
            except OSError as error:
                print(error.strerror)
        """,
        memory_mib=128,
        disk_mib=1000,
    )
    assert "written" not in case.stdout(finished), limited_by


async def test_a_fork_bomb(case: PythonCase, limited_by: str) -> None:
    finished = await case.run(
        """
        import os, sys, time
        if os.fork() == 0:
            while True:
                try:
                    os.fork()
                except OSError:
                    time.sleep(0.01)
        most, until = 0, time.monotonic() + 2
        while time.monotonic() < until:
            most = max(most, sum(name.isdecimal() for name in os.listdir("/proc")))
        print(most, flush=True)
        sys.exit(1)
        """,
        args=[f"mark-of-forks-{limited_by}"],
        time_limit_s=10,
    )
    assert not finished.ok
    assert finished.caused_by == "buyer"
    assert left_over(f"mark-of-forks-{limited_by}") == []
    # The first of all may not come to count in time: it has one share of the processor among all that it made.
    if out := case.stdout(finished):
        # One more where each process is limited by itself: the first of the sandbox counts as another user's.
        assert sandbox.PROCESSES_MAX // 2 < int(out) <= sandbox.PROCESSES_MAX + (limited_by == "rlimits"), limited_by


async def test_the_disk_cannot_be_filled(case: PythonCase) -> None:
    free = shutil.disk_usage(case.workspace).free
    finished = await case.run(
        """
        number = 0
        while True:
            with open(f"/work/{number}", "wb") as file:
                for _ in range(8): file.write(bytes(1 << 20))
            number += 1
        """,
        disk_mib=32,
        output_mib=1,
    )
    assert (finished.reason, finished.caused_by) == ("program.output", "buyer")
    assert not (case.workspace / "work").exists()
    assert shutil.disk_usage(case.workspace).free > free - 200 * MIB


async def test_one_endless_file_is_refused_by_the_kernel(case: PythonCase) -> None:
    finished = await case.run("open('/out/big', 'wb').truncate(1 << 40)", disk_mib=32)
    assert "File too large" in case.stderr(finished)
    finished = await PythonCase(case.workspace / "next").run("while True: print('x' * 100_000)", disk_mib=8)
    assert not finished.ok
    assert finished.caused_by == "buyer"


async def test_endless_small_files_count(case: PythonCase) -> None:
    finished = await case.run(
        """
        number = 0
        while True:
            open(f"/out/{number}", "w").close()
            number += 1
        """,
        disk_mib=8,
        output_mib=1,
    )
    assert (finished.reason, finished.caused_by) == ("program.output", "buyer")


# what would stay


async def test_a_script_that_ignores_being_asked_is_killed(case: PythonCase) -> None:
    finished = await case.run(
        """
        import os, signal
        for number in range(1, 32):
            try:
                signal.signal(number, signal.SIG_IGN)
            except OSError:
                pass
        os.fork()
        while True: pass
        """,
        args=["mark-of-deaf"],
        time_limit_s=2,
    )
    assert finished.reason == "program.time"
    assert 2000 <= finished.used_ms < 60_000
    assert left_over("mark-of-deaf") == []


async def test_processes_that_are_left_behind_are_gone(case: PythonCase) -> None:
    finished = await case.run(
        """
        import os, signal
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
                while True: pass
            os._exit(0)
        os.wait()
        """,
        args=["mark-of-orphans"],
        time_limit_s=20,
    )
    assert finished.ok
    assert left_over("mark-of-orphans") == []


async def test_a_killed_task_leaves_nothing_behind(case: PythonCase) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(case.run("while True: pass", args=["mark-of-killed"]))
        await case.started.wait()
        await appeared("mark-of-killed", "python")
        running.cancel()
    assert running.cancelled()
    assert left_over("mark-of-killed") == []


# bundles


def archive(*entries: tuple[str, bytes, int]) -> bytes:
    """A ZIP archive of (name, content, mode)."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content, mode in entries:
            entry = zipfile.ZipInfo("x")
            entry.filename = name
            entry.external_attr = mode << 16
            target.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return data.getvalue()


FILE = stat.S_IFREG | 0o644


def unpacked(data: bytes, folder: Path, bytes_max: int = 64 * MIB) -> Path:
    path = folder / "bundle.zip"
    path.write_bytes(data)
    unpack(path, folder / "bundle", bytes_max=bytes_max)
    return folder / "bundle"


@pytest.mark.parametrize(
    "name",
    ["../escaped", "a/../../escaped", "/escaped", "a\\..\\escaped", "a\nb", "", "..", "d/" * 60 + "x", "n" * 600],
)
def test_names_that_lead_out_of_a_bundle(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput):
        unpacked(archive((name, b"x", FILE)), tmp_path)
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_bundle(tmp_path: Path, kind: int) -> None:
    with pytest.raises(InvalidInput):
        unpacked(archive(("link", b"/etc/shadow", kind | 0o777)), tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a")])
def test_two_entries_of_one_name(tmp_path: Path, names: tuple[str, str]) -> None:
    with pytest.raises(InvalidInput):
        unpacked(archive(*((name, b"x", FILE) for name in names)), tmp_path)


def test_a_zip_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    data = archive(*((f"f{number}", bytes(8 * MIB), FILE) for number in range(20)))
    assert len(data) < MIB
    with pytest.raises(TooMuch):
        unpacked(data, tmp_path, bytes_max=32 * MIB)
    written = sum(path.stat().st_size for path in (tmp_path / "bundle").iterdir())
    assert written <= 32 * MIB


def test_a_bomb_of_names(tmp_path: Path) -> None:
    # Only the end record counts: it is looked at before the list of files is read.
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65_000, 65_000, 100, 0, 0)
    assert ENTRIES_MAX < 65_000
    with pytest.raises(TooMuch):
        unpacked(bytes(100) + end, tmp_path)


@pytest.mark.parametrize("cut", [0, 40, 90])
def test_damaged_archives(tmp_path: Path, cut: int) -> None:
    data = bytearray(archive(("a.py", os.urandom(100), FILE)))
    data[cut : cut + 8] = b"\xff" * 8
    with pytest.raises((InvalidInput, TooMuch)):
        unpacked(bytes(data), tmp_path)


async def test_a_hostile_bundle_is_the_buyers_fault(case: PythonCase) -> None:
    finished = await case.run(archive(("../../evil.py", b"x", FILE), ("script.py", b"print(1)", FILE)))
    assert (finished.reason, finished.caused_by, finished.used_ms) == ("program.invalid", "buyer", 0)
    assert [path.name for path in (case.workspace.parent / "cache" / "bundles").iterdir()] == []


async def appeared(mark: str, program: str) -> list[int]:
    """Processes of a program with `mark` in their arguments, as soon as there are any."""
    while True:
        await asyncio.sleep(0)
        if pids := [pid for pid in left_over(mark) if _exe(pid).startswith(program)]:
            return pids


def _exe(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name
    except OSError:
        return ""
