"""What an operator is shown of a check of all pieces."""

from __future__ import annotations

import json
from typing import Self

import msgspec
import pytest

from fallow.cli import profiles, storage_check
from fallow.verticals.storage.core.upkeep import InspectedNode, InspectedObjects, Inspection, OtherBytes

NODE = InspectedNode(alias=1, node=b"n" * 32, named=8, here=8)


class Client:
    """Answers as a check goes on: asked for, running, done."""

    def __init__(self, *nodes: InspectedNode, objects: InspectedObjects | None = None) -> None:
        self.nodes = nodes
        self.objects = objects
        self.asked: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask_vertical(self, vertical: str, call: str, body: bytes, *, again: bool, operator: bool) -> bytes:
        """See the SDK."""
        assert (vertical, again, operator) == ("storage", True, True)
        self.asked.append(call)
        after = msgspec.msgpack.decode(body).get("after", 0)
        if len(self.asked) < 3:
            return msgspec.msgpack.encode(Inspection(state="running"))
        nodes = [node for node in self.nodes if node.alias > after]
        return msgspec.msgpack.encode(Inspection(state="done", segments=1234, objects=self.objects, nodes=nodes))


def checked(
    monkeypatch: pytest.MonkeyPatch, *nodes: InspectedNode, objects: InspectedObjects | None = None, **asked: bool
) -> int:
    monkeypatch.setattr(profiles, "connect", lambda: Client(*nodes, objects=objects))
    monkeypatch.setattr(storage_check, "LOOK_S", 0)
    monkeypatch.setenv("COLUMNS", "250")
    return storage_check.check(**asked)


def test_where_all_is_there_the_exit_code_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checked(monkeypatch, NODE) == 0
    shown = capsys.readouterr().out
    assert "1,234 segments" in shown
    assert "HERE counts pieces that have lain there for a day" in shown
    assert "--repair" not in shown


@pytest.mark.parametrize("what", [{"missing": 1}, {"strays": 2, "trashed": 1}, {"trouble": "It was not there."}])
def test_what_is_not_well_is_seen_by_the_exit_code(monkeypatch: pytest.MonkeyPatch, what: dict[str, object]) -> None:
    assert checked(monkeypatch, NODE, msgspec.structs.replace(NODE, alias=2, **what)) == 1


def test_strays_in_the_trash_are_seen_to(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checked(monkeypatch, msgspec.structs.replace(NODE, strays=3, trashed=3), repair=True) == 0


def test_objects_and_segments_that_do_not_fit_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    well = InspectedObjects(on_nodes=5)
    assert checked(monkeypatch, NODE, objects=well) == 0
    assert "5 versions of objects have their bytes in segments, 0 have others there." in capsys.readouterr().out
    short = OtherBytes(bucket="photos", version=b"v" * 16, stream=b"s" * 16, size=2000, stored=1000)
    assert checked(monkeypatch, NODE, objects=msgspec.structs.replace(well, other=1, versions=[short])) == 1
    assert f"bucket photos: version {'76' * 16} has 1,000 of 2,000 bytes" in capsys.readouterr().out
    forgotten = msgspec.structs.replace(well, forgotten=1, segments=[b"g" * 16])
    assert checked(monkeypatch, NODE, objects=forgotten) == 1
    assert "67" * 16 in capsys.readouterr().out
    checked(monkeypatch, NODE, objects=msgspec.structs.replace(well, other=1, versions=[short]), json=True)
    (shown,) = json.loads(capsys.readouterr().out)["objects"]["versions"]
    assert (shown["bucket"], shown["stored"], shown["stream"]) == ("photos", 1000, "73" * 16)


def test_json_names_segments_and_pieces_in_hex(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    node = msgspec.structs.replace(NODE, missing=1, segments=[b"s" * 16], pieces=[b"p" * 32])
    checked(monkeypatch, node, json=True)
    (shown,) = json.loads(capsys.readouterr().out)["nodes"]
    assert (shown["node"], shown["segments"], shown["pieces"]) == ("6e" * 32, ["73" * 16], ["70" * 32])
