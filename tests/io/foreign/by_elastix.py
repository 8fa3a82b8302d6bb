"""Transforms and mapped points by elastix itself: `python by_elastix.py FOLDER` where itk-elastix is installed.

Each case is a folder of TransformParameters files as elastix wrote them, and `points.json` with points of the fixed image and
where transformix takes them. The folder's name is replaced. Images are small and oblique; a few
iterations give parameters far from zero.
"""

import json
import sys
from pathlib import Path

import numpy as np

# transforms one after the other, and dimension
CASES = {
    "euler2": (2, ["EulerTransform"]),
    "similarity2": (2, ["SimilarityTransform"]),
    "chain2": (2, ["EulerTransform", "AffineTransform", "BSplineTransform"]),
    "euler3": (3, ["EulerTransform"]),
    "zyx3": (3, ["EulerTransform"]),
    "similarity3": (3, ["SimilarityTransform"]),
    "translation3": (3, ["TranslationTransform", "AffineTransform"]),
    "bspline3": (3, ["BSplineTransform"]),
}


def _images(ndim):
    import itk

    shape = (28, 34) if ndim == 2 else (16, 22, 19)
    axes = np.meshgrid(*map(np.arange, shape), indexing="ij")

    def blob(centers):
        parts = [sum(((a - c * n) / (n / 6)) ** 2 for a, c, n in zip(axes, center, shape, strict=True)) for center in centers]
        return np.exp(-np.array(parts)).sum(axis=0)

    first, second = [[0.4, 0.45, 0.4], [0.6, 0.62, 0.7]], [[0.47, 0.38, 0.45], [0.58, 0.66, 0.55]]
    turn = np.eye(ndim)
    turn[:2, :2] = [[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]]
    if ndim == 3:
        turn = turn @ np.array([[1, 0, 0], [0, np.cos(0.3), -np.sin(0.3)], [0, np.sin(0.3), np.cos(0.3)]])
    images = []
    for centers in (first, second):
        image = itk.image_from_array((100 * blob([c[:ndim] for c in centers])).astype(np.float32))
        image.SetSpacing([1.0, 1.5, 2.0][:ndim])
        image.SetOrigin([-10.0, 4.0, 30.0][:ndim])
        image.SetDirection(itk.matrix_from_array(turn))
        images.append(image)
    return images


def make(folder, name):
    """One case in a folder."""
    import itk

    ndim, kinds = CASES[name]
    fixed, moving = _images(ndim)
    parameters = itk.ParameterObject.New()
    for kind in kinds:
        of = itk.ParameterObject.New().GetDefaultParameterMap("bspline" if kind.startswith("BSpline") else "rigid", 1)
        of["Transform"] = [kind]
        of["Metric"] = ["AdvancedMeanSquares"]
        of["MaximumNumberOfIterations"] = ["25"]
        of["NumberOfSpatialSamples"] = ["400"]
        of["AutomaticScalesEstimation"] = ["true"]
        of["RandomSeed"] = ["3"]
        of["WriteResultImage"] = ["false"]
        if kind.startswith("BSpline"):
            for unused in ("Metric0Weight", "Metric1Weight", "GridSpacingSchedule"):
                of.erase(unused) if unused in of else None
            of["Registration"] = ["MultiResolutionRegistration"]
            of["FinalGridSpacingInPhysicalUnits"] = ["14.0"]
        if name == "zyx3":
            of["ComputeZYX"] = ["true"]
        parameters.AddParameterMap(of)
    folder = Path(folder) / name
    folder.mkdir(parents=True, exist_ok=True)
    _, found = itk.elastix_registration_method(
        fixed, moving, parameter_object=parameters, output_directory=str(folder), log_to_console=False
    )
    rng, size = np.random.default_rng(0), np.array(itk.size(fixed))
    indices = rng.uniform(1, size - 2, (12, ndim))
    linear = itk.array_from_matrix(fixed.GetDirection()) * np.array(fixed.GetSpacing())
    points = (indices @ linear.T + np.array(fixed.GetOrigin())).round(4)
    listed = folder / "points.txt"
    rows = "\n".join(" ".join(map(repr, row)) for row in points.tolist())
    listed.write_text(f"point\n{len(points)}\n{rows}\n", encoding="utf-8")
    itk.transformix_pointset(moving, found, fixed_point_set_file_name=str(listed), output_directory=str(folder))
    lines = (folder / "outputpoints.txt").read_text(encoding="utf-8").splitlines()
    mapped = [[float(v) for v in line.split("OutputPoint = [")[1].split("]")[0].split()] for line in lines]
    for other in folder.iterdir():
        if not other.name.startswith("TransformParameters"):
            other.unlink()
            continue
        # as if the folder had been moved since, which users do
        text = other.read_text(encoding="utf-8").replace(str(folder), "/results/of/elastix")
        other.write_text(text.rstrip() + "\n", encoding="utf-8")
    (folder / "points.json").write_text(json.dumps({"fixed": points.tolist(), "moving": mapped}), encoding="utf-8")
    return folder


if __name__ == "__main__":
    for case in CASES:
        print(make(sys.argv[1], case))  # noqa: T201
