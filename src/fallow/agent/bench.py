"""A score of one core, the same work everywhere.

Unit of `score.cpu`: thousands of iterations of PBKDF2-HMAC-SHA256 a second, on one core. Each iteration is two SHA-256
compressions in OpenSSL, integers in registers only; the fastest of several rounds counts, so that what else the
machine does at the moment lowers it little. To check it: `hashlib.pbkdf2_hmac("sha256", b"fallow", b"score", N)`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

ROUND_ITERATIONS = 20_000
ROUNDS_MIN = 3
BUDGET_NS = 700_000_000


def score_cpu(now_ns: Callable[[], int]) -> int:
    """Measure for about BUDGET_NS nanoseconds of `now_ns`, a monotonic clock. Blocks; run it in a thread."""
    begun_ns = now_ns()
    best_ns = 0
    rounds = 0
    while rounds < ROUNDS_MIN or now_ns() - begun_ns < BUDGET_NS:
        round_ns = now_ns()
        hashlib.pbkdf2_hmac("sha256", b"fallow", b"score", ROUND_ITERATIONS)
        took_ns = max(1, now_ns() - round_ns)
        best_ns = min(best_ns or took_ns, took_ns)
        rounds += 1
    return ROUND_ITERATIONS * 1_000_000 // best_ns
