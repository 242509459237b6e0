"""What came out of a job: the document whose hash a receipt carries.

It holds what a second run on another machine must reproduce, and nothing that differs between runs (times, memory).
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Output(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file: its SHA-256 (hex) and size in bytes."""

    name: str
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
    size: int


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the program ended and what it left. `outputs` are sorted by name."""

    exit_code: int
    reason: str
    stdout: Output
    stderr: Output
    outputs: list[Output]


def encode_outcome(outcome: Outcome) -> bytes:
    """Return the document's bytes: JSON with fields in the order above, the same on every machine."""
    return msgspec.json.encode(outcome, order="deterministic")


def decode_outcome(data: bytes) -> Outcome:
    """Read an outcome document; msgspec.ValidationError when it is none."""
    return msgspec.json.decode(data, type=Outcome)
