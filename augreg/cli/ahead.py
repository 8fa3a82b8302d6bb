"""A little of everything that augreg does, on tiny images: who has done it has compiled every kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from augreg import metrics
from augreg.atlas import Atlas, JointFusion, fuse
from augreg.cli.output import say_warning
from augreg.dense import DenseRegistration
from augreg.geometry.grid import Grid
from augreg.geometry.image import Image, Labels
from augreg.geometry.resampling import sample, warp
from augreg.geometry.transforms import Affine, BSpline, DisplacementField
from augreg.lp import LPRegistration, superpixel_classes
from augreg.missing import MissingPackageError
from augreg.registration import Method

Job = Callable[[], object]


def all_jobs() -> list[tuple[str, Job]]:
    """What to do, and its name for those who watch; without torch all but what needs it, with a warning."""
    jobs = [*_registrations(2), *_registrations(3), *_warps(2), *_warps(3), ("atlases", _atlases)]
    try:
        return [*jobs, *_learning()]
    except MissingPackageError as error:
        say_warning(f"{error}; all other kernels are compiled")
        return jobs


def _scene(ndim: int, shift: float = 0.0) -> Image:
    """Blobs that a registration can hold on to."""
    shape = (48, 44, 12)[:ndim]
    x = np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij")
    values = np.zeros(shape)
    for number, center in enumerate(np.random.default_rng(0).uniform(0.2, 0.8, (5, ndim))):
        away = sum((x[a] - shift - c * shape[a]) ** 2 for a, c in enumerate(center))
        values += (100 + 30 * number) * np.exp(-away / 30)
    return Image(values.astype(np.float32), Grid(shape))


def _noise(image: Image) -> Image:
    return image.with_values(np.random.default_rng(1).normal(size=image.grid.shape).astype(np.float32))


def _parts(image: Image) -> Labels:
    return Labels(np.digitize(image.values.astype(np.float64), (40.0, 90.0)).astype(np.uint8), image.grid)


def _field(grid: Grid) -> BSpline:
    spline = BSpline.zeros(grid, 12.0)
    return BSpline(0.3 * np.cos(np.arange(spline.coefficients.size)).reshape(spline.coefficients.shape), spline.grid)


def _atlases() -> None:
    target = _scene(2)
    fuse(target, [Atlas(image, _parts(image)) for image in (target, _scene(2, 2.0), _scene(2, -2.0))], JointFusion())


def _registrations(ndim: int) -> Iterator[tuple[str, Job]]:
    fixed, moving = _scene(ndim), _scene(ndim, 1.5)
    labels = {"fixed_labels": _parts(fixed), "moving_labels": _parts(moving)}
    masks = {"fixed_mask": _parts(fixed), "moving_mask": _parts(moving)}
    methods: list[tuple[str, Method, dict[str, Labels]]] = [
        ("affine", LPRegistration(transform="affine"), {}),
        ("bspline", LPRegistration(transform="bspline"), masks),
        ("rigid, differences", LPRegistration(transform="rigid", criterion="ssd"), {}),
        ("mutual information", LPRegistration(transform="affine", criterion="mi"), {}),
        ("labels", LPRegistration(transform="affine", criterion="labels"), labels),
        ("boundaries", LPRegistration(transform="affine"), labels),
        # whatever moves is below this guard
        ("dense", DenseRegistration(guard=0.95), {}),
    ]
    for what, method, known in methods:
        yield f"{ndim}-D registration: {what}", partial(method, fixed, moving, **known)  # type: ignore[arg-type]
    colour = [Image(np.stack([image.values] * 3, axis=-1).astype(np.uint8), image.grid) for image in (fixed, moving)]
    yield f"{ndim}-D registration: colour", lambda: LPRegistration(transform="affine")(*colour)
    # patches are asked where images hardly agree
    yield f"{ndim}-D registration: unlike images", partial(LPRegistration(transform="affine"), fixed, _noise(fixed))
    if ndim == 2:
        yield "superpixels", lambda: superpixel_classes(fixed)


def _warps(ndim: int) -> Iterator[tuple[str, Job]]:
    image = _scene(ndim)
    grid, spline = image.grid, _field(image.grid)
    field = DisplacementField(spline.displacement(grid), grid)
    turned = Grid(grid.shape, grid.spacing, grid.origin, np.eye(ndim)[::-1])
    for transform in (Affine(1.1 * np.eye(ndim)), spline, field):
        for dtype in (np.float32, np.float64):
            for way in ("linear", "cubic"):
                typed = image.with_values(image.values.astype(dtype))
                yield f"{ndim}-D warp", partial(warp, typed, transform, grid, interpolation=way)
        for kind in (np.uint8, np.uint16, np.uint32, np.uint64):
            labels = Labels(image.values.astype(kind), grid)
            yield f"{ndim}-D warp of labels", partial(warp, labels, transform, grid)
        yield f"{ndim}-D folding", partial(metrics.folding, transform, grid)
        yield f"{ndim}-D inverse", partial(transform.inverse, grid)
        yield f"{ndim}-D points", partial(transform.displacement, turned)
    # of the others it is proven that they do not fold
    yield f"{ndim}-D folding", partial(metrics.folding, DisplacementField(50 * field.values, grid), grid)
    for way in ("linear", "cubic", "nearest"):
        yield f"{ndim}-D points", partial(sample, image, grid.points()[:9], interpolation=way)  # type: ignore[arg-type]


def _learning() -> Iterator[tuple[str, Job]]:
    """Models and pairs, in 2-D and 3-D, from contours and from registrations."""
    from augreg import sam  # torch comes with pairs
    from augreg.synthesis import AppearancePairs, RandomDeformations, SmoothField, make_pairs

    # a scale that is given need not be searched for
    simple = sam.Locality(levels=1, scale=1.0)
    for ndim in (2, 3):
        images = [_scene(ndim, 0.8 * number) for number in range(3)]
        registered = {"registration": LPRegistration(transform="affine"), "rounds": 1}
        ways: list[tuple[str, dict[str, object]]] = [
            ("displacements", {"dense": sam.DisplacementMaps(), **registered}),
            ("velocities", {"dense": sam.VelocityMaps(), **registered}),
        ]
        if ndim == 2:
            ways.append(("contours", {"labels": [_parts(image) for image in images], "points": 40}))
        rest = (SmoothField(12.0, (0.2,)),)
        for what, how in ways:

            def pairs(images: list[Image] = images, how: dict[str, object] = how, rest: tuple[SmoothField, ...] = rest) -> None:
                model = sam.fit_appearance_model(images, locality=simple, rank=4, **how)  # type: ignore[arg-type]
                make_pairs(AppearancePairs(model, appearance=0.5, rest=rest), 0, range(1))

            yield f"{ndim}-D pairs: {what}", pairs
        yield f"{ndim}-D pairs: deformations", partial(make_pairs, RandomDeformations.of(images[:1]), 0, range(1))
