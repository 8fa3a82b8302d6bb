"""`augreg sam`: statistical appearance models fitted, evaluated and shown."""

from __future__ import annotations

import argparse
import re
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import augreg as ar
from augreg.cli.arguments import positive, seed
from augreg.cli.options import Commands, command_of, json_option
from augreg.cli.output import PAGES, check_output, report, say
from augreg.progress import bar

if TYPE_CHECKING:
    import numpy.typing as npt


def add(commands: Commands) -> None:
    """The parsers."""
    parser = commands.add_parser("sam", help="fit, evaluate and show statistical appearance models")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    fitting = command_of(
        actions,
        "fit",
        fit,
        "fit a model; without --labels or --landmarks every image is registered to a template",
        "augreg sam fit images/*.nii.gz -o model.npz --labels labels/*.nii.gz",
    )
    fitting.add_argument("images", nargs="+", metavar="IMAGES", help="at least 3, of one shape and spacing")
    fitting.add_argument("-o", "--output", metavar="MODEL.npz", required=True, help="file to write")
    _correspondence_options(fitting)
    fitting.add_argument("--template", metavar="IMAGE", help="registered to all others (default the most typical one)")
    fitting.add_argument("--levels", type=positive(int), default=5, help="locality levels, 1 is plain PCA (default 5)")
    tapers = ("gaussian", "wendland", "threshold")
    fitting.add_argument("--taper", choices=tapers, default="gaussian", help="of correlations (default gaussian)")
    fitting.add_argument("--scale", type=positive(float), metavar="S", help="of the localities (default: chosen from the shapes)")
    fitting.add_argument("--dense", choices=("displacement", "velocity"), help="shapes are fields, not landmarks")
    fitting.add_argument("--register", action="store_true", help="register every image to a template although there are labels")
    fitting.add_argument("--rounds", type=positive(int), default=2, help="registrations, to ever better templates (default 2)")
    json_option(fitting)
    evaluating = command_of(
        actions,
        "evaluate",
        evaluate,
        "generalisation, specificity and compactness on images the model has not seen",
        "augreg sam evaluate model.npz images/*.nii.gz --labels labels/*.nii.gz --json",
    )
    evaluating.add_argument("model", metavar="MODEL.npz", help="of `augreg sam fit`")
    evaluating.add_argument("images", nargs="+", metavar="IMAGES", help="that the model was not fitted to")
    _correspondence_options(evaluating)
    evaluating.add_argument("--samples", type=positive(int), default=200, help="drawn for specificity (default 200)")
    evaluating.add_argument("--seed", type=seed, default=0, metavar="S", help="of the samples (default 0)")
    json_option(evaluating)
    showing = command_of(
        actions,
        "show",
        show,
        "a page with live modes of variation, locality maps, curves and samples",
        "augreg sam show model.npz -o model.html",
    )
    showing.add_argument("model", metavar="MODEL.npz", help="of `augreg sam fit`")
    showing.add_argument(
        "--images", nargs="+", metavar="I", help="unseen ones: adds generalisation, specificity, and real beside invented images"
    )
    _correspondence_options(showing)
    showing.add_argument("-o", "--output", metavar="PAGE.html", required=True, help="page to write")


def _correspondence_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--labels", nargs="+", metavar="L", help="a label map or closed mesh for every image, in their order")
    group.add_argument("--landmarks", nargs="+", metavar="CSV", help="landmarks or a mesh for every image, in their order")
    parser.add_argument("--mesh-space", choices=("lps", "ras"), help="coordinates of meshes that do not say")


def fit(options: argparse.Namespace) -> None:
    """`augreg sam fit`."""
    check_output(options.output, (".npz",))
    begin = time.perf_counter()
    images = _images(options.images)
    given = _correspondences(options, images)
    if not given or options.register:
        given["registration"] = ar.LPRegistration(transform="bspline")
    template = ar.read_image(options.template) if options.template else None
    locality = ar.sam.Locality(levels=options.levels, taper=ar.sam.TAPERS[options.taper], scale=options.scale)
    dense = {None: None, "displacement": ar.sam.DisplacementMaps(), "velocity": ar.sam.VelocityMaps()}[options.dense]
    with bar("register to a template, fit" if "registration" in given else "fit", None), _files_named(options) as doubts:
        model = ar.sam.fit_appearance_model(
            images, template=template, locality=locality, dense=dense, rounds=options.rounds, **given
        )
    ar.sam.write_model(model, options.output)
    for doubt in doubts:
        say(f"augreg: warning: {doubt}")
    if "registration" in given:
        # not before: an error is the only line on stderr
        say("augreg: every image was registered to a template")
    result = {
        "images": len(images),
        "landmarks": len(model.landmarks),
        "scale": model.locality.scale,
        "structures": _structures(model),
        "dropped": _dropped(model, given.get("labels"), options.labels),
        "shape_modes": len(model.shape.variance),
        "appearance_modes": len(model.appearance.variance),
        "seconds": time.perf_counter() - begin,
        "warnings": doubts,
    }
    text = "{images} images, {landmarks} landmarks, {shape_modes} shape and {appearance_modes} appearance modes, {seconds:.1f} s"
    report(result, f"{options.output}: " + text.format(**result), as_json=options.json)


