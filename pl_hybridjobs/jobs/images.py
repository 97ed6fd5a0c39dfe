"""Images that run our worker: built from the recipes in ``containers/``, listed, pushed."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pl_hybridjobs.errors import InvalidCall, RunnerError, did_you_mean
from pl_hybridjobs.jobs import environment, own
from pl_hybridjobs.jobs.container import default_image, look_into
from pl_hybridjobs.jobs.distributions import installed
from pl_hybridjobs.jobs.engine import Engine
from pl_hybridjobs.jobs.environment import Interpreter
from pl_hybridjobs.jobs.locks import name_of

LABEL = "pl-hybridjobs.image"
_BUILD_S = 3600.0
#: In the image.
_PLACE = Path("/opt/hybridjobs")


@dataclass(frozen=True)
class Image:
    """An image that was built here.

    Attributes:
        name: Its name and tag.
        kind: Which recipe.
        version: This package's version in it.
        size: As the engine says it.
    """

    name: str
    kind: str
    version: str
    size: str


def recipes() -> Path:
    """The folder of recipes: in a wheel inside the package, in a checkout beside it."""
    package = Path(__file__).parents[1]
    for folder in (package / "containers", package.parent / "containers"):
        if folder.joinpath("Containerfile").is_file():
            return folder
    raise RunnerError(
        "This installation of pl-hybridjobs lacks its folder `containers`. Install it anew: pip install --force-reinstall pl-hybridjobs"
    )


def kinds() -> list[str]:
    """Names of the recipes."""
    return sorted(path.parent.name for path in recipes().glob("*/requirements.txt"))


def build(engine: Engine, kind: str = "base", *, base: str | None = None, tag: str | None = None, python: str = "python3") -> str:
    """Build an image with this very version.

    Args:
        engine: Which engine.
        kind: The recipe.
        base: The image to build on; None for Python's own, with the minor version that runs here.
        tag: The new image's name.
        python: The base image's interpreter.

    Returns:
        The new image's name.

    Raises:
        InvalidCall: There is no such recipe.
        RunnerError: The engine or pip fails; with its own words.
    """
    if kind not in kinds():
        raise InvalidCall("image build", [f"there is no recipe {kind!r}; there are {', '.join(kinds())}.{did_you_mean(kind, kinds())}"])
    here = Interpreter.here()
    base = base or f"docker.io/library/python:{here.minor}-slim-bookworm"
    tag = tag or default_image(kind)
    if engine.image_id(base) is None:
        engine.run("pull", base, timeout_s=_BUILD_S)
    interpreter = look_into(engine, base, python, "--rm", "--network", "none").interpreter
    if interpreter.minor != here.minor:
        problem = (
            f"{base} has Python {interpreter.version} and this is {here.version}: jobs from here could not run in it; take another base"
        )
        raise InvalidCall("image build", [problem])
    with tempfile.TemporaryDirectory(prefix="hybridjobs-image-") as folder:
        context = Path(folder)
        for name in (f"{kind}/requirements.txt", "Containerfile", "train", "hybridjobs_entry.py"):
            shutil.copy2(recipes() / name, context)
        _assemble(context, interpreter)
        labels = ["--label", f"{LABEL}={kind}", "--label", f"{LABEL}.version={own.version()}"]
        options = ["--network", "none", "--build-arg", f"BASE={base}", *labels, "--tag", tag]
        engine.run("build", *options, "--file", str(context / "Containerfile"), folder, timeout_s=_BUILD_S)
    return tag


def _assemble(context: Path, interpreter: Interpreter) -> None:
    """The environment, with the versions that are installed here."""
    (wheels := context / "wheels").mkdir()
    own.write_wheel(wheels)
    pins = context / "pins.txt"
    lines = [dist.requirement() for dist in installed().closure(map(name_of, own.requirements()))]
    pins.write_text("".join(f"{line}\n" for line in lines if " @ " not in line), encoding="utf-8")
    target = context / "environment"
    target.mkdir()
    wanted = (context / "requirements.txt").read_text(encoding="utf-8").splitlines()
    environment.make(target, wanted, interpreter, _PLACE, "--find-links", str(wheels), "--constraint", str(pins), "--no-compile")
    shutil.rmtree(wheels)


def built(engine: Engine) -> list[Image]:
    """The images that were built here."""
    said = engine.run("images", "--filter", f"label={LABEL}", "--format", "{{.ID}}")
    found = []
    for image_id in dict.fromkeys(said.split()):
        (details,) = json.loads(engine.run("image", "inspect", image_id))
        labels = (details.get("Config") or {}).get("Labels") or details.get("Labels") or {}
        size = f"{details.get('Size', 0) / 1e6:.0f} MB"
        kind, version = labels.get(LABEL, ""), labels.get(f"{LABEL}.version", "")
        found += [Image(name, kind, version, size) for name in details.get("RepoTags") or [image_id]]
    return found


def push(engine: Engine, image: str, destination: str | None = None) -> str:
    """Copy an image to a registry.

    Args:
        engine: Which engine; it must be logged in there.
        image: The image's name.
        destination: Its name in the registry; None if its name has that already.

    Raises:
        InvalidCall: There is no such image, or no registry is named.
        RunnerError: The engine's own words.
    """
    target = destination or image
    registry = target.partition("/")[0]
    problems = []
    if engine.image_id(image) is None:
        problems.append(f"{engine.name} has no image {image!r} on this machine; see `hybridjobs image list`")
    if "/" not in target or registry == "localhost" or not ("." in registry or ":" in registry):
        problems.append(f"{target!r} names no registry; give a destination such as registry.example.org/me/{image.rpartition('/')[2]}")
    if problems:
        raise InvalidCall("image push", problems)
    if destination:
        engine.run("tag", image, destination)
    engine.run("push", target, timeout_s=_BUILD_S)
    return target
