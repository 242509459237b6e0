"""`fallow storage share` and `grant`, as they are typed: made without a network, read back, refused in words."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any, Self

import pytest

from fallow.cli.main import run
from fallow.cli.storage_secret import keep_secret
from fallow.domain.grants import check_chain, read_credential, root_key
from fallow.verticals.storage.client.granting import read_grant

KEY = "fk_abcdefgh_" + "a" * 32
DAY_MS = 86_400_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody who has logged in, made his secret and a grant before. Nothing answers at the network's address."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("FALLOW_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("FALLOW_API_KEY", KEY)
    monkeypatch.delenv("FALLOW_GRANT", raising=False)
    keep_secret(bytes(32))
    signing = {"url": "http://127.0.0.1:1", "key_id": "abcdefgh", "secret": "s"}
    (tmp_path / "fallow" / "storage-signing.json").write_text(json.dumps(signing))
    return tmp_path


def typed(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """What a command says in JSON."""
    assert run(["storage", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_grant_is_made_and_narrowed_without_a_network(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = typed(capsys, "share", "fallow://photos/2026/", "--until", "2030-01-01")
    assert (made["allow"], made["exact"]) == (["read", "list"], False)
    assert made["until_ms"] == 1_893_456_000_000
    check_chain(root_key("s"), read_credential(read_grant(made["grant"]).credential))
    for name in ("profile.toml", "storage-secret", "storage-signing.json"):
        (folder / "fallow" / name).unlink(missing_ok=True)
    monkeypatch.delenv("FALLOW_API_KEY")
    (folder / "grant.txt").write_text(made["grant"] + "\n")
    one = typed(capsys, "share", "photos/2026/a.jpg", "--grant", str(folder / "grant.txt"), "--until", "1d")
    assert (one["name"], one["exact"], one["allow"]) == ("2026/a.jpg", True, ["read"])
    assert one["until_ms"] < made["until_ms"]
    monkeypatch.setenv("FALLOW_GRANT", one["grant"])
    assert run(["storage", "grant", one["grant"]]) == 0
    said = capsys.readouterr().out
    assert "Allows to read the object fallow://photos/2026/a.jpg until 20" in said
    assert one["id"] in said


@pytest.mark.usefixtures("folder")
def test_an_end_that_no_calendar_has_is_shown_as_its_last_day(capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever hands on a grant may have written any."""
    made = typed(capsys, "share", "fallow://photos/2026/", "--until", "999999999d")["grant"]
    assert run(["storage", "grant", made]) == 0
    assert "until 9999-12-31 23:59:59 UTC" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["share", "fallow://photos/x", "--allow", "list"], "storage.grant_list"),
        (["share", "fallow://photos/", "--allow", "read,own"], "storage.grant_allow"),
        (["share", "fallow:///x"], "storage.place"),
        (["share", "fallow://in/x/"], "storage.place"),
        (["mb", "in"], "storage.place"),
        (["share", "fallow://photos/", "--until", "2001-01-01", "--from", "2002-01-01"], "storage.grant_empty"),
        (["share", "fallow://photos/", "--until", "2001-01-01"], "storage.grant_empty"),
        (["share", "fallow://photos/", "--until", "soon"], "cli.duration"),
        (["share", "fallow://photos/", "--grant", "/no/such/file"], "storage.grant_text"),
        (["grant", "fgrant_AAAA"], "storage.grant_text"),
        (["ls", "--grant", "fgrant_AAAA"], "storage.grant_text"),
        (["revoke", "abc"], "grant.id"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_makes_no_sense_is_refused_before_anything_is_asked(
    words: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["storage", *words]) == 2
    assert code in capsys.readouterr().err


@pytest.mark.usefixtures("folder")
def test_nobody_hands_on_more_than_he_has(capsys: pytest.CaptureFixture[str]) -> None:
    made = typed(capsys, "share", "photos/2026/", "--allow", "read")["grant"]
    for words, code in (
        (["photos/2025/"], "storage.outside"),
        (["photos/"], "storage.outside"),
        (["photos/2026"], "storage.outside"),
        (["other/2026/"], "storage.outside"),
        (["photos/2026/", "--allow", "write"], "storage.grant_wider"),
    ):
        assert run(["storage", "share", *words, "--grant", made]) == 1, words
        assert code in capsys.readouterr().err


def test_another_keys_words_are_not_taken_nor_another_networks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fallow.cli import profiles, storage_grants  # noqa: PLC0415

    asked: list[str] = []

    class Client:
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def signing_secret(self) -> Any:
            asked.append("asked")
            return type("Signing", (), {"access_key": "bcdefghi", "secret": "other"})()

    monkeypatch.setattr(profiles, "client_of", lambda _: Client())
    other = profiles.Profile("http://127.0.0.1:1", "fk_bcdefghi_" + "a" * 32)
    assert [storage_grants._signing(other).key_id for _ in range(2)] == ["bcdefghi", "bcdefghi"]
    assert asked == ["asked"], "it is kept"
    elsewhere = profiles.Profile("http://127.0.0.1:2", other.api_key)
    assert storage_grants._signing(elsewhere).key_id == "bcdefghi"
    assert asked == ["asked"] * 2, "what one network said is nothing to another"
    assert stat.S_IMODE((folder / "fallow" / "storage-signing.json").stat().st_mode) == 0o600
