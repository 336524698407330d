"""``python -m photo_worker.cli``: the same command, where no console script is installed."""

from photo_worker.cli import main

main()
