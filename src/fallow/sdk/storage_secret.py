"""The root secret that a buyer's own objects are sealed under, where his machine keeps it."""

from __future__ import annotations

from pathlib import Path

from fallow.domain.errors import NotFound
from fallow.sdk.profile import profile_path
from fallow.verticals.storage.core.kit import read_kit

MADE = "Make one with `fallow storage init`, or bring yours back: fallow storage init --recover FILE"


def secret_path() -> Path:
    """Where it is kept."""
    return profile_path().with_name("storage-secret")


def load_secret() -> bytes:
    """Return the secret.

    Raises:
        NotFound: there is none (`storage.no_secret`).
        InvalidInput: the file is damaged.
    """
    try:
        return read_kit(secret_path().read_text("ascii", "replace"))
    except FileNotFoundError as error:
        raise NotFound("storage.no_secret", "There is no secret to seal objects under here.", MADE) from error
