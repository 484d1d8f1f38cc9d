"""``python -m airmoe.cli``."""

from airmoe.cli import main

main()
