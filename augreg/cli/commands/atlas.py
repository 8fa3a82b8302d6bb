"""`augreg atlas`: banks of templates, and segmentation by several atlases."""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import augreg as ar
from augreg.atlas import (
    Atlas,
    BankState,
    Fusion,
    JointFusion,
    LocalWeights,
    Majority,
    Staple,
    TemplateBank,
    building,
    digests,
    fuse,
    representatives,
)
from augreg.atlas.folder import Folder
from augreg.cli.arguments import positive
from augreg.cli.methods import PRESETS, registration_of
from augreg.cli.options import Commands, command_of, json_option, method_options, work_options
from augreg.cli.output import all_or_none, check_distinct, check_image, report, say_warning
from augreg.progress import bar
from augreg.tasks import file_names

if TYPE_CHECKING:
    from augreg.registration import Method
from augreg.registration.scenes import check_contrast

_FUSIONS: dict[str, type[Fusion]] = {"majority": Majority, "local": LocalWeights, "joint": JointFusion, "staple": Staple}
_PRESET = "people"
# power of a structure's size, see `augreg.atlas.overlap`
_OVERLAP = 0.5
# templates of a bank, and of a segmentation, where nothing is said
_MOST, _COUNT = 10, 3
# bytes of a bank on disk up to which it is kept in memory
_SMALL = 1 << 28


def add(commands: Commands) -> None:
    """The parsers."""
    parser = commands.add_parser("atlas", help="segment images by those that were segmented before")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    made = command_of(
        actions,
        "build",
        build,
        "register every atlas to some templates, once; running it again resumes, and adds atlases",
        "augreg atlas build images/*.nii.gz --labels labels/*.nii.gz -o bank --templates 5",
    )
    made.add_argument("images", nargs="+", metavar="IMAGES", help="of the atlases; all of them, also those of an earlier run")
    made.add_argument("--labels", nargs="+", required=True, metavar="L", help="a label map for every image, in their order")
    made.add_argument("-o", "--output", required=True, metavar="BANK", help="folder of the bank")
    which = made.add_mutually_exclusive_group()
    which.add_argument(
        "--templates",
        type=positive(int),
        metavar="K",
        help=f"the K images that stand for all, as templates (default all, at most {_MOST}); a bank that is there keeps its own",
    )
    which.add_argument("--template-images", nargs="+", metavar="T", help="other images as templates; they need no labels")
    method_options(made, PRESETS, _PRESET)
    work_options(made)
    json_option(made)
    used = command_of(
        actions,
        "segment",
        segment,
        "label maps of new images, from all atlases of a bank",
        "augreg atlas segment new.nii.gz -b bank -o labels.nii.gz",
    )
    used.add_argument("images", nargs="+", metavar="IMAGE", help="image, or folder with a DICOM series")
    used.add_argument("-b", "--bank", required=True, metavar="BANK", help="of `augreg atlas build`")
    used.add_argument("-o", "--output", required=True, metavar="OUT", help="label map, for several images a folder of these")
    used.add_argument(
        "--templates",
        type=positive(int),
        metavar="N",
        help=f"so many registrations: the templates most like it (default {_COUNT}), with --direct the atlases",
    )
    used.add_argument(
        "--direct", action="store_true", help="register every atlas to the image, or N with --templates: slow, and most accurate"
    )
    used.add_argument("--fusion", choices=tuple(_FUSIONS), default="joint", help="of the propagated maps (default joint)")
    used.add_argument(
        "--overlap",
        action="store_true",
        help="of joint fusion the labels of greatest expected overlap: for many small structures, not for few large ones",
    )
    used.add_argument("--agreement", action="store_true", help="also write the support of each label: OUT_agreement")
    json_option(used)


