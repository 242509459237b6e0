"""Computing closed epochs under other rules, apart from whoever asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from fallow.domain.calls.epochs import WhatIf
from fallow.domain.views.what_if import WhatIfEpochView, WhatIfView

Begin = Callable[[WhatIf], AbstractContextManager[Iterator[WhatIfEpochView | WhatIfView]]]
"""Begins to compute; that ends with the context. Going on to the next blocks, and raises what is wrong."""
