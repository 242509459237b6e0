"""What a buyer asks for, as it comes in at the door."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from fallow.domain.places import Cell, is_cell
from fallow.domain.resources import CPU_MILLI_MAX, MIB_MAX, PRICE_MICROUSD_MAX, Gpus, Resources

ITEMS_MAX = 10_000
KM_MAX = 20_038
"""Half way round the Earth."""

TIME_LIMIT_S_MAX = 7 * 86_400
UNTIL_STOPPED_S = 30 * 86_400
"""A lease of a process that runs until stopped: after so long it is started anew, from its checkpoint if it has one."""

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
Id = Annotated[str, Meta(pattern="^[0-9a-f]{32}$", max_length=32)]
Label = Annotated[str, Meta(max_length=80, pattern=r"^[^\x00-\x1f\x7f]*$(?!\n)")]


class Requirements(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a node must have. `attributes` are matched exactly, for example {"compute.wasm": "1"}.

    `gpus` are whole graphics processors for this lease alone, each of `gpu_model` (`same_model`; "" is any) and with
    `vram_mib` of memory.
    `trust_min` is the least trust level that it must have (`fallow.domain.verification.LEVELS`).
    `nodes_allowed` (empty: all) and `nodes_denied` name nodes by their ids, or all of an account by its address.
    `leases_per_owner_max` spreads an order's items: no owner's nodes together work on more of them at a time.
    `near` is a cell of H3: the centre of the node's own is at most `within_km` away, by its owner's word.
    """

    cpu_milli: Annotated[int, Meta(ge=1, le=CPU_MILLI_MAX)] = 1000
    memory_mib: Annotated[int, Meta(ge=1, le=MIB_MAX)] = 256
    disk_mib: Annotated[int, Meta(ge=0, le=MIB_MAX)] = 64
    gpus: Gpus = 0
    gpu_model: Label = ""
    vram_mib: Annotated[int, Meta(ge=0, le=MIB_MAX)] = 0
    countries: Annotated[list[Annotated[str, Meta(pattern="^[A-Z]{2}$")]], Meta(max_length=250)] = []
    nodes_allowed: Annotated[list[str], Meta(max_length=1000)] = []
    nodes_denied: Annotated[list[str], Meta(max_length=1000)] = []
    attributes: dict[str, str] = {}
    trust_min: Literal["new", "proven", "vouched", "own"] = "new"
    leases_per_owner_max: Annotated[int, Meta(ge=1)] | None = None
    near: Cell = ""
    within_km: Annotated[int, Meta(ge=0, le=KM_MAX)] = 0

    @property
    def resources(self) -> Resources:
        """The amount that a lease takes."""
        return Resources(cpu_milli=self.cpu_milli, memory_mib=self.memory_mib, disk_mib=self.disk_mib, gpus=self.gpus)

    def __post_init__(self) -> None:
        """Check what types cannot: ValueError, which msgspec turns into its own error."""
        if not self.gpus and (self.gpu_model or self.vram_mib):
            raise ValueError("gpu_model and vram_mib need gpus")
        if bool(self.near) != bool(self.within_km):
            raise ValueError("near and within_km belong together")
        if self.near and not is_cell(self.near):
            raise ValueError("near is not a cell of H3")


Margin = Annotated[str, Meta(max_length=32, pattern=r"^[0-9]{1,9}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?$")]
"""A number that is not negative, in decimal, as it stands: nothing of it is lost to binary fractions."""

COMPARED_MIN = 2
"""Results that a comparison takes at least."""

COMPARATOR_FUEL_MAX = 10**10


class Tolerance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which results are near enough to agree.

    Two numbers agree when they differ by at most `atol` + `rtol` times the larger of their magnitudes, or by the
    buyer's own word: `program` is a WASI program (a blob) that compares two results and burns at most `fuel` units.
    """

    rtol: Margin = "0"
    atol: Margin = "0"
    program: Sha256 | None = None
    fuel: Annotated[int, Meta(ge=1, le=COMPARATOR_FUEL_MAX)] = 10**9

    def __post_init__(self) -> None:
        """Check what types cannot: ValueError, which msgspec turns into its own error."""
        if self.program is not None and (self.rtol, self.atol) != ("0", "0"):
            raise ValueError("a comparator's program has its own margins: leave out rtol and atol")


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job: work over one or many items that ends by itself, or with `until_stopped` when its buyer cancels it.

    `id` is made by the buyer (32 hex digits); the same order sent again changes nothing. `work` is checked by the
    vertical that `vertical` names. `items` are the hashes of the inputs of a map, one lease each; empty for a single
    job. `replicas` is from how many owners' nodes the buyer wants to have (and pay for) the same result; the network
    checks on its own account besides, where results can be compared. Prices are per lease and hour.
    `budget_microusd` bounds what all leases together may cost. `time_limit_s` bounds each lease of work that ends by
    itself. With `spot` it runs at the spot prices of nodes that have some, and its leases may be ended for orders
    without.
    `compare` says how results compare: `exact` (byte for byte, among the replicas that the buyer pays for, or
    for work that is the same on every machine also by the network's own checks), `tolerance` (as `tolerance` says,
    among at least two replicas), or `none`; left out, as the kind of work has it.
    """

    id: Id
    vertical: Annotated[str, Meta(pattern="^[a-z]{1,20}$")]
    work: dict[str, Any]
    items: Annotated[list[Sha256], Meta(max_length=ITEMS_MAX)] = []
    requirements: Requirements = msgspec.field(default_factory=Requirements)
    max_price_microusd_per_hour: Annotated[int, Meta(ge=0, le=PRICE_MICROUSD_MAX)] = PRICE_MICROUSD_MAX
    budget_microusd: Annotated[int, Meta(ge=0, le=PRICE_MICROUSD_MAX)] | None = None
    time_limit_s: Annotated[int, Meta(ge=1, le=TIME_LIMIT_S_MAX)] = 3600
    retries: Annotated[int, Meta(ge=0, le=10)] = 0
    replicas: Annotated[int, Meta(ge=1, le=5)] = 1
    label: Label = ""
    until_stopped: bool = False
    spot: bool = False
    compare: Literal["exact", "tolerance", "none"] | None = None
    tolerance: Tolerance | None = None

    def __post_init__(self) -> None:
        """Check what types cannot: ValueError, which msgspec turns into its own error."""
        if (self.compare == "tolerance") != (self.tolerance is not None):
            raise ValueError("compare is tolerance where a tolerance is given, and only there")
        if self.tolerance is not None and self.replicas < COMPARED_MIN:
            raise ValueError(f"results within a tolerance are compared: order {COMPARED_MIN} replicas or more")

    @property
    def lease_limit_s(self) -> int:
        """How long one lease may last."""
        return UNTIL_STOPPED_S if self.until_stopped else self.time_limit_s

    @property
    def item_count(self) -> int:
        """How many leases end the job when each goes well."""
        return max(1, len(self.items))
