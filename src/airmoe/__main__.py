"""``python -m airmoe``, where the command ``airmoe`` is not on the path."""

from airmoe.cli import main

main()
