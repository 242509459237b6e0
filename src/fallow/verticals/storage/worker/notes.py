"""What the network has said of this node, until it is over: for its owner. Blocking; for threads."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import msgspec

from fallow.domain.decoding import UNREADABLE
from fallow.domain.errors import Unavailable
from fallow.verticals.storage.core.lenders import GRAVITY, holding
from fallow.verticals.storage.core.questions import Note

FILE: Final = "notes"
NOTES_MAX: Final = 100
_NOTES: Final = msgspec.json.Decoder(list[Note])


class Notes:
    """The file `notes` in the folder `kept`: the newest hundred, as JSON, for people too."""

    def __init__(self, kept: Path) -> None:
        self._path = kept / FILE
        self._lock = threading.Lock()

    def keep(self, note: Note) -> None:
        """Add one; the same one again changes nothing.

        Raises:
            Unavailable: it cannot be written (`storage.notes`).
        """
        with self._lock:
            self._keep(note)

    def all(self) -> list[Note]:
        """Those that are kept, the oldest first; what cannot be read counts as nothing."""
        try:
            return _NOTES.decode(self._path.read_bytes())
        except (OSError, *UNREADABLE):
            return []

    def standing(self, now_ms: int) -> list[Note]:
        """The latest of each code that holds now."""
        return holding(self.all(), now_ms)

    def trouble(self, now_ms: int) -> str:
        """What is wrong now, the gravest and latest first; empty: nothing."""
        now = self.standing(now_ms)
        if not now:
            return ""
        gravest = max(now, key=lambda note: (GRAVITY.index(note.kind), note.at_ms))
        return f"{gravest.code} ({gravest.kind}): {gravest.text} The evidence is in {self._path}."

    def _keep(self, note: Note) -> None:
        notes = self.all()
        if note in notes:
            return
        data = msgspec.json.format(msgspec.json.encode([*notes, note][-NOTES_MAX:]))
        fresh = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.write_bytes(data)
            fresh.replace(self._path)
        except OSError as error:
            raise Unavailable("storage.notes", f"What the network says cannot be kept: {error}.") from error
