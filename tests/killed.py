"""A process that is killed while it writes a file."""

import subprocess
import sys
from pathlib import Path

_WRITE_AND_DIE = """
import os, sys
from pathlib import Path
from airmoe.files import replaced_file
with replaced_file(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), 9)
"""


def killed_while_writing(path: Path) -> Path:
    """The half-written file that such a process leaves beside ``path``."""
    before = set(path.parent.glob("*"))
    subprocess.run([sys.executable, "-c", _WRITE_AND_DIE, path], check=False)
    (left,) = set(path.parent.glob("*")) - before
    return left
