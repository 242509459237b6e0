"""The WebAssembly runner, with small programs through the real engine in real child processes."""

from __future__ import annotations

import asyncio
import os
import select
import struct
import sys
from pathlib import Path

import psutil
import pytest
import wasmtime

from fallow.domain.errors import InvalidInput, NotAllowed, TooMuch
from fallow.verticals.compute.worker import wasm_start
from fallow.verticals.compute.worker.wasm import WasmJob, collect_outputs, prune_cache, run_wasm
from fallow.verticals.compute.worker.wasm_start import Spare
from tests.unit.wasm_programs import EXIT_WITH_ERRNO, MIB, SPIN, Runs, call, opened, wasm, write


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


async def test_hello_goes_to_stdout_and_what_it_cost_is_said(runs: Runs) -> None:
    outcome = await runs.run(wasm(write(1, 100, 6), write(2, 100, 3)))
    assert (outcome.reason, outcome.exit_code) == ("exited", 0)
    assert runs.stdout == b"hello\n"
    assert (runs.workspace / "stderr").read_bytes() == b"hel"
    assert outcome.wall_ms > 0
    assert outcome.cpu_ms > 0
    assert MIB < outcome.peak_memory_bytes < 512 * MIB
    assert not (runs.workspace / ".blobs").exists()


async def test_arguments_and_environment_are_the_jobs_and_no_others(runs: Runs) -> None:
    args = call("args_sizes_get", 32, 36) + call("args_get", 40, 1024) + write(1, 1024, "(i32.load (i32.const 36))")
    env = call("environ_sizes_get", 32, 36) + call("environ_get", 40, 1024)
    program = wasm(args, env, write(1, 1024, "(i32.load (i32.const 36))"))
    await runs.run(program, args=("one", "zwölf"), env={"B": "2", "A": "1"})
    assert runs.stdout == "program\0one\0zwölf\0A=1\0B=2\0".encode()


@pytest.mark.parametrize("code", [0, 7, 255])
async def test_exit_code(runs: Runs, code: int) -> None:
    outcome = await runs.run(wasm(f"(call $proc_exit (i32.const {code}))"))
    assert (outcome.reason, outcome.exit_code) == ("exited", code)


async def test_an_infinite_loop_ends_by_fuel_and_with_much_fuel_by_time(runs: Runs) -> None:
    by_fuel = await runs.run(wasm(SPIN), fuel_max=1_000_000)
    assert (by_fuel.reason, by_fuel.exit_code) == ("fuel", -1)
    assert by_fuel.fuel_used <= 1_000_000
    by_time = await runs.run(wasm(SPIN), fuel_max=1 << 60, time_limit_s=0.3)
    assert by_time.reason == "time"
    assert 300 <= by_time.wall_ms < 60_000
    assert by_time.peak_memory_bytes > MIB


async def test_calls_of_the_host_cost_fuel(runs: Runs) -> None:
    outcome = await runs.run(wasm(f"(loop $l {call('sched_yield')} (br $l))"), fuel_max=1_000_000)
    assert (outcome.reason, outcome.fuel_used) == ("fuel", 1_000_000)
    outcome = await runs.run(wasm(call("random_get", 0, 60_000)), fuel_max=50_000)
    assert outcome.reason == "fuel"


async def test_memory_is_bounded(runs: Runs) -> None:
    grow = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (memory.size) (unreachable)"
    outcome = await runs.run(wasm(grow), memory_bytes_max=32 * MIB)
    assert outcome.reason == "memory"
    assert outcome.peak_memory_bytes < 256 * MIB
    outcome = await runs.run(wasm(memory=1000), memory_bytes_max=32 * MIB)
    assert outcome.reason == "memory"


async def test_a_flood_of_output_is_stopped_at_the_same_byte(runs: Runs) -> None:
    flood = wasm(f"(loop $l {write(1, 0, 65536)} (br $l))")
    first = await runs.run(flood)
    assert first.reason == "output"
    assert len(runs.stdout) == MIB
    again = await runs.run(flood)
    assert again.fuel_used == first.fuel_used
    file = opened(4, 200, 1, 1, 64) + f"(loop $l {write('(i32.load (i32.const 40))', 0, 65536)} (br $l))"
    assert (await runs.run(wasm(file))).reason == "output"
    sparse = opened(4, 200, 1, 1, 64) + call("fd_filestat_set_size", "(i32.load (i32.const 40))", 1 << 40)
    assert (await runs.run(wasm(sparse))).reason == "output"


