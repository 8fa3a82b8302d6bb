import json
from dataclasses import replace

import numpy as np
import pytest
from support.subjects import grid, model, people
from threadpoolctl import threadpool_limits

from augreg import Affine, Grid, Image, Labels, dice, fit_appearance_model, read_model, write_model
from augreg.datasets import hearts
from augreg.geometry.resampling import sample, warp
from augreg.geometry.splines import control_grid, least_determinant, lift
from augreg.geometry.transforms import BSpline
from augreg.io import write_arrays
from augreg.sam import DisplacementMaps, Locality, Threshold, evaluate, find_landmarks
from augreg.sam.alignment import align, pose_transform, procrustes
from augreg.sam.correspondences import most_typical
from augreg.sam.selection import SCALES
from augreg.sam.textures import mirrored_points
from augreg.sam.training_splines import training_splines, training_transforms

KINDS = ["labels", "landmarks", "landmarks3d"]


@pytest.mark.parametrize("ndim", [2, 3])
def test_thin_plate_splines_interpolate_and_are_linear(ndim):
    g = grid(ndim)
    rng = np.random.default_rng(3)
    centers = g.points_at(rng.uniform(0.2, 0.8, (25, ndim)) * (np.asarray(g.shape) - 1))
    wanted = 1 + np.sin(0.15 * (centers - g.center))[None]
    control = control_grid(g)
    coefficients = lift(wanted, centers, g, control, np.zeros(25))
    psi = BSpline(coefficients[0], control)
    # the control grid of volumes is coarse
    assert np.abs(psi(centers) - centers - wanted[0]).max() < {2: 0.05, 3: 0.15}[ndim]
    smooth = BSpline(lift(wanted, centers, g, control, np.full(25, 1e4))[0], control)
    assert np.abs(smooth(centers) - centers - wanted[0]).max() > np.abs(psi(centers) - centers - wanted[0]).max()
    # linear in the displacements
    double = lift(2 * wanted, centers, g, control, np.zeros(25))
    assert np.allclose(double, 2 * coefficients)


