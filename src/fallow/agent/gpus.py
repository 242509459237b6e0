"""Graphics processors, as NVIDIA's driver tells of them (NVML). Without its package or the driver there are none."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

MIB = 1 << 20
MODEL_CHARACTERS_MAX = 200


class Gpu(NamedTuple):
    """One graphics processor. `uuid` names it for good, in containers too, whatever else is plugged in."""

    model: str
    memory_mib: int
    uuid: str


class NoGpus(NamedTuple):
    """None can be seen, and why."""

    why: str


@cache
def nvml() -> Any:  # noqa: ANN401 - an untyped module, or NoGpus
    """NVIDIA's library, ready for use; NoGpus where it is not there."""
    try:
        library: Any = importlib.import_module("pynvml")
    except ImportError:
        return NoGpus("The package nvidia-ml-py is not installed.")
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        return NoGpus(f"NVIDIA's driver does not answer: {error}.")
    return library


def read_gpus(library: Any) -> tuple[Gpu, ...] | NoGpus:  # noqa: ANN401 - as `nvml`
    """All graphics processors, in the driver's order."""
    if isinstance(library, NoGpus):
        return library
    try:
        handles = [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
        found = tuple(
            Gpu(
                str(library.nvmlDeviceGetName(handle))[:MODEL_CHARACTERS_MAX],
                int(library.nvmlDeviceGetMemoryInfo(handle).total) // MIB,
                str(library.nvmlDeviceGetUUID(handle)),
            )
            for handle in handles
        )
    except library.NVMLError as error:
        return NoGpus(f"NVIDIA's driver does not answer: {error}.")
    return found or NoGpus("NVIDIA's driver finds no GPU.")


def alike(gpus: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """Those of the most common kind, the larger memory first: an offer counts GPUs, so all of them must be alike."""
    kinds = Counter((gpu.memory_mib, gpu.model) for gpu in gpus)
    if not kinds:
        return ()
    memory_mib, model = max(kinds, key=lambda kind: (kinds[kind], kind))
    return tuple(gpu for gpu in gpus if (gpu.memory_mib, gpu.model) == (memory_mib, model))
