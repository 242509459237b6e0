"""Python scripts on a node: what they see, what comes back, how they end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fallow.domain.errors import InvalidInput, NotFound, TooMuch, Unavailable
from fallow.ports.vertical.work import Finished
from fallow.verticals.compute.plugin import VERTICAL
from fallow.verticals.compute.worker import python as module
from fallow.verticals.compute.worker import seccomp
from fallow.verticals.compute.worker.sandbox_root import find_tools
from fallow.verticals.compute.worker.watch import disk_bytes, wipe
from tests.capability import require
from tests.python_jobs import VERSION, PythonCase, bundle

SHA = "a" * 64


@pytest.fixture
def case(tmp_path: Path) -> PythonCase:
    require("bubblewrap")
    return PythonCase(tmp_path)


# the order


def test_what_a_script_needs_of_a_node() -> None:
    work = {"kind": "python", "bundle": SHA, "entry": "script.py", "python": "3.11", "inputs": {"a": "b" * 64}}
    needs = VERTICAL.check_work(work, "c" * 64)
    assert needs.blobs == {SHA, "b" * 64, "c" * 64}
    assert needs.attributes == {"compute.python": "3.11"}
    assert not needs.compares
    native = VERTICAL.check_work({**work, "platform": "linux-x86_64"}, None)
    assert native.attributes == {"compute.python": "3.11", "compute.platform": "linux-x86_64-glibc"}


def test_work_without_a_kind_is_a_wasm_program() -> None:
    assert VERTICAL.check_work({"program": SHA}, None) == VERTICAL.check_work({"kind": "wasm", "program": SHA}, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"entry": "../script.py"},
        {"entry": "/script.py"},
        {"entry": ""},
        {"python": "2.7"},
        {"python": "3.11.4"},
        {"platform": "linux x"},
        {"bundle": "abc"},
        {"env": {"A=B": "c"}},
        {"args": ["a\0b"]},
        {"fuel": 1},
        {"kind": "container"},
    ],
)
def test_malformed_work_is_refused(changes: dict[str, Any]) -> None:
    work = {"kind": "python", "bundle": SHA, "entry": "script.py", "python": "3.11"}
    with pytest.raises(InvalidInput):
        VERTICAL.check_work({**work, **changes}, None)


# the probe


async def test_the_probe_really_runs_a_script(case: PythonCase) -> None:
    probe = await case.worker.probe()
    assert probe.attributes["compute.python"] == VERSION
    assert "python" not in probe.missing


async def test_the_probe_says_what_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise Unavailable("compute.no_sandbox", "bubblewrap is not installed.", "apt-get install bubblewrap.")

    monkeypatch.setattr(module, "find_tools", missing)
    probe = await module.PythonRunner(tmp_path).probe()
    assert probe.attributes == {}
    assert "apt-get install bubblewrap" in probe.missing["python"]


# good runs


async def test_a_good_run(case: PythonCase) -> None:
    finished = await case.run(
        bundle(
            """
            import sys, helper, package
            from pathlib import Path
            print(sys.argv[1:], Path("/in/input").read_text(), Path("/in/b").read_text(), helper.A, package.B)
            print("careful", file=sys.stderr)
            Path("/out/sub").mkdir()
            Path("/out/sub/result.txt").write_text("done")
            Path("scratch").write_text("not an output")
            """,
            helper="A = 1",
            **{"site-packages__package": "B = 2"},
        ),
        item=b"one item",
        args=["x", "y z"],
        inputs={"b": case.blobs.add(b"named")},
    )
    assert (finished.ok, finished.reason, finished.caused_by) == (True, "", "nobody")
    assert case.started.is_set()
    assert finished.used_ms > 0
    assert case.stdout(finished) == "['x', 'y z'] one item named 1 2\n"
    assert case.stderr(finished) == "careful\n"
    assert case.outputs(finished) == {"sub/result.txt": b"done"}
    assert finished.measures["cpu_ms"] > 0
    assert finished.measures["peak_memory_bytes"] > 1 << 20
    assert finished.measures["output_bytes"] > 4


async def test_the_seed_decides_what_python_leaves_to_chance(case: PythonCase, tmp_path: Path) -> None:
    script = "import os; print(hash('fallow'), os.environ['FALLOW_SEED'])"
    first = await case.printed(script)
    assert await PythonCase(tmp_path / "same").printed(script) == first
    assert await PythonCase(tmp_path / "other").printed(script, seed=bytes(32)) != first


async def test_a_bundle_is_unpacked_once(case: PythonCase, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    fetch = case.blobs.fetch

    async def noted(sha256: str, to: Path) -> None:
        fetched.append(sha256)
        await fetch(sha256, to)

    monkeypatch.setattr(case.blobs, "fetch", noted)
    assert (await case.run("print(1)")).ok
    wipe(case.workspace)
    case.workspace.mkdir(mode=0o700)
    assert (await case.run("print(1)")).ok
    assert len(fetched) == 1


async def test_libraries_that_start_processes_and_threads_work(case: PythonCase) -> None:
    printed = await case.printed(
        """
        import multiprocessing, threading
        if __name__ == "__main__":
            with multiprocessing.get_context("fork").Pool(2) as pool:
                print(sum(pool.map(abs, [-1, -2])))
            thread = threading.Thread(target=print, args=("thread",))
            thread.start(); thread.join()
        """
    )
    assert printed == "3\nthread\n"


# how scripts fail


@pytest.mark.parametrize(
    ("script", "changes", "reason", "exit_code"),
    [
        ("raise SystemExit(3)", {}, "program.exit", 3),
        ("1 / 0", {}, "program.exit", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", {}, "program.exit", 137),
        ("while True: pass", {"time_limit_s": 1}, "program.time", -1),
        ("b = bytearray(1 << 30)\nprint(len(b))", {}, "program.memory", -1),
        ("open('/out/a', 'wb').write(bytes(3 << 20))", {"output_mib": 1}, "program.output", None),
    ],
)
async def test_how_scripts_fail(
    case: PythonCase, script: str, changes: dict[str, Any], reason: str, exit_code: int | None
) -> None:
    finished = await case.run(script, **changes)
    assert (finished.ok, finished.reason, finished.caused_by) == (False, reason, "buyer")
    assert finished.used_ms > 0
    if exit_code is not None:
        outcome = case.outcome(finished)
        assert (outcome.reason, outcome.exit_code) == (reason, exit_code)
        assert (exit_code >= 0) == ("fallow: " not in case.stderr(finished))


async def test_a_traceback_comes_back(case: PythonCase) -> None:
    assert "ZeroDivisionError" in case.stderr(await case.run("1 / 0"))


async def test_a_bundle_without_the_script(case: PythonCase) -> None:
    finished = await case.run("print(1)", entry="other.py")
    assert (finished.reason, finished.caused_by, finished.used_ms) == ("program.invalid", "buyer", 0)
    assert "other.py" in case.stderr(finished)


async def test_a_script_is_asked_before_its_time_is_over(case: PythonCase) -> None:
    finished = await case.run(
        """
        import signal, sys, threading
        def save(*_):
            open("/out/saved", "w").write("checkpoint")
            sys.exit(0)
        signal.signal(signal.SIGTERM, save)
        threading.Event().wait()
        """,
        time_limit_s=2,
    )
    assert finished.reason == "program.time"
    assert case.outputs(finished) == {"saved": b"checkpoint"}


@pytest.mark.parametrize(
    ("error", "reason", "caused_by"),
    [
        (NotFound("blob.unknown", "No such blob."), "node.fetch_failed", "provider"),
        (TooMuch("agent.inputs_too_large", "Too large."), "program.inputs_too_large", "buyer"),
    ],
)
async def test_a_bundle_that_cannot_be_had(case: PythonCase, error: Any, reason: str, caused_by: str) -> None:
    case.blobs.error = error
    assert await case.run("print(1)") == Finished(False, reason, caused_by, 0, None, {})
    assert not case.started.is_set()


async def test_a_sandbox_that_fails_is_the_machines_fault(case: PythonCase, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = find_tools()
    monkeypatch.setattr(module, "find_tools", lambda: tools._replace(bwrap="/bin/false"))
    assert await case.run("print(1)") == Finished(False, "node.run_failed", "provider", 0, None, {})


async def test_cancel_while_it_runs(case: PythonCase) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(case.run("while True: pass"))
        await case.started.wait()
        case.cancel.set()
    finished = running.result()
    assert (finished.ok, finished.reason, finished.caused_by, finished.result) == (False, "cancelled", "nobody", None)


async def test_cancel_while_the_bundle_comes(case: PythonCase, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_sha256: str, _to: Path) -> None:
        case.cancel.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(case.blobs, "fetch", never)
    assert await case.run("print(1)") == Finished(False, "cancelled", "nobody", 0, None, {})


# parts


def test_folders_of_any_depth_are_wiped(tmp_path: Path) -> None:
    deep = tmp_path / "deep"
    here = deep
    here.mkdir()
    for _ in range(30):
        here = here / ("n" * 60)
        here.mkdir()
    (here / "file").write_text("x")
    here.chmod(0)
    wipe(deep)
    assert list(tmp_path.iterdir()) == []


def test_empty_files_count_too(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / str(number)).touch()
    assert disk_bytes([tmp_path]) >= 11 * 4096
    assert disk_bytes([tmp_path / "missing"]) == 0


def test_unknown_processors_get_no_filter() -> None:
    assert seccomp.assemble("vax") is None
    assert len(seccomp.assemble("aarch64") or b"") % 8 == 0