async def test_chance_and_time_come_from_the_seed(runs: Runs) -> None:
    times = call("clock_time_get", 0, 1, 1056) + call("clock_time_get", 1, 1, 1064)
    program = wasm(call("random_get", 1024, 32), times, write(1, 1024, 48))
    seen = []
    for seed in (b"a" * 32, b"a" * 32, b"b" * 32):
        assert (await runs.run(program, seed=seed)).reason == "exited"
        seen.append(runs.stdout)
    assert seen[0] == seen[1]
    assert seen[0][:32] != seen[2][:32]
    assert seen[0][32:] == seen[2][32:]
    real, monotonic = struct.unpack("<QQ", seen[0][32:])
    assert 946_684_800 * 10**9 < real < monotonic < real + 10**6


async def test_sleeping_moves_the_clock_and_takes_no_time(runs: Runs) -> None:
    hour = 3600 * 10**9
    wish = f"(i64.store (i32.const 1048) (i64.const {hour})) (i32.store (i32.const 1040) (i32.const 1))"
    poll = wish + call("poll_oneoff", 1024, 2048, 1, 32)
    outcome = await runs.run(wasm(poll, call("clock_time_get", 1, 1, 1024), write(1, 1024, 8)))
    assert outcome.wall_ms < 60_000
    assert 0 < struct.unpack("<Q", runs.stdout)[0] - 946_684_800 * 10**9 - hour < 10**6


async def test_fuel_is_the_same_on_each_run_cached_or_not(runs: Runs) -> None:
    count = "(loop $l (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $l (i32.lt_u (local.get $i)"
    program = wasm(f"{count} (i32.const 100000))))", write(1, 100, 6))
    cache = runs.folder / "cache"
    outcomes = [await run_wasm(runs.job(program), cache_dir=folder) for folder in (None, cache, cache)]
    assert {outcome.reason for outcome in outcomes} == {"exited"}
    assert len({outcome.fuel_used for outcome in outcomes}) == 1
    assert outcomes[0].fuel_used > 100_000


async def test_compiled_programs_are_kept_private_and_pruned(runs: Runs) -> None:
    cache = runs.folder / "cache"
    for code in (1, 2):
        await run_wasm(runs.job(wasm(f"(call $proc_exit (i32.const {code}))")), cache_dir=cache)
    kept = list(cache.iterdir())
    assert len(kept) == 2
    assert {path.stat().st_mode & 0o777 for path in [*kept, cache]} == {0o600, 0o700}
    kept[0].write_bytes(b"damaged")  # compiled again, not believed
    assert (await run_wasm(runs.job(wasm("(call $proc_exit (i32.const 1))")), cache_dir=cache)).exit_code == 1
    assert prune_cache(cache, 0) > 0
    assert list(cache.iterdir()) == []
    cache.chmod(0o777)
    with pytest.raises(NotAllowed):
        await run_wasm(runs.job(wasm()), cache_dir=cache)


async def test_reads_in_and_writes_out(runs: Runs) -> None:
    read = (
        opened(3, 200, 5, 0, 2) + "(i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 99))"
    )
    read += call("fd_read", "(i32.load (i32.const 40))", 0, 1, 36)
    copy = opened(4, 200, 5, 1, 64) + write("(i32.load (i32.const 40))", 1024, "(i32.load (i32.const 36))")
    outcome = await runs.run(wasm(read, copy), {"a.txt": b"given"})
    assert outcome.reason == "exited", outcome
    assert collect_outputs(runs.workspace, 100) == [("a.txt", runs.workspace / "out" / "a.txt", 5)]
    assert (runs.workspace / "out" / "a.txt").read_bytes() == b"given"


