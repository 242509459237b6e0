"""What the network says of a node reaches its owner, and is kept for him."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from fallow.domain.errors import Unavailable
from fallow.verticals.storage.core.lenders import WARNED_MS
from fallow.verticals.storage.core.questions import Evidence, Note
from fallow.verticals.storage.worker.notes import NOTES_MAX, Notes

FAILED, AWAY = "storage.audits_failed", "storage.away"


def note(kind: str, code: str = FAILED, at_ms: int = 1000) -> Note:
    evidence = Evidence(piece=b"p" * 32, chunk=3, asked_ms=at_ms, took_ms=5, found="failed: bytes", answer=b"\0\xff")
    return Note(kind=kind, code=code, text=f"It is {kind}.", at_ms=at_ms, evidence=[evidence])


def test_they_are_kept_with_their_evidence_and_once(tmp_path: Path) -> None:
    notes = Notes(tmp_path / "kept")
    assert notes.all() == []
    for _ in range(2):
        notes.keep(note("warning"))
    assert Notes(tmp_path / "kept").all() == [note("warning")]
    for at_ms in range(150):
        notes.keep(note("warning", at_ms=at_ms))
    assert len(notes.all()) == NOTES_MAX
    assert notes.all()[-1].at_ms == 149


def test_of_several_at_once_each_is_kept(tmp_path: Path) -> None:
    notes, said = Notes(tmp_path / "kept"), [note("warning", at_ms=at_ms) for at_ms in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(notes.keep, said))
    assert sorted(one.at_ms for one in notes.all()) == list(range(40))


def test_the_gravest_that_holds_is_shown(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    assert notes.trouble(0) == ""
    notes.keep(note("warning"))
    assert notes.trouble(2000).startswith("storage.audits_failed (warning): It is warning. The evidence is in ")
    assert notes.trouble(1000 + WARNED_MS) == ""
    notes.keep(note("suspended", AWAY, 3000))
    assert notes.trouble(3000).startswith("storage.away (suspended)")
    notes.keep(note("reinstated", AWAY, 4000))
    assert notes.trouble(4000).startswith("storage.audits_failed (warning)")
    notes.keep(note("disqualified", FAILED, 5000))
    assert notes.trouble(5000 + WARNED_MS).startswith("storage.audits_failed (disqualified)")


def test_a_file_that_cannot_be_read_says_nothing_and_one_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes").write_bytes(b"{ torn")
    assert Notes(tmp_path).all() == []
    Notes(tmp_path).keep(note("warning"))
    assert Notes(tmp_path).all() == [note("warning")]
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="cannot be kept"):
        Notes(tmp_path / "file").keep(note("warning"))


def test_a_note_goes_over_the_bus_as_it_is() -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(note("warning")), type=Note) == note("warning")
