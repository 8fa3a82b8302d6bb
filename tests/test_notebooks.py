"""The notebooks that the site offers are the tutorials, and run."""

import ast
import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
TUTORIALS = sorted(DOCS.glob("tutorials/*.py"))


def notebook_of(tutorial):
    """The notebook that the site offers of a tutorial, as JSON."""
    conf = pytest.importorskip("sphinx_gallery.gen_gallery", reason="the extra `docs` is not installed").DEFAULT_GALLERY_CONF
    from sphinx_gallery.notebook import jupyter_notebook
    from sphinx_gallery.py_source_parser import split_code_and_text_blocks

    return json.loads(json.dumps(jupyter_notebook(split_code_and_text_blocks(str(tutorial))[1], conf, str(tutorial.parent))))


def cells(tutorial):
    """The cells with code of that notebook."""
    notebook = notebook_of(tutorial)
    assert notebook["nbformat"] >= 4
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_the_cells_of_a_notebook_are_the_tutorial_that_runs(tutorial):
    """The site runs the file, block by block, whenever it is built; the notebook has the same statements, and all of them."""
    code = cells(tutorial)
    assert len(code) >= 3
    file = ast.parse(tutorial.read_text(encoding="utf-8"))
    file.body = file.body[1:]  # its text is a cell of its own
    assert ast.dump(ast.parse("\n".join(code))) == ast.dump(file)
    # a cell ends where a statement does, and asks for nothing but Python
    for cell in code:
        compile(cell, tutorial.name, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_its_first_cell_to_its_last(tutorial, tmp_path, monkeypatch):
    """The file that the site offers, in a kernel of its own, as whoever downloads it does."""
    nbclient = pytest.importorskip("nbclient", reason="the extra `dev` is not installed")
    import nbformat

    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    path = tmp_path / f"{tutorial.stem}.ipynb"
    path.write_text(json.dumps(notebook_of(tutorial)), encoding="utf-8")
    book = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    ran = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in ran] == list(range(1, len(ran) + 1))
    outputs = [output for cell in ran for output in cell.outputs]
    # each shows a picture, and none of the warnings that a reader would stumble over
    assert any("image/png" in output.get("data", {}) for output in outputs)
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "Warning" not in said
    if tutorial.stem == "4_loop":
        _meets_its_motion(said)


def _meets_its_motion(said):
    errors, latency = said.splitlines()  # no frame has a warning
    median, largest = map(float, re.findall(r"\d\.\d+", errors))
    assert 0 < median <= 0.02
    assert largest <= 0.1
    assert latency.startswith("latency")
