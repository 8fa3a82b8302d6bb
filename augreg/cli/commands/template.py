"""`augreg template`: the mean shape and appearance of some images."""

from __future__ import annotations

import argparse
import time

import augreg as ar
from augreg.atlas import Template, template_rounds
from augreg.cli.arguments import not_negative, positive
from augreg.cli.methods import PRESETS, kind_or_preset
from augreg.cli.options import Commands, command_of, json_option, kind_option, method_options, work_options
from augreg.cli.output import all_or_none, check_distinct, check_image, report, say_warning
from augreg.progress import bar
from augreg.registration.scenes import check_contrast
from augreg.tasks import place

# people differ; for the visits of one person there is --transform rigid
_PRESET = "people"
_ROUNDS = 3
_GEOMETRY = (".nii", ".nii.gz", ".mha", ".nrrd")


def add(commands: Commands) -> None:
    """The parser."""
    parser = command_of(
        commands,
        "template",
        run,
        "the mean of some images, in shape and in appearance; none of them is preferred",
        "augreg template people/*.nii.gz -o template.nii.gz\n"
        "  augreg template visit1.nii.gz visit2.nii.gz visit3.nii.gz -o person.nii.gz --transform rigid",
    )
    parser.add_argument("images", nargs="+", metavar="IMAGES", help="two or more, on any grids; or folders with DICOM series")
    parser.add_argument("-o", "--output", required=True, metavar="TEMPLATE", help=f"image: {' '.join(_GEOMETRY)}")
    parser.add_argument(
        "--labels", nargs="+", metavar="L", help="a label map for every image: their majority goes to TEMPLATE_labels"
    )
    parser.add_argument(
        "--rounds", type=positive(int), default=_ROUNDS, metavar="R", help=f"of registrations of all images (default {_ROUNDS})"
    )
    parser.add_argument(
        "--sharpening",
        type=not_negative,
        default=1.0,
        metavar="S",
        help="of the mean: T + S (T - smooth T) (default 1; 0: as it is)",
    )
    method_options(parser, PRESETS, _PRESET)
    kind_option(parser)
    work_options(parser)
    json_option(parser)


def run(options: argparse.Namespace) -> None:
    """`augreg template`."""
    begin = time.perf_counter()
    method = kind_or_preset(options, _PRESET)
    labels_path = _check(options)
    images = [ar.read_image(path) for path in options.images]
    for path, image in zip(options.images, images, strict=True):
        check_contrast(path, image)
    maps = [ar.read_labels(path) for path in options.labels or ()]
    for path, one, image in zip(options.labels or (), maps, images, strict=False):
        if not one.grid.matches(image.grid):
            raise ValueError(f"{path}: expected labels on the grid of their image, {image.grid.shape}, got {one.grid.shape}")
    found: Template | None = None
    with bar("template", options.rounds) as update, place(options.workers, options.scheduler) as at:
        for found in template_rounds(images, method, options.rounds, sharpening=options.sharpening, at=at):
            update(found.round, f"moved by {found.shift:.2f} mm")
    assert found is not None
    for warning in found.doubts:
        say_warning(_named(warning, options.images))
    fused = found.fused(maps).labels if maps else None
    with all_or_none(options.output, labels_path) as [first, *others]:
        ar.write_image(found.image, first)
        if fused is not None:
            ar.write_image(fused, others[0])
    result = {
        "template": options.output,
        "labels": labels_path,
        "images": len(images),
        "rounds": found.round,
        "shift": found.shift,
        "seconds": time.perf_counter() - begin,
        "warnings": [_named(warning, options.images) for warning in found.doubts],
    }
    text = "{template}: mean of {images} images after {rounds} rounds, the last moved it by {shift:.2f} mm; {seconds:.1f} s"
    report(result, text.format(**result), as_json=options.json)


def _check(options: argparse.Namespace) -> str | None:
    """The path of the fused labels; what can be known to be wrong is told before the work."""
    check_image(options.output)
    suffix = next((end for end in sorted(_GEOMETRY, key=len, reverse=True) if options.output.lower().endswith(end)), None)
    if suffix is None:
        raise ValueError(f"-o: expected {' '.join(_GEOMETRY)}, which hold means and their place, got {options.output}")
    if len(options.images) < 2:
        raise ValueError("IMAGES: expected two or more, got one; a template is a mean")
    labels_path = None
    if options.labels is not None:
        if len(options.labels) != len(options.images):
            raise ValueError(
                f"--labels: expected a label map for each of the {len(options.images)} images, got {len(options.labels)}"
            )
        labels_path = options.output[: -len(suffix)] + "_labels" + options.output[-len(suffix) :]
    inputs = {path: path for path in (*options.images, *(options.labels or ()))}
    check_distinct({"-o": options.output, "--labels": labels_path}, inputs)
    return labels_path


def _named(warning: str, images: list[str]) -> str:
    """A warning of "image 3" with its path."""
    who, _, text = warning.partition(": ")
    return f"{images[int(who.split()[-1]) - 1]}: {text}"