@pytest.mark.parametrize("path", ["../stdout", "/etc/passwd", "../../../../etc/passwd", "x/../../stdout", "link"])
@pytest.mark.parametrize("folder", [3, 4])
async def test_nothing_but_the_two_folders_can_be_opened(runs: Runs, path: str, folder: int) -> None:
    program = wasm(opened(folder, 300, len(path), 0, 2), EXIT_WITH_ERRNO, text=path)
    job = runs.job(program)
    (runs.workspace / "in" / "link").symlink_to("/etc/passwd")
    outcome = await run_wasm(job)
    assert outcome.reason == "exited"
    assert outcome.exit_code in {44, 76}


async def test_in_cannot_be_written_nor_links_be_made(runs: Runs) -> None:
    outcome = await runs.run(wasm(opened(3, 200, 5, 1, 64), EXIT_WITH_ERRNO))
    assert outcome.exit_code == 69
    outcome = await runs.run(wasm(call("path_symlink", 300, 11, 4, 200, 5), EXIT_WITH_ERRNO, text="/etc/passwd"))
    assert outcome.exit_code == 58
    assert collect_outputs(runs.workspace, 0) == []


async def test_wild_pointers_are_refused(runs: Runs) -> None:
    for wild in (-1, 65_533, 1 << 31):
        assert (await runs.run(wasm(call("random_get", wild, 32), EXIT_WITH_ERRNO))).exit_code == 21


def test_outputs_are_collected_without_trust(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "b").mkdir(parents=True)
    (out / "b" / "two").write_bytes(b"22")
    (out / "B").write_bytes(b"1")
    (out / "link").symlink_to("/etc/passwd")
    (out / "folder").symlink_to("/etc")
    (tmp_path / "secret").write_bytes(b"3")
    (out / "hard").hardlink_to(tmp_path / "secret")
    os.mkfifo(out / "pipe")
    assert [(name, size) for name, _, size in collect_outputs(tmp_path, 3)] == [("B", 1), ("b/two", 2)]
    with pytest.raises(TooMuch):
        collect_outputs(tmp_path, 2)
    for name in (b"bell\a", b"\xff"):
        (odd := Path(os.fsdecode(os.fsencode(out) + b"/" + name))).touch()
        with pytest.raises(InvalidInput):
            collect_outputs(tmp_path, 3)
        odd.unlink()


@pytest.mark.parametrize(
    ("body", "told"), [("(unreachable)", "unreachable"), ("(drop (i32.div_s (i32.const 1) (local.get $i)))", "zero")]
)
async def test_a_trap_is_told(runs: Runs, body: str, told: str) -> None:
    outcome = await runs.run(wasm(write(1, 100, 6), body))
    assert outcome.reason == "trap"
    assert told in outcome.detail
    assert runs.stdout == b"hello\n"


async def test_nan_has_one_bit_pattern(runs: Runs) -> None:
    odd = "(f64.reinterpret_i64 (i64.const 0x7ff4dead0000beef))"
    store = f"(f64.store (i32.const 1024) (f64.add {odd} (f64.const 1)))"
    negative = "(f64.store (i32.const 1032) (f64.sqrt (f64.const -1)))"
    await runs.run(wasm(store, negative, write(1, 1024, 16)))
    assert struct.unpack("<QQ", runs.stdout) == (0x7FF8000000000000, 0x7FF8000000000000)


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b"\0asm garbage",
        b"(module)",
        bytes(wasmtime.wat2wasm("(module)")),
        bytes(wasmtime.wat2wasm('(module (import "env" "fork" (func)) (func (export "_start")))')),
        bytes(wasmtime.wat2wasm('(module (memory (export "memory") 1 1 shared) (func (export "_start")))')),
    ],
)
async def test_an_invalid_program_is_an_outcome_not_an_error(runs: Runs, program: bytes) -> None:
    outcome = await runs.run(program)
    assert (outcome.reason, outcome.exit_code, outcome.fuel_used) == ("invalid", -1, 0)
    assert outcome.detail


