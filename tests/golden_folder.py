"""The golden epochs closed into a folder, as an archive has them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fallow.domain.epochs.closing import close
from fallow.domain.epochs.core import Epoch
from fallow.domain.epochs.manifest import MANIFEST, STATEMENT, Manifest, path_of
from fallow.domain.epochs.metering import Metering
from fallow.domain.epochs.reading import filed_records
from fallow.domain.epochs.rules import Rules
from fallow.domain.epochs.statement import NONE, Statement
from tests.epoch_files import NET, NETWORK, NETWORK_KEY
from tests.epoch_world import METERINGS, WORK_ONLY
from tests.golden_cases import stored
from tests.golden_epoch import DAY_MS, FIRST


def golden_folder(folder: Path, rules: Rules = WORK_ONLY) -> Path:
    """Both of them, one after the other; returns the folder."""
    opening, previous = b"", NONE
    for number in (FIRST, FIRST + 1):
        opening, previous = write(folder, number, opening, previous, rules)
    return folder


def write(
    folder: Path,
    number: int,
    before: bytes,
    previous: bytes,
    rules: Rules = WORK_ONLY,
    meterings: Mapping[str, Metering] = METERINGS,
    **lies: Any,
) -> tuple[bytes, bytes]:
    """Close a golden epoch into a folder; `lies` are fields that its statement says otherwise."""
    kept, prefix = stored("epoch" if meterings is METERINGS else "storage"), f"{number}/"
    files = {name.removeprefix(prefix): bytes.fromhex(data) for name, data in kept.items() if name.startswith(prefix)}
    return close_into(folder, number, files, before, previous, rules, meterings, **lies)


def close_into(
    folder: Path,
    number: int,
    files: dict[str, bytes],
    before: bytes = b"",
    previous: bytes = NONE,
    rules: Rules = WORK_ONLY,
    meterings: Mapping[str, Metering] = METERINGS,
    **lies: Any,
) -> tuple[bytes, bytes]:
    """The same of an epoch whose records lie in `files`."""
    manifest = Manifest.decode(files[MANIFEST])
    until_ms = (number + 1) * DAY_MS
    records = filed_records(manifest, lambda name: [files[name]])
    closing = close(before, Epoch(NET, number, until_ms, NETWORK_KEY), records, rules, meterings)
    said = Statement(
        net=NET,
        epoch=number,
        from_ms=until_ms - DAY_MS,
        until_ms=until_ms,
        manifest=hashlib.sha256(files[MANIFEST]).digest(),
        previous=previous,
        **(closing.fields | lies),
    )
    files |= closing.files
    files[STATEMENT] = said.seal(lambda message: NETWORK.sign(message).signature)
    for name, data in files.items():
        path = folder / path_of(number, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return closing.files["state"], hashlib.sha256(files[STATEMENT]).digest()
