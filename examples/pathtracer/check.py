"""Build pathtracer.wasm again in a temporary folder and compare it, byte by byte, with the one that is committed.

Exit code 1, and a sentence that says so, when they differ. Takes about 20 seconds: zig builds its C library first.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Build, compare, say what came out."""
    committed = (HERE / "pathtracer.wasm").read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "built.wasm"
        environment = {**os.environ, "PYTHON": sys.executable}
        environment.pop("ZIG_GLOBAL_CACHE_DIR", None)  # nothing from an earlier build may take part
        subprocess.run(["/bin/sh", str(HERE / "build.sh"), str(output)], env=environment, check=True)
        built = output.read_bytes()
    if built != committed:
        sys.exit(
            f"pathtracer.wasm is not what pathtracer.c builds to: committed {len(committed)} bytes, "
            f"sha256 {hashlib.sha256(committed).hexdigest()}; built {len(built)} bytes, "
            f"sha256 {hashlib.sha256(built).hexdigest()}. Run build.sh and commit the result."
        )
    print(f"pathtracer.wasm is what pathtracer.c builds to: sha256 {hashlib.sha256(built).hexdigest()}")


if __name__ == "__main__":
    main()
