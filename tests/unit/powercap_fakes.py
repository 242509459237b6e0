"""A folder like Linux's /sys/class/powercap, for tests of the power limit."""

from __future__ import annotations

from pathlib import Path

RANGE_UJ = 65_532_610_987


class Package:
    """A zone of it: a package, unless `name` says another kind."""

    def __init__(self, powercap: Path, folder: str, *, name: str = "package-0", uj: int = 0) -> None:
        self._folder = powercap / folder
        self._folder.mkdir(parents=True)
        (self._folder / "name").write_text(f"{name}\n")
        (self._folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
        self.energy = self._folder / "energy_uj"
        self.uj = uj
        self.count(0)

    def count(self, uj: int) -> None:
        """Use so many microjoules more."""
        self.uj = (self.uj + uj) % RANGE_UJ
        self.energy.write_text(f"{self.uj}\n")