def build(options: argparse.Namespace) -> None:
    """`augreg atlas build`."""
    begin = time.perf_counter()
    registration = registration_of(options.preset, options.model, _PRESET)
    if len(options.labels) != len(options.images):
        raise ValueError(
            f"--labels: expected a label map for each of the {len(options.images)} images, got {len(options.labels)}; "
            "atlases need labels"
        )
    folder = Path(options.output)
    if not folder.absolute().parent.is_dir():
        raise FileNotFoundError(f"{folder}: expected an existing folder to write to, got none at {folder.absolute().parent}")
    _check_atlases(options)
    count = min(options.templates or _MOST, len(options.images))
    if (options.templates or 1) > len(options.images):
        raise ValueError(f"--templates: expected at most the {len(options.images)} images, got {options.templates}")
    chosen = options.template_images or [options.images[i] for i in _chosen(options.images, count, registration, folder)]
    model = options.model and (str(Path(options.model).absolute()) if Path(options.model).exists() else options.model)
    about = {"preset": options.preset, "model": model}
    where = {"workers": options.workers, "scheduler": options.scheduler, "about": about}
    state = BankState(0, 0)
    with bar("atlas build", 1.0) as update:
        for state in building(map(ar.read_image, chosen), _atlases(options), registration, folder, **where):
            update(state.done / max(state.total, 1), f"{state.done} of {state.total}")
    for warning in state.warnings:
        say_warning(warning)
    bank = TemplateBank.read(folder, registration)
    result = {
        "templates": bank.routes.templates,
        "template_images": list(chosen),
        "atlases": bank.routes.atlases,
        "registrations": state.total,
        "kept": state.kept,
        "repaired": state.repaired,
        "bytes": _size(folder),
        "seconds": time.perf_counter() - begin,
        "warnings": list(state.warnings),
    }
    text = "{templates} templates, {atlases} atlases, {registrations} registrations ({kept} were there), {seconds:.1f} s"
    report(result, f"{options.output}: " + text.format(**result), as_json=options.json)


def segment(options: argparse.Namespace) -> None:
    """`augreg atlas segment`."""
    begin = time.perf_counter()
    if options.overlap and options.fusion != "joint":
        raise ValueError(f"--overlap: expected --fusion joint, which it belongs to, got {options.fusion}; leave one of them out")
    outputs = _outputs(options)
    bank = TemplateBank.read(options.bank, _registration_of(options.bank))
    for path in options.images if len(options.images) > 1 else ():
        bank.check(ar.read_image(path), path)
    if len(options.images) > 1 and _size(Path(options.bank)) < _SMALL:
        bank = bank.held()
    bank = TemplateBank.direct(bank) if options.direct else bank
    if len(options.images) > 1:
        Path(options.output).mkdir(exist_ok=True)
    done = []
    with bar("atlas segment", len(options.images)) as update:
        for i, (path, (labels, agreement)) in enumerate(zip(options.images, outputs, strict=True)):
            one = _segmented(options, bank, path, labels, agreement, lambda share, i=i: update(i + share, options.images[i]))
            done.append(one)
    if len(outputs) > 1:
        text = "\n".join(f"{one['labels']}: {one['seconds']:.2f} s, agreement {one['mean_agreement']:.2f}" for one in done)
    else:
        text = "{labels}: {registrations} registrations, agreement {mean_agreement:.2f}, {seconds:.2f} s".format(**done[0])
    report({"images": done, "seconds": time.perf_counter() - begin, "warnings": []}, text, as_json=options.json)


def _chosen(images: Sequence[str], count: int, registration: Method, folder: Path) -> Sequence[int]:
    """The images that become templates: those of a bank that is there, so that more atlases cost no other registrations."""
    if count == len(images):
        return range(count)
    kept = Folder(folder)
    known = kept.manifest().templates if kept.there() else ()
    if len(known) == count:
        given = [digests.of_image(ar.read_image(path)) for path in images]
        if set(known) <= set(given):
            return [given.index(digest) for digest in known]
    return representatives(map(ar.read_image, images), count, registration)