async def test_a_bad_job_is_an_error(runs: Runs) -> None:
    program = wasm()
    for changes in ({"seed": b"short"}, {"fuel_max": 0}, {"stdin": runs.folder}, {"args": ("a\0b",)}):
        with pytest.raises(InvalidInput):
            await runs.run(program, **changes)
    with pytest.raises(TooMuch):
        await runs.run(program, args=("x" * 100_000,))
    job = runs.job(program)
    (job.workspace / "out").mkdir()
    (job.workspace / "out" / "old").touch()
    with pytest.raises(InvalidInput):
        await run_wasm(job)


async def running(job: WasmJob) -> None:
    """Return when the program of `job` is about to start."""
    while not (job.workspace / ".blobs").exists():  # noqa: ASYNC110 - another process makes it, without an event
        await asyncio.sleep(0)


async def test_cancel_kills(runs: Runs) -> None:
    job = runs.job(wasm(SPIN), fuel_max=1 << 60, time_limit_s=100)
    cancel = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run_wasm(job, cancel=cancel))
        await running(job)
        cancel.set()
    outcome = task.result()
    assert outcome.reason == "cancelled"
    assert outcome.wall_ms < 60_000
    cancel.set()
    assert (await run_wasm(runs.job(wasm(SPIN), fuel_max=1 << 60), cancel=cancel)).reason == "cancelled"


async def test_cancelling_the_caller_kills_too(runs: Runs) -> None:
    job, before = runs.job(wasm(SPIN), fuel_max=1 << 60, time_limit_s=100), children()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run_wasm(job))
        await running(job)
        task.cancel()
    assert task.cancelled()
    assert children() <= before


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


async def test_one_child_waits_and_runs_the_next_program_only(runs: Runs) -> None:
    spare, before = Spare(), children()
    took: list[int] = []
    for _ in range(3):
        waiting = children() - before
        assert (await run_wasm(runs.job(wasm()), spare=spare, confine=took.append)).reason == "exited"
        assert waiting in ({took[-1]}, set())
    assert len(set(took)) == 3
    assert len(children() - before) == 1
    del spare
    assert children() <= before


async def test_nothing_waits_where_the_owner_took_the_machine_back(runs: Runs) -> None:
    spare, before, cancel = Spare(), children(), asyncio.Event()
    cancel.set()
    assert (await run_wasm(runs.job(wasm(SPIN), fuel_max=1 << 60), cancel=cancel, spare=spare)).reason == "cancelled"
    assert children() <= before


async def test_a_child_that_was_killed_while_it_waited_is_replaced(runs: Runs) -> None:
    spare, before = Spare(), children()
    await run_wasm(runs.job(wasm()), spare=spare)
    (waiting,) = children() - before
    psutil.Process(waiting).kill()
    with os.fdopen(os.pidfd_open(waiting)) as gone:
        await asyncio.to_thread(select.select, [gone], [], [])
    assert (await run_wasm(runs.job(wasm()), spare=spare)).reason == "exited"


async def test_nobody_waits_for_ever(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wasm_start, "IDLE_S", 0.0)
    spare, before = Spare(), children()
    await run_wasm(runs.job(wasm()), spare=spare)
    async with asyncio.timeout(120):
        while not children() <= before:  # noqa: ASYNC110 - the loop itself ends it
            await asyncio.sleep(0)


PARENT = """
import asyncio, sys
from pathlib import Path
from fallow.verticals.compute.worker import wasm
wait = wasm._wait
async def told(child, *rest):
    print(child._process.pid, flush=True)
    await wait(child, *rest)
wasm._wait = told
job = wasm.WasmJob(program=Path(sys.argv[1]), workspace=Path(sys.argv[2]), seed=bytes(32), fuel_max=1 << 60,
    memory_bytes_max=1 << 20, output_bytes_max=1 << 20, time_limit_s=100)
asyncio.run(wasm.run_wasm(job))
"""


async def test_the_child_dies_with_its_parent(runs: Runs) -> None:
    job = runs.job(wasm(SPIN))
    source = str(Path(sys.modules[WasmJob.__module__].__file__ or "").parents[4])
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, str(job.program), str(job.workspace)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert parent.stdout is not None
    with os.fdopen(os.pidfd_open(int(await parent.stdout.readline()))) as child:
        await running(job)
        parent.kill()
        assert select.select([child], [], [], 120)[0]
    await parent.wait()
