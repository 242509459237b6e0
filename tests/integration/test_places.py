"""Where machines are, from the owner's command line to the buyer's."""

from __future__ import annotations

import json

import msgspec

from fallow.domain.places import read_cell
from tests.network import NEEDS, network
from tests.programs import hello

BERLIN, POTSDAM = "52.5200,13.4050", "52.3906,13.0645"


async def test_a_buyer_finds_who_is_near() -> None:
    place = ("--country", "de", "--at", BERLIN)
    async with network() as net, net.agent("barn", place=place) as barn, net.agent("attic") as attic:
        view = await net.node(barn)
        assert (view.country, view.cell) == ("DE", read_cell(BERLIN))
        assert (await net.node(attic)).cell == ""
        near = msgspec.structs.replace(NEEDS, near=read_cell(POTSDAM), within_km=50)
        order = await net.buyer.wasm_order(hello(), requirements=near)
        quote = await net.buyer.quote(order)
        assert [(found.node, found.cell) for found in quote.candidates] == [(barn.node, read_cell(BERLIN))]
        assert quote.why_not == {"near": 1}
        result = await net.buyer.run_wasm(hello(), requirements=near)
        assert (result.ok, result.item.node) == (True, barn.node)
        state = json.loads((barn.home / "state.json").read_text())
        assert state["settings"]["cell"] == read_cell(BERLIN)
        assert "52.5" not in barn.words() + (barn.home / "state.json").read_text()
