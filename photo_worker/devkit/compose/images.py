"""The images of a Compose stack: list them, find the missing ones, pull or build those."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from photo_worker.devkit.compose.program import Compose, find, on_stderr
from photo_worker.devkit.compose.project import KIND, WORKER, compose_file, started_services
from photo_worker.devkit.container_engine import ContainerEngine
from photo_worker.devkit.containers import STAND_IN_LABEL
from photo_worker.devkit.errors import ComposeFailed, DockerFailed, ImageMissing, ImageUnavailable, ImageUnbuildable
from photo_worker.devkit.service_registry import s3_servers
from photo_worker.devkit.state import StackRecord

if TYPE_CHECKING:
    from photo_worker.devkit.stack_options import StackOptions

# Allows for a pull over a slow connection, or a build that downloads a language model.
_GET_SECONDS = 3600.0
_CONFIG_SECONDS = 30.0


@dataclass(frozen=True)
class Image:
    """The image of a service; ``how`` is one of here, stand-in, pulled, built and missing."""

    service: str
    name: str
    how: str
    ours: bool
    """Whether the image is built from this repository instead of pulled."""


def images(compose: Compose, engine: ContainerEngine, services: Iterable[str]) -> list[Image]:
    """Return the image of each service in the Compose file, and whether it is on this machine."""
    said = compose.output("config", "--format", "json", *services, doing="read its file", seconds=_CONFIG_SECONDS)
    model = json.loads(said)["services"]
    return [_image(engine, service, model[service]) for service in services]


def obtain(
    compose: Compose, images: Iterable[Image], *, offline: bool, tell: Callable[[str], None] = on_stderr
) -> list[Image]:
    """Pull or build the missing images one after the other; return all images with their new state.

    Raises ``ImageMissing`` if ``offline`` forbids that, ``ImageUnavailable`` and ``ImageUnbuildable``.
    """
    known = list(images)
    for image in known:
        if image.how == "missing" and offline:
            raise ImageMissing(image=image.name, service=image.service)
    return [_got(compose, image, tell) if image.how == "missing" else image for image in known]


def prefetch(options: StackOptions, *, tell: Callable[[str], None] = on_stderr) -> list[Image]:
    """Get every image that ``up --stack compose`` needs with these options, including the worker's.

    Images that are built from this repository are built again, so that they match this checkout;
    a stand-in is kept. Raises what ``obtain`` raises, ``DockerMissing`` and ``ComposeMissing``.
    """
    engine = ContainerEngine()
    file = compose_file()
    record = StackRecord(
        name="dev",
        base_port=15_000,
        password="",
        kind=KIND,
        s3=options.s3 or s3_servers(KIND)[0],
        external=dict(options.external or {}),
        extras=list(options.extras or ()),
    )
    compose = Compose(find(), file, "photo-worker", {}, engine=engine.address)
    engine.get("/version")
    found = images(compose, engine, (*started_services(record), WORKER))
    stale = [image if not image.ours or image.how != "here" else _missing(image) for image in found]
    return obtain(compose, stale, offline=options.offline, tell=tell)


def _missing(image: Image) -> Image:
    return Image(image.service, image.name, "missing", image.ours)


def _image(engine: ContainerEngine, service: str, model: dict[str, object]) -> Image:
    name, ours = str(model["image"]), "build" in model
    response = engine.ask("GET", f"/images/{name}/json")
    if response.status == 404:
        return Image(service, name, "missing", ours)
    if response.status != 200:
        raise DockerFailed(doing=f"look at the image {name}", reason=response.message)
    labels = response.json()["Config"].get("Labels") or {}
    return Image(service, name, "stand-in" if STAND_IN_LABEL in labels else "here", ours)


def _got(compose: Compose, image: Image, tell: Callable[[str], None]) -> Image:
    doing = "build" if image.ours else "pull"
    tell(f"{doing} {image.name} for {image.service}")
    try:
        compose.run(doing, image.service, doing=f"{doing} {image.name}", seconds=_GET_SECONDS, tell=tell)
    except ComposeFailed as error:
        reason = _last_words(error)
        if image.ours:
            raise ImageUnbuildable(image=image.name, service=image.service, reason=reason) from error
        raise ImageUnavailable(image=image.name, service=image.service, reason=reason) from error
    return Image(image.service, image.name, "built" if image.ours else "pulled", image.ours)


def _last_words(error: ComposeFailed) -> str:
    """Return the last line that Compose printed; all lines were shown as they arrived."""
    lines = [line.strip() for line in str(error.context["reason"]).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else "Compose did not say why"