@pytest.mark.parametrize("ndim", [2, 3])
def test_least_determinants_are_those_of_the_transform(ndim):
    g = grid(ndim)
    control = control_grid(g)
    coefficients = np.zeros((2, *control.shape, ndim))
    inner = (slice(None), *(slice(3, -3),) * ndim)
    coefficients[inner] = np.random.default_rng(0).normal(0, 0.4, coefficients[inner].shape)
    found = least_determinant(coefficients, control)
    axes = [np.linspace(1, n - 2, 2 * (n - 3) + 1) for n in control.shape]
    points = control.points_at(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))
    for least, c in zip(found, coefficients, strict=True):
        assert least == pytest.approx(np.linalg.det(BSpline(c, control).jacobian(points)).min(), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_models_explain_their_training_images(kind):
    images, labels, landmarks = people(3 if kind.endswith("3d") else 2)
    m = model(kind)
    points = m.contours.corresponding(labels)[0] if m.contours else landmarks[0]
    found = m.coefficients(images[0], points)
    assert np.abs(found.shape).max() < 4
    again = m.project(images[0], points)
    inside = images[0].values > 40
    gain = (again.values[inside] @ images[0].values[inside]) / (again.values[inside] @ again.values[inside])
    assert np.abs(gain * again.values - images[0].values)[inside].mean() < 6
    assert np.abs(m.mean.values * gain - images[0].values)[inside].mean() > 9


@pytest.mark.parametrize("kind", KINDS)
def test_training_maps_do_not_fold(kind):
    _, labels, landmarks = people(3 if kind.endswith("3d") else 2)
    m = model(kind)
    points = m.contours.corresponding(labels) if m.contours else np.stack(landmarks)
    shapes = procrustes(points, m.alignment)
    smoothing, coefficients = training_splines(shapes, m.template)
    assert np.array_equal(smoothing, m.maps.smoothing)
    for psi, x in zip(training_transforms(coefficients, m.maps.motion, m.control, m.poses, m.center), points, strict=True):
        assert np.linalg.det(psi.jacobian(m.template.points())).min() > 0
        assert np.linalg.norm(psi(m.landmarks) - x, axis=-1).mean() < 1.0


@pytest.mark.parametrize("kind", ["displacement", "velocity", "velocity3d"])
def test_dense_models_know_the_same_maps_as_landmarks_do(kind):
    ndim = 3 if kind.endswith("3d") else 2
    _, labels, landmarks = people(ndim)
    m = model(kind)
    assert m.landmarks.shape == (m.control.size, ndim)
    # training shapes are in the span of the modes: the maps pass through the landmarks of the training images
    shapes = procrustes(np.stack(landmarks), m.alignment)
    _, coefficients = training_splines(shapes, m.template)
    residuals = m.maps.displaced(shapes.points - shapes.mean, coefficients, m.control)
    for i, x in enumerate(landmarks):
        b = m.shape.coefficients(m.shape.mean + residuals[i].ravel())
        there = m.transform(b, m.poses[i])(shapes.mean)
        assert np.linalg.norm(there - x, axis=-1).mean() < 0.4 * np.linalg.norm(x - shapes.mean, axis=-1).mean()
    assert m.labels.shape == m.template.shape
    assert set(np.unique(m.labels)) == set(np.unique(labels[0].values))


def test_the_map_of_a_mode_moves_the_landmarks_along_it():
    m = model("landmarks")
    moved = m.shape.instance([1.5]).reshape(-1, 2)
    assert np.abs(m.transform([1.5])(m.landmarks) - moved).max() < 0.15
    with pytest.raises(ValueError, match="at most"):
        m.transform(np.zeros(m.shape.rank + 1))


def test_an_instance_is_the_appearance_seen_through_the_inverse():
    m = model()
    pose = np.array([2.0, -1.5, 0.2, 0.05])
    image = m.instance([1.0, -1.0], [1.0], pose)
    psi = m.transform([1.0, -1.0], pose)
    texture = m.instance((), [1.0])  # the same appearance in the mean shape
    inner = m.template.points()[10:-10, 10:-10]
    at = psi(inner)
    seen = sample(image, at, interpolation="cubic")
    valid = np.isfinite(seen)
    assert valid.mean() > 0.9
    assert np.abs(seen - texture.values[10:-10, 10:-10])[valid].mean() < 0.5


def test_label_maps_move_with_the_shape():
    m = model()
    _, labels, _ = people(2)
    assert set(np.unique(m.labels)) == {0, 1, 5}
    points = m.contours.landmarks(labels[2], m.landmarks)
    found = m.coefficients(people(2)[0][2], points)
    overlap = dice(m.label_map(found.shape, found.pose), labels[2])
    assert min(overlap.values()) > 0.93
    with pytest.raises(ValueError, match="no labels"):
        model("landmarks").label_map()


def test_mirrored_points_lie_inside_and_inner_points_stay():
    g = grid(2)
    rng = np.random.default_rng(0)
    inside = g.points_at(rng.uniform(0, 1, (50, 2)) * (np.asarray(g.shape) - 1))
    assert np.allclose(mirrored_points(inside, g), inside)
    outside = g.points_at([[-3.0, 5.0], [g.shape[0] + 1.0, g.shape[1] + 4.0]])
    assert np.allclose(g.indices_at(mirrored_points(outside, g)), [[3, 5], [g.shape[0] - 3, g.shape[1] - 6]])


def test_mosaics_blend_the_training_textures():
    m = model()
    q = m.mixing.columns
    rng = np.random.default_rng(0)
    assert np.allclose(m.mosaic(np.zeros((8, q))), m.textures.mean(axis=0), atol=1e-3)
    sharp = m.mosaic(60 * rng.standard_normal((8, q)))
    nearest = np.abs(sharp - m.textures).min(axis=0)
    assert np.median(nearest) < 0.05  # one training image at almost every place
    assert len(np.unique(np.abs(sharp - m.textures).argmin(axis=0))) > 2  # but not the same one


def test_exact_samples_vary_like_the_training_data_and_together(tmp_path):
    m = model("landmarks")
    write_model(m, tmp_path / "m.npz")
    again = read_model(tmp_path / "m.npz")
    shapes, textures = again.sampler.sample(np.random.default_rng(0), 400)
    spread = np.sqrt((m.residuals**2).sum(axis=0) / (len(m.residuals) - 1))
    assert np.abs(shapes.std(axis=0) / spread - 1).mean() < 0.1
    moved = m.textures.std(axis=0, ddof=1) > 5
    assert np.abs(textures.std(axis=0) / m.textures.std(axis=0, ddof=1) - 1)[moved].mean() < 0.1
    # where the training shapes and textures go together, so do the samples; drawn apart they would not
    j = int(np.argmax(m.textures.var(axis=0)))
    near = np.argsort(np.linalg.norm(m.landmarks - m.template.points().reshape(-1, 2)[j], axis=1))[:4]
    i = max(near, key=lambda k: abs(np.corrcoef(m.residuals[:, k, 0], m.textures[:, j])[0, 1]))
    joint = np.corrcoef(shapes[:, i, 0], textures[:, j])[0, 1]
    truth = np.corrcoef(m.residuals[:, i, 0], m.textures[:, j])[0, 1]
    assert np.sign(joint) == np.sign(truth)
    assert abs(joint) > 0.25 * abs(truth)
    with pytest.raises(ValueError, match="residuals"):
        _ = replace(m, residuals=None).sampler


def test_samples_have_the_training_spread():
    m = model()
    rng = np.random.default_rng(0)
    samples = np.stack([m.sample(rng).values for _ in range(30)])
    images = np.stack([image.values for image in people(2)[0]])
    assert 0.5 < samples.std(axis=0).mean() / images.std(axis=0).mean() < 1.5


def test_poses_scatter_about_the_identity_and_are_drawn_again():
    m = model()
    assert np.allclose(m.poses[:, :2].mean(axis=0), 0)
    assert m.poses[:, :2].std() > 0.5
    assert np.allclose(m.poses[:, 2:], 0)  # translation only


def test_truncated_models_have_fewer_modes():
    m = model().truncate(2, 3)
    assert (m.shape.rank, m.appearance.rank) == (2, 3)
    assert m.mode_splines.shape[0] == 2


@pytest.mark.parametrize("kind", KINDS)
def test_files_give_back_the_model(kind, tmp_path):
    m = model(kind)
    write_model(m, tmp_path / "m.npz")
    again = read_model(tmp_path / "m.npz")
    assert again.template == m.template
    assert again.locality == m.locality
    assert again.contours == m.contours
    for name in ("mean", "basis", "variance"):
        assert np.array_equal(getattr(again.shape, name), getattr(m.shape, name))
        assert np.array_equal(getattr(again.appearance, name), getattr(m.appearance, name))
    assert np.array_equal(again.instance([1.0], [1.0]).values, m.instance([1.0], [1.0]).values)
    assert again.appearance.basis.dtype == np.float32


def test_foreign_files_are_refused_in_one_line(tmp_path):
    (tmp_path / "text.npz").write_text("no model", encoding="utf-8")
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    (tmp_path / "cut.npz").write_bytes(b"")
    for name in ("text", "foreign", "cut"):
        with pytest.raises(ValueError, match=f"{name}.npz") as caught:
            read_model(tmp_path / f"{name}.npz")
        assert "\n" not in str(caught.value)
    write_arrays(tmp_path / "other.npz", {"a": np.zeros(2)}, {"kind": "something"})
    write_arrays(tmp_path / "later.npz", {}, {"kind": "appearance model", "format": 99})
    write_arrays(tmp_path / "partial.npz", {}, {"kind": "appearance model", "format": 2})
    for name in ("other", "later", "partial"):
        with pytest.raises(ValueError, match="appearance model"):
            read_model(tmp_path / f"{name}.npz")
    with pytest.raises(FileNotFoundError):
        read_model(tmp_path / "nothing.npz")


def test_evaluation_prefers_locality_on_unseen_people():
    images, labels, _ = people(2)
    unseen, unseen_labels, _ = people(2, count=5, seed=9)
    results = []
    for levels in (1, 4):
        m = fit_appearance_model(images, labels=labels, points=60, rank=40, locality=Locality(levels=levels, retained=0.99))
        points = find_landmarks(m, unseen, unseen_labels)
        results.append(evaluate(m, unseen, points, np.random.default_rng(0), samples=50))
    plain, local = results
    assert local.shape_generalisation.mean <= plain.shape_generalisation.mean
    assert local.appearance_generalisation.mean < plain.appearance_generalisation.mean
    assert local.shape_compactness[-1] == pytest.approx(1)
    assert np.all(np.diff(local.appearance_compactness) > 0)
    assert local.shape_specificity.error > 0
    with pytest.raises(ValueError, match="at least one image"):
        evaluate(m, [], [], np.random.default_rng(0))


def test_structures_that_an_image_lacks_are_expected_from_the_others():
    m = model()
    labels = people(2)[1][3]
    without = labels.with_values(np.where(labels.values == 5, 1, labels.values))
    full, expected = find_landmarks(m, [], [labels, without])
    _, seen = m.contours.within(without)
    assert 0 < seen.sum() < len(seen)
    assert np.array_equal(full[seen], expected[seen])
    error = np.linalg.norm(expected - full, axis=1)[~seen].mean()
    assert error < 0.6 * np.linalg.norm(m.landmarks - full, axis=1)[~seen].mean()
    with pytest.raises(ValueError, match=r"labels\[0\].*got none"):
        find_landmarks(m, [], [labels.with_values(np.zeros_like(labels.values))])


def test_registration_gives_correspondences():
    # a registration that knows the truth for shifted images: the model must find poses and nothing else
    images, _, _ = people(2)
    g = grid(2)
    rng = np.random.default_rng(5)
    shifts = rng.normal(0, 2, (5, 2))
    base = images[0]
    shifted = [warp(base, Affine(np.eye(2), -s), g, interpolation="cubic") for s in shifts]
    bright = [image.with_values(image.values * np.float32(1 + 0.02 * i)) for i, image in enumerate(shifted)]
    known = {id(image.values): s for image, s in zip(bright, shifts, strict=True)}

    def registration(fixed, moving):
        best = min(range(5), key=lambda i: np.abs(moving.values - bright[i].values).sum())
        first = min(range(5), key=lambda i: np.abs(fixed.values - bright[i].values).sum())
        noise = np.eye(2) + 1e-3 * rng.standard_normal((2, 2))
        return Affine.about(noise, g.center, shifts[best] - shifts[first])

    assert len(known) == 5
    m = fit_appearance_model(bright, registration=registration, locality=Locality(levels=1))
    assert np.allclose(m.poses[:, :2], shifts - shifts.mean(axis=0), atol=0.1)
    assert np.sqrt(m.shape.variance.sum() / len(m.landmarks)) < 0.1
    core = (slice(12, -12),) * 2
    assert m.textures.reshape(5, *g.shape)[:, *core].std(axis=0).mean() < 1.0


def test_the_most_typical_image_is_no_outlier():
    images, _, _ = people(2)
    odd = images[0].with_values(images[0].values[::-1].copy())
    assert most_typical([odd, *images[1:]]) is not odd


def bad_input():
    images, labels, landmarks = people(2)
    nan = images[1].with_values(np.where(np.arange(48) == 3, np.nan, images[1].values).astype(np.float32))
    other = Image(images[0].values, Grid(images[0].grid.shape))
    empty = Labels(np.zeros_like(labels[0].values), labels[0].grid)
    yield "at least 3", images[:2], {"labels": labels[:2]}
    yield "registration=LPRegistration", images, {}
    yield r"images\[2\].*spacing", [*images[:2], other], {"labels": labels[:3]}
    yield r"images\[1\].*finite", [images[0], nan, images[2]], {"labels": labels[:3]}
    yield "one per image", images, {"labels": labels[:3]}
    yield r"labels\[1\]", images[:3], {"labels": [labels[0], empty, labels[2]]}
    yield r"landmarks\[1\].*as many", images[:3], {"landmarks": [landmarks[0], landmarks[1][:-1], landmarks[2]]}
    yield r"landmarks\[2\].*finite", images[:3], {"landmarks": [landmarks[0], landmarks[1], landmarks[2] * np.nan]}
    yield "identical", [images[0]] * 3, {"landmarks": [landmarks[0]] * 3}
    yield "sets, one per image", images, {"landmarks": landmarks[:2]}
    yield r"labels\[0\].*grid", images[:3], {"labels": [Labels(labels[0].values, Grid(labels[0].grid.shape)), *labels[1:3]]}


@pytest.mark.parametrize(("message", "images", "given"), list(bad_input()))
def test_unusable_input_is_refused_in_one_line(message, images, given):
    with pytest.raises(ValueError, match=message) as caught:
        fit_appearance_model(images, **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_posteriors_expect_the_hidden_landmarks_from_the_others(kind):
    _, labels, landmarks = people(3 if kind.endswith("3d") else 2)
    m = model(kind)
    truth = (m.contours.corresponding(labels) if m.contours else np.stack(landmarks))[1]
    hidden = np.arange(len(truth)) % 3 == 0
    known = np.where(hidden[:, None], np.nan, truth)
    found = m.posterior(known, 0.3)
    assert np.linalg.norm(found.landmarks - truth, axis=1)[~hidden].mean() < 0.5
    # what the known ones say of the hidden ones beats the mean shape in its best pose, and leaves less to chance
    error = np.linalg.norm(found.landmarks - truth, axis=1)[hidden].mean()
    _, pose = align(truth, m.landmarks, m.alignment)
    assert error < 0.6 * np.linalg.norm(pose_transform(pose, m.center)(m.landmarks) - truth, axis=1)[hidden].mean()
    assert found.shape.variance.sum() < 0.5 * m.shape.variance.sum()
    # its shapes are shapes of the model, and its map leads to its landmarks
    drawn = found.shape.sample(np.random.default_rng(0), 5)
    assert np.allclose(m.shape.project(drawn), drawn, atol=1e-6)
    whole = m.posterior(truth, 1e-3)
    aligned, _ = align(truth, m.landmarks, m.alignment)
    assert np.allclose(whole.shape.mean, m.shape.project(aligned.ravel()), atol=0.02)


def test_posteriors_of_nothing_are_refused():
    m = model()
    with pytest.raises(ValueError, match="at least 1 known"):
        m.posterior(np.full_like(m.landmarks, np.nan), 1.0)
    turned = model("landmarks")
    with pytest.raises(ValueError, match="at least 2 known"):
        turned.posterior(np.where(np.arange(len(turned.landmarks))[:, None] == 3, turned.landmarks, np.nan), 1.0)
    with pytest.raises(ValueError, match="shape"):
        m.posterior(m.landmarks[:-1], 1.0)


def test_fitted_models_know_their_scale_and_part_their_objects():
    images, labels, landmarks = people(2)
    common = {"labels": labels, "points": 40, "rank": 20}
    free = fit_appearance_model(images, **common, locality=Locality(levels=3))
    assert free.locality.scale in SCALES
    fixed = fit_appearance_model(images, **common, locality=Locality(levels=3, scale=0.5))
    assert fixed.locality.scale == 0.5
    apart = fit_appearance_model(images, **common, locality=Locality(levels=3, scale=0.5, affinity=0.0))
    assert apart.shape.rank > fixed.shape.rank
    with pytest.raises(ValueError, match="affinity"):
        fit_appearance_model(images, landmarks=landmarks, locality=Locality(affinity=0.5))
    # textures have a Gaussian taper where landmarks have a threshold; nodes of a grid cannot have one
    threshold = Locality(levels=3, scale=0.5, taper=Threshold())
    assert fit_appearance_model(images, **common, locality=threshold).shape.rank > len(images)
    with pytest.raises(ValueError, match="landmarks alone"):
        fit_appearance_model(images, **common, locality=threshold, dense=DisplacementMaps())


def test_landmarks_of_other_models_are_refused():
    m = model("landmarks")
    image, points = people(2)[0][0], people(2)[2][0]
    with pytest.raises(ValueError, match="landmarks"):
        m.coefficients(image, points[:-1])
    with pytest.raises(ValueError, match="not fitted to label maps"):
        find_landmarks(m, [image], labels=people(2)[1][:1])
    with pytest.raises(ValueError, match="registration"):
        find_landmarks(m, [image])


def test_models_of_real_hearts_generalise_to_other_patients():
    data = hearts()
    images, labels = data.images[:16:2], data.labels[:16:2]
    m = fit_appearance_model(images, labels=labels, points=40, rank=20, locality=Locality(levels=2))
    unseen, unseen_labels = data.images[-6::2], data.labels[-6::2]
    result = evaluate(m, unseen, find_landmarks(m, unseen, unseen_labels), np.random.default_rng(0), samples=20)
    assert result.shape_generalisation.mean < 1.5  # pixels; the ventricle's radius is about 25
    assert json.dumps(result.shape_compactness.tolist())


def test_modes_have_the_same_bits_for_any_number_of_threads(tmp_path):
    """Shards are functions of these bits; a command has other threads of BLAS than a program with a limit."""
    write_model(model(), tmp_path / "model.npz")
    found = []
    for threads in (1, 2, 4):
        with threadpool_limits(limits=threads, user_api="blas"):
            found.append(read_model(tmp_path / "model.npz").mode_splines)
    assert all(np.array_equal(found[0], other) for other in found[1:])
