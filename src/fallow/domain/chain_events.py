"""Events of the network's contracts, read as what they say. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fallow.domain.chain_facts import CHAIN_FACTS, ChainFact
from fallow.domain.errors import InvalidInput
from fallow.domain.identity import ADDRESS_BYTES
from fallow.domain.records import convert
from fallow.domain.transactions import topic, types_of

WORD: Final = 32
NUMBER_BITS_MAX: Final = 64
_BY_TOPIC: Final = {topic(fact.event): fact for fact in CHAIN_FACTS}
TOPICS: Final = tuple(_BY_TOPIC)
CONTRACTS: Final = tuple(sorted({fact.contract for fact in CHAIN_FACTS}))


def read_event(
    contract: str, topics: Sequence[bytes], data: bytes, *, block: int, place: int, transaction: bytes
) -> ChainFact | None:
    """Read an event of the contract with this name; None where it is not one of those that are recorded.

    Raises:
        InvalidInput: `chain.event`: it is none that this contract emits.
    """
    fact = _BY_TOPIC.get(topics[0])
    if fact is None or fact.contract != contract:
        return None
    types = types_of(fact.event)
    words = [*topics[1:], *(data[at : at + WORD] for at in range(0, len(data), WORD))]
    names = [name for name in fact.__struct_fields__ if name not in ChainFact.__struct_fields__]
    if len(words) != len(types):
        raise InvalidInput("chain.event", f"{fact.event} has {len(types)} words, not {len(words)}.")
    fields: dict[str, Any] = {name: _value(type_, word) for name, type_, word in zip(names, types, words, strict=True)}
    return convert({"block": block, "place": place, "transaction": transaction, **fields}, fact, "chain.event")


def _value(type_: str, word: bytes) -> bytes | int:
    """Numbers of up to 64 bits, as records hold them, are read as such; longer ones stay the 32 bytes that they are."""
    if type_ == "address":
        return word[-ADDRESS_BYTES:]
    if type_.startswith("uint") and int(type_.removeprefix("uint")) <= NUMBER_BITS_MAX:
        return int.from_bytes(word)
    return word