def _segmented(
    options: argparse.Namespace, bank: TemplateBank, path: str, labels: str, agreement: str | None, update: Any
) -> dict[str, Any]:
    """Segment one image and write it; what is said of it."""
    begin = time.perf_counter()
    image = ar.read_image(path)
    bank.check(image, path)
    chosen = bank.choose(image, options.templates or (None if options.direct else _COUNT))
    maps: list[Atlas] = []
    for k, choice in enumerate(chosen):
        state = bank.online(image, choice)
        for warning in state.warnings:
            say_warning(f"{path}, template {choice.template}: {warning}")
        maps += bank.carried(choice, state.transform, image.grid)
        update((k + 1) / (len(chosen) + 1))
    found = fuse(image, maps, JointFusion(overlap=_OVERLAP) if options.overlap else _FUSIONS[options.fusion]())
    with all_or_none(labels, agreement) as [first, *others]:
        ar.write_image(found.labels, first)
        if agreement is not None:
            ar.write_image(found.agreement, others[0])
    shown = found.labels.values != 0
    return {
        "image": path,
        "labels": labels,
        "agreement": agreement,
        "mean_agreement": float(found.agreement.values[shown].mean()) if shown.any() else float("nan"),
        "templates": [choice.template for choice in chosen],
        "likeness": [choice.likeness for choice in chosen],
        "registrations": len(chosen),
        "maps": len(maps),
        "seconds": time.perf_counter() - begin,
    }


def _registration_of(bank: str) -> Method:
    """What a bank was built with."""
    manifest = Folder(Path(bank)).manifest()
    registration = registration_of(manifest.about.get("preset"), manifest.about.get("model"), _PRESET)
    if digests.of_registration(registration) != manifest.registration:
        raise ValueError(
            f"{bank}: expected the registration that the bank was built with, got one of other options or weights; build it again"
        )
    return registration


def _outputs(options: argparse.Namespace) -> list[tuple[str, str | None]]:
    """Label map and map of agreement of every image, checked."""
    target = Path(options.output)
    if len(options.images) > 1:
        if target.exists() and not target.is_dir():
            raise ValueError(f"{target}: expected a folder for {len(options.images)} images, got a file; choose another name")
        if target.name.lower().endswith(ar.io.IMAGE_SUFFIXES) and not target.exists():
            raise ValueError(
                f"{target}: expected a folder for {len(options.images)} images, got the name of an image; leave the ending out"
            )
        if not target.absolute().parent.is_dir():
            raise FileNotFoundError(f"{target}: expected an existing folder to write to, got none at {target.absolute().parent}")
        labels = [str(target / f"{name}.nii.gz") for name in file_names(options.images)]
    else:
        check_image(options.output)
        labels = [options.output]
    agreement = [_beside(path) if options.agreement else None for path in labels]
    inputs = {f"IMAGE {i}": path for i, path in enumerate(options.images)}
    check_distinct({path: path for path in filter(None, (*labels, *agreement))}, inputs)
    return list(zip(labels, agreement, strict=True))


def _beside(path: str) -> str:
    suffix = next(s for s in sorted(ar.io.IMAGE_SUFFIXES, key=len, reverse=True) if path.lower().endswith(s))
    return f"{path[: -len(suffix)]}_agreement{path[-len(suffix) :]}"


def _atlases(options: argparse.Namespace) -> Iterator[Atlas]:
    """One after the other."""
    for image, labels in zip(options.images, options.labels, strict=True):
        values = ar.read_image(image), ar.read_labels(labels)
        try:
            yield Atlas(*values)
        except ValueError as error:
            raise ValueError(f"{labels}: {error}") from error


def _check_atlases(options: argparse.Namespace) -> None:
    """Read all once, before anything is written."""
    known = None
    others = map(ar.read_image, options.template_images or ())
    names = [*options.images, *(options.template_images or ())]
    for name, image in zip(names, itertools.chain((atlas.image for atlas in _atlases(options)), others), strict=True):
        known = known or image.ndim
        if image.ndim != known:
            raise ValueError(f"{name}: expected a {known}-D image, as {names[0]}, got a {image.ndim}-D one")
        check_contrast(name, image)


def _size(folder: Path) -> int:
    return sum(os.path.getsize(path) for path in folder.rglob("*") if path.is_file())
