"""An account's key for tests of the command line."""

from __future__ import annotations

from pathlib import Path

import pytest


def kept_key(folder: Path, monkeypatch: pytest.MonkeyPatch, private: bytes) -> Path:
    """Keep a key in a file, where the command line looks for one."""
    file = folder / "key"
    file.write_text(private.hex() + "\n")
    file.chmod(0o600)
    monkeypatch.setenv("FALLOW_ACCOUNT_KEY", str(file))
    return file
