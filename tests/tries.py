"""How hard properties are tried, in whichever folder: the same examples every time, unless somebody asks for a search.

`FALLOW_HYPOTHESIS=search pytest tests/property` looks at fresh and more examples.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

PHASES = (Phase.explicit, Phase.generate, Phase.shrink)

settings.register_profile(
    "default",
    derandomize=True,
    deadline=None,
    max_examples=60,
    database=None,
    print_blob=False,
    phases=PHASES,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "search",
    deadline=None,
    max_examples=1000,
    print_blob=True,
    phases=PHASES,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)


def as_asked() -> None:
    """Go by what somebody asked for."""
    settings.load_profile(os.environ.get("FALLOW_HYPOTHESIS", "default"))
