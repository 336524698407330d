"""``python -m photo_worker.cli``: the same command without an installed console script."""

from photo_worker.cli import main

main()
