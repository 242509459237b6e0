"""What a buyer can have computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fallow.domain.errors import InvalidInput
from fallow.domain.orders import Sha256

OUTPUT_MIB_MAX = 4096
FUEL_MAX = 10**15
ARGS_MAX = 256

Text = Annotated[str, Meta(max_length=4096, pattern="^[^\x00]*$")]
InputName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}$")]


class WasmWork(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A WASI preview 1 program.

    It finds its inputs in /in (a map's item as /in/input), leaves its outputs in /out, and is stopped when it has
    burned `fuel` units, about one per WebAssembly instruction.
    """

    kind: Literal["wasm"] = "wasm"
    program: Sha256
    args: Annotated[list[Text], Meta(max_length=ARGS_MAX)] = []
    env: Annotated[dict[Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]{0,99}$")], Text], Meta(max_length=100)] = {}
    inputs: Annotated[dict[InputName, Sha256], Meta(max_length=1000)] = {}
    fuel: Annotated[int, Meta(ge=1, le=FUEL_MAX)] = 10**12
    output_mib: Annotated[int, Meta(ge=1, le=OUTPUT_MIB_MAX)] = 64


ITEM_INPUT = "input"
"""Name under /in of the item that a map hands to each of its leases."""


def read_work(work: Mapping[str, Any]) -> WasmWork:
    """Check what an order asks to compute.

    Raises:
        InvalidInput: it is malformed; the message names the field.
    """
    try:
        return msgspec.convert(work, WasmWork)
    except msgspec.ValidationError as error:
        raise InvalidInput("compute.work", f"The work is not valid: {error}.") from error
