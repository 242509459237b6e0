"""Tiny programs to buy: quick ones, and one that takes as long as it is told."""

from __future__ import annotations

from functools import cache

from tests.unit.wasm_programs import call, opened, wasm, write

MULTIPLIER, INCREMENT, MASK = 6364136223846793005, 1442695040888963407, (1 << 64) - 1

SECOND = 700_000_000
"""Rounds of `spin` that take about a second here; several seconds on a busy machine."""

# /in/input is read to 1024; its digits are parsed into $rounds; the state is written to /out/n (a name within "input").
_SPIN = f"""
(local.set $at (i32.const 1024))
(block $parsed (loop $next
  (br_if $parsed (i32.lt_u (i32.load8_u (local.get $at)) (i32.const 48)))
  (local.set $rounds (i64.add (i64.mul (local.get $rounds) (i64.const 10))
    (i64.extend_i32_u (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)))))
  (local.set $at (i32.add (local.get $at) (i32.const 1)))
  (br $next)))
(block $spun (loop $next
  (br_if $spun (i64.eqz (local.get $rounds)))
  (local.set $state (i64.add (i64.mul (local.get $state) (i64.const {MULTIPLIER})) (i64.const {INCREMENT})))
  (local.set $rounds (i64.sub (local.get $rounds) (i64.const 1)))
  (br $next)))
(i64.store (i32.const 2048) (local.get $state))
"""
_VECTOR = "(i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 32))"


@cache
def hello() -> bytes:
    """Say hello and end well."""
    return wasm(write(1, 100, 6))


@cache
def ending_with(code: int) -> bytes:
    """Say hello and end with an exit code."""
    return wasm(write(1, 100, 6), f"(call $proc_exit (i32.const {code}))")


@cache
def spin() -> bytes:
    """Read a number of rounds from /in/input, compute as long, and leave what came out in /out/n."""
    reading = opened(3, 300, 5, 0, 2) + _VECTOR + call("fd_read", "(i32.load (i32.const 40))", 0, 1, 32)
    writing = opened(4, 301, 1, 1, 64) + write("(i32.load (i32.const 40))", 2048, 8)
    return wasm("(local $at i32) (local $rounds i64) (local $state i64)", reading, _SPIN, writing, text="input")


def spun(rounds: int) -> bytes:
    """What `spin` leaves in /out/n."""
    state, multiplier, increment = 0, MULTIPLIER, INCREMENT
    while rounds:
        if rounds & 1:
            state = (state * multiplier + increment) & MASK
        increment = (multiplier + 1) * increment & MASK
        multiplier = multiplier * multiplier & MASK
        rounds >>= 1
    return state.to_bytes(8, "little")
