"""The root secret that a buyer's own objects are sealed under: a file beside his profile, and nowhere else."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from fallow.domain.errors import Conflict
from fallow.sdk.storage_secret import load_secret, secret_path
from fallow.verticals.storage.core.kit import read_kit, write_kit

__all__ = ["keep_secret", "kit_from", "kit_text", "load_secret", "secret_path"]


def keep_secret(secret: bytes) -> None:
    """Write the secret, readable by its owner only; the same again changes nothing.

    Raises:
        Conflict: there is another one (`storage.secret`).
    """
    path = secret_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Made with mode 0600: at no moment can others read it. Linked, so that a secret that is there is never replaced.
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part") as file:
        file.write(write_kit(secret) + "\n")
        file.flush()
        os.fsync(file.fileno())
        try:
            path.hardlink_to(file.name)
        except FileExistsError as error:
            if load_secret() != secret:
                hint = f"What is sealed under it would be lost. See `fallow storage kit`; then move {path} away."
                raise Conflict("storage.secret", "There is another secret here already.", hint) from error


def kit_from(where: str) -> bytes:
    """Read a secret from a file that holds its recovery kit, or from what is typed or piped ("-").

    Raises:
        InvalidInput: there is no kit in it.
        OSError: it cannot be read.
    """
    return read_kit(sys.stdin.read() if where == "-" else Path(where).expanduser().read_text("utf-8", "replace"))


def kit_text(secret: bytes, url: str) -> str:
    """The recovery kit, for paper or a password manager."""
    return f"""Fallow storage: recovery kit

  {write_kit(secret)}

This is the secret under which your objects are sealed on your own machine, first for {url}.
It is kept in {secret_path()} and was sent to nobody: nobody can give it back to you.
Without it your objects are lost. Who has it, and your API key, can read them. Keep it apart from that machine.
To bring it back, put this text into a file: fallow storage init --recover FILE
"""
