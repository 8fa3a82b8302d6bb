"""What the pages of the documentation show runs as it stands, on real images; links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import augreg as ar

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("how-to/*.md"), *DOCS.glob("methods/*.md")])


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that the pages' lines take: some of the hearts, landmarks, a model."""
    path = tmp_path_factory.mktemp("pages")
    hearts = ar.datasets.hearts(side=128)
    for name, number in {"fixed": 0, "moving": 1, "a": 0, "b": 2, "c": 4, "d": 6}.items():
        ar.write_image(hearts.images[number], path / f"{name}.png")
        ar.write_image(hearts.labels[number], path / f"{name}_labels.png")
    ar.write_points([[50, 60], [70, 45.5]], path / "landmarks.csv")
    ar.write_model(ar.fit_appearance_model(hearts.images[:12:2], labels=hearts.labels[:12:2], points=40), path / "model.npz")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "cluster"], ids=lambda page: page.stem)
def test_the_python_of_a_page(page, folder):
    """Those of the cluster need one: tests/test_readme.py stands in for it."""
    code = "\n".join(blocks(page, "python"))
    if not code:
        pytest.skip("the page shows no Python")
    guarded = f"if __name__ == '__main__':\n{''.join(f'    {line}' if line.strip() else line for line in code.splitlines(True))}"
    script = folder / f"{page.stem.replace('-', '_')}_page.py"
    script.write_text(guarded, encoding="utf-8")
    subprocess.run([sys.executable, script], cwd=folder, check=True)


def test_every_page_is_in_a_table_of_contents():
    for index in DOCS.rglob("index.md"):
        listed = "\n".join(re.findall(r"```\{toctree\}(.*?)```", index.read_text(encoding="utf-8"), flags=re.DOTALL))
        for page in index.parent.glob("*.md"):
            assert page == index or index.parent == DOCS or page.stem in listed.split(), page
