"""Comparing results for real: by their numbers in a child process, and by programs in the WASM sandbox."""

# ruff: noqa: D102 - made-up results

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import wasmtime

from fallow.adapters.memory.blobs import MemoryBlobs
from fallow.domain.orders import Tolerance
from fallow.domain.verification import Compared
from fallow.verticals.compute.control import results as results_module
from fallow.verticals.compute.control.comparing import ToleranceComparer
from fallow.verticals.compute.core.outcome import Outcome, Output, encode_outcome

OWNER = "0f" * 20
PERCENT = Tolerance(rtol="1e-2")

# Reads the first byte of /in/a/stdout to 2000 and of /in/b/stdout to 2001.
READ = """(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 100) "a/stdout") (data (i32.const 200) "b/stdout")
  (func $first (param $name i32) (param $to i32)
    (drop (call $open (i32.const 3) (i32.const 0) (local.get $name) (i32.const 8) (i32.const 0)
                      (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 40)))
    (i32.store (i32.const 0) (local.get $to)) (i32.store (i32.const 4) (i32.const 1))
    (drop (call $read (i32.load (i32.const 40)) (i32.const 0) (i32.const 1) (i32.const 32))))
  (func (export "_start")
    (local $a i32) (local $b i32)
    (call $first (i32.const 100) (i32.const 2000)) (call $first (i32.const 200) (i32.const 2001))
    (local.set $a (i32.load8_u (i32.const 2000))) (local.set $b (i32.load8_u (i32.const 2001)))
    %s))
"""
# They agree when the first bytes differ by one at most.
NEIGHBOURS = """(call $exit (i32.gt_u
  (i32.mul (i32.sub (local.get $a) (local.get $b)) (i32.sub (local.get $a) (local.get $b))) (i32.const 1)))"""


class World:
    """Blobs of one account, and what compares them."""

    def __init__(self, folder: Path) -> None:
        self.blobs = MemoryBlobs()
        self.comparer = ToleranceComparer(self.blobs, folder)

    async def add(self, data: bytes) -> str:
        async def pieces() -> AsyncIterator[bytes]:
            yield data

        sha256 = hashlib.sha256(data).hexdigest()
        await self.blobs.put(OWNER, sha256, pieces(), bytes_max=1 << 30)
        return sha256

    async def output(self, name: str, data: bytes) -> Output:
        return Output(name=name, sha256=await self.add(data), size=len(data))

    async def result(self, stdout: bytes, stderr: bytes = b"", **files: bytes) -> str:
        outputs = [await self.output(name.replace("_", "."), data) for name, data in files.items()]
        return await self.outcome(await self.output("stdout", stdout), outputs, stderr)

    async def outcome(self, stdout: Output, outputs: list[Output], stderr: bytes = b"") -> str:
        said = await self.output("stderr", stderr)
        return await self.add(
            encode_outcome(Outcome(exit_code=0, reason="", stdout=stdout, stderr=said, outputs=outputs))
        )

    async def compare(self, tolerance: Tolerance, *results: str) -> Compared:
        return await self.comparer.compare(OWNER, tolerance, results)

    async def by_program(self, body: str, *firsts: bytes, fuel: int = 10**6) -> Compared:
        program = await self.add(bytes(wasmtime.wat2wasm(READ % body)))
        results = [await self.result(first) for first in firsts]
        return await self.compare(Tolerance(program=program, fuel=fuel), *results)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "comparing")


def both_ways(*pairs: tuple[str, str]) -> Compared:
    return Compared(frozenset(pairs) | frozenset(pair[::-1] for pair in pairs))


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def test_results_are_near_by_the_numbers_of_all_their_files(world: World) -> None:
    one = await world.result(b"mean 2.00\n", b"took 3 s", x_json=b"[1, 2]", notes_txt=b"same")
    near = await world.result(b"mean 2.01\n", b"took 5 s", x_json=b"[1.005, 2]", notes_txt=b"same")
    far = await world.result(b"mean 2.00\n", x_json=b"[1.05, 2]", notes_txt=b"same")
    more = await world.result(b"mean 2.00\n", x_json=b"[1, 2]", notes_txt=b"same", more_txt=b"")
    assert await world.compare(PERCENT, one, near, far, more) == both_ways((one, near))
    assert not files(world.comparer._folder)  # nothing of it stays


async def test_a_program_compares(world: World) -> None:
    one, two, three = [await world.result(first) for first in (b"1", b"2", b"3")]
    assert await world.by_program(NEIGHBOURS, b"1", b"2", b"3") == both_ways((one, two), (two, three))


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("(unreachable)", "comparator.trap"),
        ("(loop $spin (br $spin))", "comparator.fuel"),
        ("(call $exit (i32.const 7))", "comparator.exit"),
        ("(call $exit (i32.const 1))", "comparator.not_reflexive"),
        ("(call $exit (i32.lt_u (local.get $a) (local.get $b)))", "comparator.not_symmetric"),
    ],
)
async def test_a_program_that_cannot_be_relied_on_says_nothing(world: World, body: str, fault: str) -> None:
    assert await world.by_program(body, b"1", b"2") == Compared(fault=fault)


async def test_a_program_that_is_none(world: World) -> None:
    results = [await world.result(first) for first in (b"1", b"2")]
    found = await world.compare(Tolerance(program=await world.add(b"#!/bin/sh")), *results)
    assert found == Compared(fault="comparator.invalid")
    assert await world.compare(Tolerance(program="a" * 64), *results) == Compared(fault="comparator.missing")


@pytest.mark.parametrize("name", ["../../../escaped", "/escaped", "a/../../escaped", "", "a//b", "a\x00b", "x" * 2000])
async def test_names_that_lead_elsewhere_are_no_result(world: World, name: str, tmp_path: Path) -> None:
    good, like = await world.result(b"1"), await world.result(b"1.001")
    stdout = await world.output("stdout", b"1")
    bad = await world.outcome(stdout, [await world.output(name, b"1")])
    assert await world.compare(PERCENT, bad, good, like) == both_ways((good, like))
    assert not files(tmp_path)


async def test_what_a_node_never_uploaded_or_says_wrongly_is_near_nothing(world: World) -> None:
    good, like = await world.result(b"1"), await world.result(b"1.001")
    nonsense = await world.add(b"{}")
    said = await world.output("stdout", b"1.0001")
    short = await world.outcome(Output(name="stdout", sha256=said.sha256, size=said.size + 1), [])
    long = await world.outcome(Output(name="stdout", sha256=said.sha256, size=said.size - 1), [])
    gone = await world.outcome(Output(name="stdout", sha256="b" * 64, size=1), [])
    twice = await world.outcome(said, [await world.output("a", b"1"), await world.output("a/b", b"1")])
    results = ("c" * 64, nonsense, short, long, gone, twice, good, like)
    assert await world.compare(PERCENT, *results) == both_ways((good, like))


async def test_results_that_are_too_large_are_not_compared(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_module, "RESULT_BYTES_MAX", 3)
    one, other = await world.result(b"1.00"), await world.result(b"1.01")
    assert await world.compare(PERCENT, one, other) == Compared(fault="comparator.too_large")
    small, like = await world.result(b"1"), await world.result(b"1.0")
    assert await world.compare(PERCENT, one, small, like) == both_ways((small, like))  # one node's lie is its own
