"""An installation that lacks a package: one line that names it, and everything else works."""

import subprocess
import sys
from pathlib import Path

import pytest

import augreg
from augreg.missing import MissingPackageError, missing

HEARTS = Path(augreg.__file__).parent / "data" / "hearts"
FIXED, MOVING = (str(HEARTS / f"SC-HF-I-0{number}_ed.png") for number in (1, 2))
NEEDED = {
    "torch": {"agents", "grid_sample_grid", "networks", "shards", "streams", "synthesis", "training"},
    "highspy": {"LPRegistration", "lp"},
}
LINE = "expected the package torch, it is not installed; pip install torch"
# nothing is found under the name of the first argument, as if it were not installed
HIDDEN = """
import sys
from importlib.abc import MetaPathFinder
class Hidden(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == PACKAGE:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
PACKAGE = sys.argv.pop(1)
sys.meta_path.insert(0, Hidden())
"""


def without(package, code, *arguments):
    command = [sys.executable, "-c", HIDDEN + code, package, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    return done.returncode, done.stdout, done.stderr


def command(*arguments):
    return without("torch", "from augreg.cli import main; sys.exit(main(sys.argv[1:]))", *arguments)


@pytest.mark.parametrize("package", NEEDED)
def test_names_say_which_package_they_need(package):
    code = """
import augreg
for name in augreg.__all__:
    try:
        getattr(augreg, name)
    except Exception as error:
        print(name, type(error).__name__, error, sep="|")
"""
    status, out, err = without(package, code)
    assert (status, err) == (0, "")
    told = dict(line.split("|", 1) for line in out.splitlines())
    assert set(told) == NEEDED[package]
    for text in told.values():
        assert text.startswith("MissingPackageError|")
        assert text.endswith(f": expected the package {package}, it is not installed; pip install {package}")


@pytest.mark.parametrize(
    "module",
    [
        "networks",
        "training",
        "synthesis",
        "shards",
        "streams",
        "agents",
        "recipes",
        "tensors",
        "networks.files",
        "synthesis.monai",
    ],
)
def test_modules_that_are_imported_by_name_say_so_too(module):
    status, _, err = without("torch", f"import augreg.{module}")
    assert status == 1
    assert err.splitlines()[-1].endswith(LINE)


@pytest.mark.parametrize("module", ["monai", "torchio"])
def test_bridges_name_the_extra_that_brings_it(module):
    _, _, err = without("torch", f"import augreg.bridges.{module}")
    last = err.splitlines()[-1]
    assert last.endswith(f"{module}: expected the package torch, it is not installed; pip install 'augreg[{module}]'")


@pytest.mark.parametrize(
    "arguments",
    [
        ["register", FIXED, MOVING, "-o", "phi.nii.gz", "--model", "sunnybrook-sax"],
        ["synthesize", "model.npz", "-n", "2", "-o", "pairs"],
        ["train", "model.npz", "-o", "run", "--steps", "1"],
        ["train", "--explain"],
        ["train", "pairs.csv", "-o", "run", "--agent", "rigid"],
        ["test", "sunnybrook-sax", "pairs.csv"],
        ["export", "sunnybrook-sax", "-o", "net.onnx"],
        ["template", FIXED, MOVING, "-o", "mean.nii.gz", "--model", "sunnybrook-sax"],
        ["cohort", FIXED, MOVING, "-o", "cohort", "--model", "sunnybrook-sax"],
        ["demo", "-o", "demo"],
    ],
    ids=" ".join,
)
def test_commands_that_need_torch_say_it_in_one_line(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = [str(HEARTS / f"SC-HF-I-0{number}_ed_lv.png") for number in (1, 2, 4)]
    if "model.npz" in arguments:
        images = [name.replace("_lv", "") for name in labels]
        model = augreg.fit_appearance_model(
            [augreg.read_image(name) for name in images],
            labels=[augreg.read_labels(name) for name in labels],
            locality=augreg.sam.Locality(levels=1, scale=1.0),
        )
        augreg.write_model(model, "model.npz")
    Path("pairs.csv").write_text(f"fixed,moving\n{FIXED},{MOVING}\n", encoding="utf-8")
    before = set(tmp_path.rglob("*"))
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("augreg: ")
    assert line.endswith(LINE)
    assert set(tmp_path.rglob("*")) == before


def test_commands_of_the_linear_program_do_without(tmp_path):
    phi = tmp_path / "phi.tfm"
    status, out, _ = command("register", FIXED, MOVING, "-o", phi, "--transform", "affine")
    assert status == 0
    assert str(phi) in out
    assert command("warp", MOVING, "-t", phi, "-r", FIXED, "-o", tmp_path / "moved.png")[0] == 0


def test_all_kernels_but_those_of_pairs_are_compiled_ahead():
    code = "from augreg.cli.ahead import all_jobs; print(*(what for what, _ in all_jobs()), sep='\\n')"
    status, out, err = without("torch", code)
    assert status == 0
    assert err.startswith("augreg: warning: ")
    assert err.endswith(f"{LINE}; all other kernels are compiled\n")
    assert "3-D registration: affine" in out
    assert "pairs" not in out


def test_info_says_what_is_missing(monkeypatch, capsys):
    import importlib.metadata

    from augreg.cli import main

    version = importlib.metadata.version

    def known(name):
        if name == "torch":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", known)
    assert main(["info"]) == 0
    assert "torch missing" in capsys.readouterr().out


def test_errors_that_are_no_missing_package_stay_as_they_are():
    own = ModuleNotFoundError("No module named 'augreg.nothing'", name="augreg.nothing")
    assert missing("x", own) is own
    once = missing("x", ModuleNotFoundError("No module named 'PIL'", name="PIL.Image"))
    assert isinstance(once, MissingPackageError)
    assert str(once) == "x: expected the package pillow, it is not installed; pip install pillow"
    assert missing("y", once) is once
    with pytest.raises(AttributeError, match="nothing"):
        _ = augreg.nothing
