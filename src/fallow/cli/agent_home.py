"""What the commands of an agent have in common: its folder, and how they answer programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

DEFAULT_HOME = Path("~/.fallow/agent")

Home = Annotated[Path, Parameter(help="The agent's folder: key, records, cache.", env_var="FALLOW_AGENT_HOME")]
Json = Annotated[bool, Parameter(negative="", help="Print one JSON value, for programs.")]
