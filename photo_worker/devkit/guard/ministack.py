"""`python -m photo_worker.devkit.guard.ministack`: ministack, with the rules in front of its application."""

from __future__ import annotations

import os

from photo_worker.devkit.guard.asgi import guarded
from photo_worker.devkit.guard.rules import Rules, allowed_hosts


def main() -> None:
    """Serve as ``python -m ministack`` does, by the same variables."""
    from ministack import app

    # What its `main` serves is this name of its module.
    app.app = guarded(app.app, Rules(allowed_hosts(os.environ)))
    app.main()


if __name__ == "__main__":
    main()
