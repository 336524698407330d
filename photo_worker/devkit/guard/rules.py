"""The origin rules in the words of this product, and the variable that adds names to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from textract_local.origins import OriginRules, split_hosts

# A refused client that is still sending would see a broken connection instead of the response: read and discard this
# much of what it sends.
DRAIN_BYTES = 16 * 1024 * 1024
HOSTS_VARIABLE = "PHOTO_WORKER_ALLOWED_HOSTS"


class ServiceRules(OriginRules):
    """The rules for one service of a stack; ``hosts`` are names besides those of loopback."""

    def __init__(self, hosts: Iterable[str] = (), *, same_origin: bool = False) -> None:
        remedy = f"start the service with the name in {HOSTS_VARIABLE} (comma-separated)"
        super().__init__(hosts, same_origin=same_origin, program="photo-worker", remedy=remedy)


def allowed_hosts(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names that ``PHOTO_WORKER_ALLOWED_HOSTS`` adds to those of loopback."""
    return split_hosts(environ.get(HOSTS_VARIABLE, ""))
