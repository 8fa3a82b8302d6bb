import numpy as np
import pytest
import SimpleITK as sitk
from support import spaces

from augreg import Grid, Image, Labels, read_image, read_labels, read_points, write_image, write_points
from augreg.io import atomic, read_arrays, write_arrays

RNG = np.random.default_rng


def image(ndim, name="oblique", dtype=np.float32, channels=()):
    grid = spaces.grid(ndim, name)
    return Image(RNG(0).uniform(0, 255, (*grid.shape, *channels)).astype(dtype), grid)


@pytest.mark.parametrize(("ndim", "name"), spaces.ALL)
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".nrrd"])
def test_what_we_write_simpleitk_places_alike_and_we_read_back(ndim, name, suffix, tmp_path):
    ours, path = image(ndim, name), tmp_path / f"i{suffix}"
    write_image(ours, path)
    theirs = sitk.ReadImage(str(path))
    for voxel in RNG(1).integers(0, ours.grid.shape, (8, ndim)):
        where = theirs.TransformIndexToPhysicalPoint(voxel.tolist())
        np.testing.assert_allclose(where, ours.grid.points_at(voxel), atol=1e-4)
        assert theirs[tuple(voxel.tolist())] == pytest.approx(ours.values[tuple(voxel)])
    back = read_image(path)
    np.testing.assert_array_equal(back.values, ours.values)
    assert back.grid.matches(ours.grid)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_pixel_types_are_kept(dtype, tmp_path):
    ours = image(3, dtype=dtype)
    write_image(ours, tmp_path / "i.mha")
    assert read_image(tmp_path / "i.mha").values.dtype == dtype


def test_colour_has_its_channels_last(tmp_path):
    ours = image(2, "identity", np.uint8, (3,))
    for suffix in (".png", ".nii.gz", ".mha", ".tif"):
        write_image(ours, tmp_path / f"c{suffix}")
        np.testing.assert_array_equal(read_image(tmp_path / f"c{suffix}").values, ours.values)
        assert sitk.ReadImage(str(tmp_path / f"c{suffix}"))[5, 2] == tuple(ours.values[5, 2])


def test_pictures_have_no_geometry(tmp_path):
    picture = sitk.GetImageFromArray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    picture.SetSpacing((0.3, 0.4))
    for suffix in (".png", ".tif", ".bmp", ".jpg"):
        sitk.WriteImage(picture, str(tmp_path / f"p{suffix}"))
        assert read_image(tmp_path / f"p{suffix}").grid == Grid((4, 3))


def test_one_slice_of_a_volume_is_two_dimensional(tmp_path):
    volume = sitk.GetImageFromArray(np.arange(12, dtype=np.int16).reshape(1, 3, 4))
    volume.SetSpacing((0.5, 2.0, 7.0))
    volume.SetOrigin((1.0, 2.0, 3.0))
    sitk.WriteImage(volume, str(tmp_path / "v.nii.gz"))
    flat = read_image(tmp_path / "v.nii.gz")
    assert flat.grid.matches(Grid((4, 3), (0.5, 2.0), (1.0, 2.0)))
    assert flat.values[1, 2] == 9


def _dicom(folder, series, value):
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(3):
        slice_ = sitk.GetImageFromArray(np.full((1, 5, 6), value + k, dtype=np.int16))
        slice_.SetSpacing((0.7, 0.8, 2.5))
        slice_.SetOrigin((0.0, 0.0, 2.5 * k))
        for tag, text in {
            "0008|0060": "MR",
            "0008|0018": f"1.2.3.{series}.{k}",
            "0020|000e": f"1.2.3.{series}",
            "0020|000d": "1.2.3",
            "0020|0013": str(k),
            "0020|0032": f"0\\0\\{2.5 * k}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }.items():
            slice_.SetMetaData(tag, text)
        writer.SetFileName(str(folder / f"{series}-{k}.dcm"))
        writer.Execute(slice_)


def test_a_dicom_folder_is_read_and_several_series_are_listed(tmp_path):
    _dicom(tmp_path, 1, 10)
    volume = read_image(tmp_path)
    assert volume.grid.shape == (6, 5, 3)
    np.testing.assert_allclose(volume.grid.spacing, (0.7, 0.8, 2.5), atol=1e-6)
    assert volume.values[0, 0].tolist() == [10, 11, 12]
    _dicom(tmp_path, 2, 20)
    with pytest.raises(ValueError, match=r"2: 1\.2\.3\.1 \(3 slices\), 1\.2\.3\.2 \(3 slices\)"):
        read_image(tmp_path)
    assert read_image(f"{tmp_path}?series=1.2.3.2").values[0, 0, 0] == 20
    with pytest.raises(ValueError, match="expected one of the series"):
        read_image(f"{tmp_path}?series=9")


def test_a_folder_without_dicom_is_refused(tmp_path, capfd):
    with pytest.raises(ValueError, match="DICOM"):
        read_image(tmp_path)
    assert capfd.readouterr().err == ""


def test_what_is_no_picture_is_not_called_truncated(tmp_path):
    for suffix in (".png", ".jpg"):
        (tmp_path / f"text{suffix}").write_text("hello", encoding="utf-8")
        with pytest.raises(ValueError, match="expected an image"):
            read_image(tmp_path / f"text{suffix}")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".nrrd", ".png", ".jpg", ".tif", ".bmp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files_are_refused(suffix, share, tmp_path):
    whole = tmp_path / f"i{suffix}"
    ours = Image(RNG(0).integers(0, 255, (64, 48)).astype(np.uint8), Grid((64, 48)))
    write_image(ours, whole)
    data = whole.read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match="cut") as caught:
        read_image(cut)
    assert "\n" not in str(caught.value)


