"""Write the parts of docs/ that are generated: the configuration reference."""

from __future__ import annotations

from pathlib import Path

from fallow.bootstrap.settings import reference

DOCS = Path(__file__).parent.parent / "docs"
HEAD = """# Configuration

What an operator can set, in rising order of precedence: the file `fallow.toml` in the data folder, environment
variables, flags of `fallow up`. This page is generated from the settings' types (`make docs`).

"""


def configuration() -> str:
    """The page docs/configuration.md."""
    return HEAD + reference()


if __name__ == "__main__":
    (DOCS / "configuration.md").write_text(configuration(), "utf-8")
    print(f"wrote {DOCS / 'configuration.md'}")
