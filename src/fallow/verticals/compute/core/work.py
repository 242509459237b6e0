"""What a buyer can have computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from fallow.domain.errors import InvalidInput
from fallow.domain.orders import Sha256
from fallow.verticals.compute.core.images import read_reference

OUTPUT_MIB_MAX = 4096
FUEL_MAX = 10**15
ARGS_MAX = 256
ENTRYPOINT_BYTES_MAX = 64 << 10
"""As JSON: so it becomes one word of an engine's command line, and Linux takes none of 128 KiB or more."""

Text = Annotated[str, Meta(max_length=4096, pattern="^[^\x00]*$")]
Env = Annotated[dict[Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$(?!\n)")], Text], Meta(max_length=100)]
InputName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}$(?!\n)")]
Inputs = Annotated[dict[InputName, Sha256], Meta(max_length=1000)]
OutputMib = Annotated[int, Meta(ge=1, le=OUTPUT_MIB_MAX)]
PYTHON_VERSION = r"^3\.[0-9]{1,2}$"
PLATFORM_ANY = "any"
CheckpointS = Annotated[int, Meta(ge=0, le=86_400)]
"""How often /checkpoint is saved while it changes, in seconds; 0 is never."""


class WasmWork(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="wasm"):
    """A WASI preview 1 program.

    It finds its inputs in /in (a map's item as /in/input), leaves its outputs in /out, and is stopped when it has
    burned `fuel` units, about one per WebAssembly instruction. With `checkpoint_s`, what it keeps in /checkpoint (and
    has closed or synced) is saved so often and there again when it goes on elsewhere, with fuel, clock and chance as at
    the start; such runs are not compared.
    """

    program: Sha256
    args: Annotated[list[Text], Meta(max_length=ARGS_MAX)] = []
    env: Env = {}
    inputs: Inputs = {}
    fuel: Annotated[int, Meta(ge=1, le=FUEL_MAX)] = 10**12
    output_mib: OutputMib = 64
    checkpoint_s: CheckpointS = 0

    @property
    def blobs(self) -> set[str]:
        """Hashes of all that it reads."""
        return {self.program, *self.inputs.values()}

    @property
    def what(self) -> str:
        """What is run, whatever its arguments and inputs are."""
        return self.program

    @property
    def attributes(self) -> dict[str, str]:
        """What a node must offer."""
        return {"compute.wasm": "wasi-p1"}

    @property
    def compares(self) -> bool:
        """Whether two honest runs leave the same bytes: not where one may begin in the middle."""
        return not self.checkpoints

    @property
    def checkpoints(self) -> bool:
        """Whether it goes on elsewhere from what it has saved: who does is not checked, so what compares has none."""
        return self.checkpoint_s > 0

    @property
    def secrets(self) -> bool:
        """Whether it takes secret values: its results are compared by others' machines, so it takes none."""
        return False


class PythonWork(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="python"):
    """A Python script that runs in a sandbox without network.

    `bundle` is a ZIP archive that the buyer made: the script `entry` (a path inside it, which lies at /bundle) and its
    dependencies under site-packages/, for Python `python`. Where those hold native code, `platform` is the system and
    processor that it was built for, otherwise "any". The script finds its inputs in /in (a map's item as /in/input),
    leaves its outputs in /out, and may write to its working folder and /tmp. What it keeps in /checkpoint is saved
    every `checkpoint_s` seconds and there again when it goes on elsewhere.
    """

    bundle: Sha256
    entry: Annotated[
        str, Meta(pattern=r"^(?:[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}/){0,8}[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}$(?!\n)")
    ]
    args: Annotated[list[Text], Meta(max_length=ARGS_MAX)] = []
    env: Env = {}
    inputs: Inputs = {}
    output_mib: OutputMib = 64
    checkpoint_s: CheckpointS = 60
    python: Annotated[str, Meta(pattern=PYTHON_VERSION)]
    platform: Annotated[str, Meta(pattern=r"^(?:any|[a-z]{1,20}-[a-z0-9_]{1,20})$(?!\n)")] = PLATFORM_ANY

    @property
    def blobs(self) -> set[str]:
        """Hashes of all that it reads."""
        return {self.bundle, *self.inputs.values()}

    @property
    def what(self) -> str:
        """What is run, whatever its arguments and inputs are."""
        return self.bundle

    @property
    def attributes(self) -> dict[str, str]:
        """What a node must offer."""
        native = {} if self.platform == PLATFORM_ANY else {"compute.platform": f"{self.platform}-glibc"}
        return {"compute.python": self.python, **native}

    @property
    def compares(self) -> bool:
        """Whether two honest runs leave the same bytes: clocks and threads are real here."""
        return False

    @property
    def checkpoints(self) -> bool:
        """Whether it goes on elsewhere from what it has saved."""
        return self.checkpoint_s > 0

    @property
    def secrets(self) -> bool:
        """Whether it takes secret values, as variables."""
        return True


class ContainerWork(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="container"
):
    """A program in a container, without network.

    Its image is either named (`image`, see `read_reference`: the node pulls it) or uploaded (`archive`, a blob: an OCI
    archive, or what `docker save` writes). `entrypoint` and `args` go over the image's own where they are not empty,
    and so does `workdir`. The program finds its inputs in /in (a map's item as /in/input), leaves its outputs in /out,
    and may write to /work and /tmp besides; all else is read-only. /checkpoint is as in `PythonWork`. `platform` is
    the system and processor as images name them. `pull_secret` names the secret that the registry is shown
    (USER:PASSWORD); the program does not get it.
    """

    image: str = ""
    archive: Sha256 | None = None
    pull_secret: Annotated[str, Meta(pattern=r"^(?:[A-Za-z_][A-Za-z0-9_]{0,99})?$(?!\n)")] = ""
    platform: Annotated[str, Meta(pattern=r"^linux/[a-z0-9_]{1,20}$(?!\n)")] = "linux/amd64"
    entrypoint: Annotated[list[Text], Meta(max_length=ARGS_MAX)] = []
    args: Annotated[list[Text], Meta(max_length=ARGS_MAX)] = []
    workdir: Annotated[str, Meta(pattern=r"^(?:/[^\x00-\x1f\x7f]{0,500})?$(?!\n)")] = ""
    env: Env = {}
    inputs: Inputs = {}
    output_mib: OutputMib = 64
    checkpoint_s: CheckpointS = 60

    def __post_init__(self) -> None:
        """Check what no pattern shows. Raises ValueError."""
        if bool(self.image) == bool(self.archive):
            raise ValueError("a container needs either an image or an archive")
        if self.image:
            read_reference(self.image)
        if len(msgspec.json.encode(self.entrypoint)) > ENTRYPOINT_BYTES_MAX:
            raise ValueError(f"a container's entrypoint has at most {ENTRYPOINT_BYTES_MAX} bytes")
        broken = [name for name, value in self.env.items() if "\n" in value or "\r" in value]
        if broken:
            raise ValueError(f"a container's variables hold no line breaks, but {broken[0]} does")

    @property
    def blobs(self) -> set[str]:
        """Hashes of all that it reads."""
        return {*([self.archive] if self.archive else []), *self.inputs.values()}

    @property
    def what(self) -> str:
        """What is run, whatever its arguments and inputs are."""
        return self.archive or self.image

    @property
    def attributes(self) -> dict[str, str]:
        """What a node must offer."""
        return {"compute.container": self.platform}

    @property
    def compares(self) -> bool:
        """Whether two honest runs leave the same bytes: clocks and threads are real here."""
        return False

    @property
    def checkpoints(self) -> bool:
        """Whether it goes on elsewhere from what it has saved."""
        return self.checkpoint_s > 0

    @property
    def secrets(self) -> bool:
        """Whether it takes secret values, as variables."""
        return True


Work = WasmWork | PythonWork | ContainerWork


ITEM_INPUT = "input"
"""Name under /in of the item that a map hands to each of its leases."""


def read_work(work: Mapping[str, Any]) -> Work:
    """Check what an order asks to compute. Work that names no kind is a WASI program.

    Raises:
        InvalidInput: it is malformed; the message names the field.
    """
    try:
        checked: Work = msgspec.convert({"kind": "wasm", **work}, Work)
    except msgspec.ValidationError as error:
        raise InvalidInput("compute.work", f"The work is not valid: {error}.") from error
    return checked
