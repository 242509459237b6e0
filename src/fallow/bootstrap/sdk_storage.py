"""`fallow.open_storage`: storage for programs that import Fallow."""

from __future__ import annotations

import os
from pathlib import Path

from fallow.bootstrap.own_storage import granted_storage, own_storage
from fallow.sdk.profile import Profile, load, read_ca
from fallow.sdk.storage import Storage
from fallow.sdk.storage_grants import load_grant
from fallow.sdk.storage_secret import load_secret
from fallow.verticals.storage.core.kit import read_kit


def open_storage(
    url: str = "", api_key: str = "", *, grant: str = "", kit: str = "", ca: Path | None = None
) -> Storage:
    """Open your objects, or what a `grant` opens (`fallow storage share`; a file that holds it); close it in the end.

    What is not given comes from where the commands have it: FALLOW_GRANT; else FALLOW_URL, FALLOW_API_KEY and
    FALLOW_CA, or what `fallow login` keeps; and the secret that `fallow storage init` made, for which a recovery `kit`
    can stand. `ca` is a file with the certificate (PEM) of the network's own authority.

    Raises:
        FallowError: something of it is missing or damaged, or the network cannot be reached or says no.
    """
    given = load_grant(grant or ("" if url or api_key else os.environ.get("FALLOW_GRANT", "")))
    if given is not None:
        return Storage(granted_storage(given))
    profile = Profile(url, api_key, read_ca(ca) if ca else "") if url else load()
    return Storage(own_storage(profile, read_kit(kit) if kit else load_secret()))
