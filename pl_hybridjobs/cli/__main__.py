"""``python -m pl_hybridjobs.cli``."""

from pl_hybridjobs.cli import main

main()
