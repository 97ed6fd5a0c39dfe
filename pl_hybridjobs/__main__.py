"""``python -m pl_hybridjobs``."""

from pl_hybridjobs.cli import main

main()
