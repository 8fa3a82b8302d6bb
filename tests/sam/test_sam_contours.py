import numpy as np
import pytest
from support.subjects import grid, people

from augreg import Grid, Labels
from augreg.datasets import hearts
from augreg.geometry.splines import anchors
from augreg.sam import Contours, contours_correspond
from augreg.sam.alignment import align, pose_transform, procrustes
from augreg.sam.contours import outlines


def disc(g, center, radii, label=1):
    offset = (g.points() - center) @ np.asarray(g.direction) / np.asarray(radii)
    return Labels((np.linalg.norm(offset, axis=-1) < 1).astype(np.int64) * label, g)


def test_the_outline_of_a_disc_is_its_circle_in_the_world():
    g = Grid((90, 120), (0.8, 0.6), (-7.0, 3.0), grid(2).direction)
    line = outlines(disc(g, g.center, (20, 20)), [1])[0]
    distance = np.linalg.norm(line - g.center, axis=1)
    assert np.abs(distance - 20).max() < 0.8
    x, y = (line - g.center).T
    area = 0.5 * np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)
    assert area == pytest.approx(np.pi * 400, rel=0.02)  # positive: counter-clockwise in world axes, also on turned grids


def test_a_flipped_grid_gives_the_same_world_contour():
    values = disc(grid(2), grid(2).center + 3, (14, 9)).values
    g = grid(2)
    mirrored = Grid(g.shape, g.spacing, tuple(g.points_at((g.shape[0] - 1, 0))), np.asarray(g.direction) * [-1, 1])
    scheme = Contours((1,), (30,))
    same = scheme.landmarks(Labels(values[::-1], mirrored))
    assert np.allclose(same, scheme.landmarks(Labels(values, g)), atol=0.1)


def test_landmarks_lie_at_equal_arc_length():
    g = Grid((120, 100))
    scheme = Contours((7,), (40,))
    points = scheme.landmarks(disc(g, np.array([60.0, 48.0]), (45, 20), label=7))
    contour, centroid = points[:-1], points[-1]
    assert np.allclose(centroid, (60, 48), atol=0.1)
    steps = np.linalg.norm(np.roll(contour, -1, axis=0) - contour, axis=1)
    assert steps.std() / steps.mean() < 0.02
    assert contour[0] == pytest.approx((105, 48), abs=2)  # starts in direction +x


def test_only_the_largest_component_counts_and_holes_do_not():
    values = np.zeros((50, 40), dtype=int)
    values[10:30, 10:30] = 1
    values[15:20, 15:20] = 0
    values[40:44, 30:34] = 1
    values[30, 30] = 1  # touches a corner of the square only: another component
    line = outlines(Labels(values, Grid((50, 40))), [1])[0]
    assert line.min() > 9
    assert line.max() < 30
    assert Contours((1,), (8,)).landmarks(Labels(values, Grid((50, 40))))[-1] == pytest.approx((19.5, 19.5), abs=0.05)


def test_starting_points_agree_with_the_mean_contour():
    g = Grid((100, 100))
    turn = np.deg2rad(12)
    R = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shapes = []
    for A in (np.eye(2), R, R.T):
        local = (g.points() - g.center) @ A
        shapes.append(Labels(((np.abs(local[..., 0]) < 30) & (np.abs(local[..., 1]) < 18)).astype(int), g))
    scheme = Contours((1,), (48,))
    raw = np.stack([scheme.landmarks(one) for one in shapes])
    points = scheme.corresponding(shapes)
    assert points.std(axis=0).mean() < 0.95 * raw.std(axis=0).mean()
    for contour in points[:, :-1]:  # moving any start by one point makes it worse
        own = np.sum((contour - points[:, :-1].mean(axis=0)) ** 2)
        assert all(np.sum((np.roll(contour, k, axis=0) - points[:, :-1].mean(axis=0)) ** 2) > own for k in (-1, 1))


def test_missing_structures_are_named():
    a, b = disc(grid(2), grid(2).center, (12, 12), 1), disc(grid(2), grid(2).center, (12, 12), 2)
    with pytest.raises(ValueError, match=r"label 1 is missing in labels\[1\]"):
        Contours.from_labels([a, b])
    with pytest.raises(ValueError, match=r"labels\[1\].*label 1 is missing"):
        Contours.from_labels([a, b], structures=[1])
    with pytest.raises(ValueError, match="only background"):
        Contours.from_labels([Labels(np.zeros((9, 9), dtype=int), Grid((9, 9)))] * 3)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("alignment", ["translation", "rigid", "similarity"])
