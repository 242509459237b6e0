"""What nodes answer to the network's side of a vertical: they are strangers."""

from __future__ import annotations

import pytest

from fallow.adapters.memory.bus import MemoryBus, MemoryHub
from fallow.bootstrap.verticals import Asker
from fallow.domain.calls.verticals import vertical_question
from fallow.domain.errors import InvalidInput
from fallow.ports.bus import Message

NODE = b"n" * 32


@pytest.mark.parametrize("answer", [b"", b"\xff\xff", b"\x81\xa5error\x94\xa1\xff", b"\x91" * 5000, b"\x81\xa2ok\x07"])
async def test_an_answer_that_makes_no_sense_is_an_error_like_others(answer: bytes) -> None:
    """One that is none would end what asks all nodes, one after the other, at the first who wants that."""

    async def rubbish(_: Message) -> bytes:
        return answer

    hub = MemoryHub()
    async with MemoryBus(hub).serve(vertical_question(NODE.hex(), "storage"), rubbish, queue=""):
        with pytest.raises(InvalidInput) as refused:
            await Asker(MemoryBus(hub), "storage")(NODE, b"?")
    assert refused.value.code == "vertical.answer"