def test_missing_empty_and_foreign_files_are_refused(tmp_path, capfd):
    with pytest.raises(FileNotFoundError, match="absent"):
        read_image(tmp_path / "absent.nii.gz")
    (tmp_path / "empty.mha").touch()
    (tmp_path / "text.nii.gz").write_text("hello", encoding="utf-8")
    (tmp_path / "text.png").write_text("hello", encoding="utf-8")
    for name in ("empty.mha", "text.nii.gz", "text.png"):
        with pytest.raises(ValueError, match=name):
            read_image(tmp_path / name)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".nrrd"])
@pytest.mark.parametrize(("ndim", "dtype", "channels"), [(2, np.float32, ()), (3, np.float64, ()), (3, np.float32, (3,))])
def test_voxels_that_are_not_finite_are_read_as_they_are(ndim, dtype, channels, suffix, tmp_path):
    # ITK's NIfTI reader makes them 0, which nobody could tell from dark voxels
    ours = image(ndim, dtype=dtype, channels=channels)
    ours.values[1, 2] = np.nan
    ours.values[3, 0] = -np.inf
    write_image(ours, tmp_path / f"i{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"i{suffix}").values, ours.values)


def test_labels_are_whole_numbers(tmp_path):
    grid = spaces.grid(3)
    write_image(Image(RNG(0).integers(0, 5, grid.shape).astype(np.float32), grid), tmp_path / "whole.nii.gz")
    assert read_labels(tmp_path / "whole.nii.gz").values.dtype == np.int32
    write_image(image(3), tmp_path / "parts.nii.gz")
    with pytest.raises(ValueError, match="whole numbers"):
        read_labels(tmp_path / "parts.nii.gz")
    write_image(image(2, dtype=np.uint8, channels=(3,)), tmp_path / "colour.mha")
    with pytest.raises(ValueError, match="colour"):
        read_labels(tmp_path / "colour.mha")


def test_formats_that_cannot_hold_the_pixels_are_refused(tmp_path):
    for picture, name in ((image(2), "i.png"), (image(3, dtype=np.uint8), "i.jpg"), (image(2), "i.xyz"), (image(2), "i")):
        with pytest.raises(ValueError, match="expected"):
            write_image(picture, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_bool_labels_are_written_as_bytes(tmp_path):
    grid = spaces.grid(2)
    write_image(Labels(np.ones(grid.shape, dtype=bool), grid), tmp_path / "m.png")
    assert read_labels(tmp_path / "m.png").unique() == (1,)


def test_points_round_trip_and_foreign_columns(tmp_path):
    for ndim in (2, 3):
        points = RNG(0).normal(size=(7, ndim)) * 1e3
        write_points(points, tmp_path / "p.csv")
        np.testing.assert_array_equal(read_points(tmp_path / "p.csv"), points)
    (tmp_path / "birl.csv").write_text(",X,Y\n1,3.5,4\n2,5,6.25\n", encoding="utf-8")
    assert read_points(tmp_path / "birl.csv").tolist() == [[3.5, 4.0], [5.0, 6.25]]
    for text in ("a,b\n1,2\n", "x,y\n1\n", "x,y\n1,two\n", "x,y\n", "x,y\n1,nan\n", ""):
        (tmp_path / "bad.csv").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"bad\.csv"):
            read_points(tmp_path / "bad.csv")
    with pytest.raises(ValueError, match="shape"):
        write_points(np.zeros(3), tmp_path / "q.csv")


def test_arrays_round_trip_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "m.npz"
    write_arrays(path, {"a": np.arange(3), "b": np.zeros((2, 0))}, {"kind": "model", "levels": [1, 2]})
    arrays, description = read_arrays(path, "model")
    assert arrays["a"].tolist() == [0, 1, 2]
    assert description["levels"] == [1, 2]
    with pytest.raises(ValueError, match="something else"):
        read_arrays(path, "other")
    whole = path.read_bytes()
    np.savez(tmp_path / "pickled.npz", x=np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "plain.npz", x=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("hello", encoding="utf-8")
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("pickled.npz", "plain.npz", "array.npy", "text.npz", "cut.npz"):
        with pytest.raises(ValueError, match=name) as caught:
            read_arrays(tmp_path / name, "model")
        assert "\n" not in str(caught.value)


def test_atomic_leaves_the_old_file_where_writing_fails(tmp_path):
    path = tmp_path / "f.txt"
    path.write_text("old", encoding="utf-8")

    def fail():
        with atomic(path) as temporary:
            temporary.write_text("half", encoding="utf-8")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f.txt"]
