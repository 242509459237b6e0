"""A first start that is refused: what it made is gone, and nothing that was there before."""

from __future__ import annotations

from pathlib import Path

import pytest

from fallow.bootstrap.up import _Fresh
from fallow.domain.errors import Conflict, FallowError, Unavailable

TAKEN, AWAY = Conflict("up.database", "Another network's."), Unavailable("engine.failed", "It does not start.")


@pytest.mark.parametrize(
    ("before", "made", "network", "error", "left"),
    [
        (False, "network.json", False, TAKEN, False),
        (False, "ports.json", False, AWAY, False),
        (False, "logs", False, TAKEN, False),
        (False, "logs", False, AWAY, True),  # its log says why
        (False, "network.json", True, TAKEN, True),
        (True, "network.json", False, TAKEN, True),
        (False, "network.json", False, RuntimeError(), True),
    ],
)
def test_what_is_left(tmp_path: Path, *, before: bool, made: str, network: bool, error: Exception, left: bool) -> None:
    data = tmp_path / "data"
    if before:
        data.mkdir()
    fresh = _Fresh(data)
    data.mkdir(exist_ok=True)

    def start() -> None:
        with fresh:
            (data / made).mkdir()
            if network:
                fresh.stays()
            raise error

    with pytest.raises((FallowError, RuntimeError)):
        start()
    assert data.exists() == left