def test_procrustes_gives_back_poses(ndim, alignment):
    rng = np.random.default_rng(1)
    shape = rng.normal(0, [20, 11, 6][:ndim], (15, ndim)) + 30
    turns = {"translation": 0.0, "rigid": 0.3, "similarity": 0.3}[alignment]
    poses = rng.standard_normal((5, ndim + ndim * (ndim - 1) // 2 + 1)) * (
        [4.0] * ndim + [turns] * (ndim * (ndim - 1) // 2) + [0.0]
    )
    poses[:, -1] = rng.normal(0, 0.1, 5) if alignment == "similarity" else 0.0
    points = np.stack([pose_transform(p, shape.mean(axis=0))(shape) for p in poses])
    result = procrustes(points, alignment)
    assert np.abs(result.points - result.mean).max() < 1e-6
    assert np.allclose(result.poses[:, :ndim].mean(axis=0), 0)
    for pose, original, aligned in zip(result.poses, points, result.points, strict=True):
        transform = pose_transform(pose, result.mean.mean(axis=0))
        assert np.allclose(transform(aligned), original, atol=1e-6)
        again, same = align(original, result.mean, alignment)
        assert np.allclose(again, aligned, atol=1e-5)
        assert np.allclose(same, pose, atol=1e-5)


def test_without_alignment_shapes_stay():
    points = np.random.default_rng(0).normal(size=(4, 6, 2))
    assert np.array_equal(procrustes(points, "none").points, points)
    with pytest.raises(ValueError, match="alignment"):
        procrustes(points, "affine")


def test_lattices_cover_the_grid_and_anchors_surround_it():
    g = grid(3)
    assert g.contains(g.lattice((5, 4, 6)), margin=0.01).all()
    middle = g.center[None]
    assert not g.contains(anchors(g, 0.2, middle, reach=1e6, per_axis=4)).any()
    inner = anchors(g, 0.2, middle, reach=15.0, per_axis=9)
    inner = inner[g.contains(inner)]
    assert len(inner) > 0
    assert np.linalg.norm(inner - middle, axis=1).min() > 15


def test_real_label_maps_have_corresponding_contours():
    labels = hearts().labels[:12:2]
    scheme = Contours.from_labels(labels, points=40)
    points = scheme.corresponding(labels)
    assert points.shape == (6, 41, 2)
    residual = procrustes(points).points
    assert np.linalg.norm(residual - residual.mean(axis=0), axis=-1).mean() < 8


def test_simulated_contours_follow_the_anatomy():
    _, labels, _ = people(2)
    scheme = Contours.from_labels(labels, points=60)
    assert scheme.structures == (1, 5)
    assert scheme.size == sum(scheme.counts) + 2


def test_contours_are_trusted_where_structures_are_whole_and_not_folded():
    g = Grid((120, 100), (0.8, 1.1))
    discs = [disc(g, g.center + shift, (30, 20)) for shift in (0, 3, -4)]
    assert contours_correspond(discs)
    # two ventricles under one label, in one of the maps
    pair = Labels(disc(g, g.center - (22, 0), (9, 20)).values + disc(g, g.center - (-22, 0), (9, 19)).values, g)
    assert not contours_correspond([*discs, pair])
    # a ribbon that is folded like a cortex
    x, y = np.meshgrid(np.arange(120), np.arange(100), indexing="ij")
    comb = ((y > 80) & (y < 90)) | ((x // 5 % 2 == 0) & (y > 15) & (y < 90))
    assert not contours_correspond([*discs, Labels(comb.astype(np.int64), g)])
    volume = Labels(np.ones((4, 5, 6), dtype=np.int64), Grid((4, 5, 6)))
    assert not contours_correspond([volume])


def test_tissues_have_no_corresponding_contours_and_hearts_have():
    data = hearts()
    assert contours_correspond(data.labels[::2])
    tissues = [Labels(np.digitize(image.values, (60, 110)), image.grid) for image in data.images[:8:2]]
    assert not contours_correspond(tissues)