def evaluate(options: argparse.Namespace) -> None:
    """`augreg sam evaluate`."""
    from dataclasses import asdict

    import numpy as np

    model, images = ar.sam.read_model(options.model), _images(options.images)
    given = _correspondences(options, images)
    with bar("evaluate", None):
        landmarks = _landmarks(model, images, given)
        measures = ar.sam.evaluate(model, images, landmarks, np.random.default_rng(options.seed), options.samples)
        curves = ar.sam.rank_curve(model, images, landmarks, np.random.default_rng(options.seed), samples=options.samples)
    parts = ("shape", "appearance")
    result: dict[str, Any] = {
        name: {part: asdict(getattr(measures, f"{part}_{name}")) for part in parts} for name in ("generalisation", "specificity")
    }
    result["compactness"] = {part: getattr(measures, f"{part}_compactness") for part in parts}
    result |= {"curves": asdict(curves), "images": measures.images, "samples": measures.samples}
    lines = [f"{len(images)} images, {measures.samples} samples (shape: mm, appearance: intensity)"]
    for name in ("generalisation", "specificity"):
        for part, measure in result[name].items():
            lines.append(f"{name} {part}: {measure['mean']:.4g} +- {measure['error']:.2g}")
    for part, shares in result["compactness"].items():
        lines.append(f"compactness {part}: {int(np.searchsorted(shares, 0.95)) + 1} of {len(shares)} modes hold 95 %")
    report(result, "\n".join(lines), as_json=options.json)


def show(options: argparse.Namespace) -> None:
    """`augreg sam show`."""
    import numpy as np

    check_output(options.output, PAGES)
    images = _images(options.images or [])
    given = _correspondences(options, images)
    model = ar.sam.read_model(options.model)
    from augreg.report import beside_sections, evaluation_diagrams, model_page

    diagrams, beside = [], []
    if images:
        with bar("evaluate", None):
            landmarks = _landmarks(model, images, given)
            diagrams = evaluation_diagrams(model, images, landmarks, np.random.default_rng(0))
            beside = beside_sections(model, images, landmarks, np.random.default_rng(0))
    with ar.io.atomic(options.output) as temporary:
        temporary.write_text(model_page(model, diagrams, beside=beside), encoding="utf-8")
    say(f"{options.output}: a page for browsers, which needs nothing else")


@contextmanager
def _files_named(options: argparse.Namespace) -> Iterator[list[str]]:
    """Warnings of the block, for later; in them and in errors a file's name stands behind `labels[4]`."""
    told: list[str] = []

    def with_file(name: str, paths: Sequence[str], number: int) -> str:
        return f"{name} ({paths[number]})" if number < len(paths) else name

    def named(text: str) -> str:
        files = {name: getattr(options, name) or [] for name in ("images", "labels", "landmarks")}
        return re.sub(r"\b(images|labels|landmarks)\[(\d+)\]", lambda m: with_file(m[0], files[m[1]], int(m[2])), text)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield told
        except ValueError as error:
            raise ValueError(named(str(error))) from error
    told += dict.fromkeys(named(str(warning.message)) for warning in caught)


def _structures(model: ar.sam.AppearanceModel) -> list[int]:
    """Labels whose structures give the landmarks, or where others do, those that the model carries."""
    import numpy as np

    if model.contours is not None:
        return list(model.contours.structures)
    return [] if model.label_maps is None else [label for label in np.unique(model.label_maps).tolist() if label]


def _dropped(
    model: ar.sam.AppearanceModel, labels: Sequence[ar.Labels] | None, files: Sequence[str] | None
) -> dict[int, list[str]]:
    """Structures without landmarks, and the label maps that lack them."""
    if model.contours is None or labels is None or files is None:
        return {}
    return {label: [files[i] for i in lacking] for label, lacking in ar.sam.dropped(labels).items()}


def _images(paths: Sequence[str]) -> list[ar.Image]:
    return [ar.read_image(path) for path in paths]


def _landmarks(model: ar.sam.AppearanceModel, images: Sequence[ar.Image], given: dict[str, Any]) -> Sequence[npt.ArrayLike]:
    """Of the model, in other images: as given, from label maps, or by registration."""
    if "landmarks" in given:
        return given["landmarks"]
    if not given:
        given = {"registration": ar.LPRegistration(transform="bspline")}
    return ar.sam.find_landmarks(model, images, **given)


def _correspondences(options: argparse.Namespace, images: Sequence[ar.Image]) -> dict[str, Any]:
    for name in ("labels", "landmarks"):
        paths = getattr(options, name)
        if paths is not None:
            if len(paths) != len(images):
                raise ValueError(f"--{name}: expected one file for each of the {len(images)} images, got {len(paths)}")
            return {name: [_shape(name, path, image, options.mesh_space) for path, image in zip(paths, images, strict=True)]}
    return {}


def _shape(name: str, path: str, image: ar.Image, space: str | None) -> Any:
    """Labels or landmarks of a file; of a mesh what it encloses, or its vertices."""
    if ar.io.is_mesh(path):
        mesh = ar.io.read_mesh(path, space=space)
        return ar.io.filled(mesh, image.grid, path) if name == "labels" else mesh.points
    return ar.read_labels(path) if name == "labels" else ar.read_points(path)
