"""Packages that are not installed: one line that says which, and how to get it, in the place of a bare `No module named`.

augreg.networks: expected the package torch, it is not installed; pip install torch
"""

from __future__ import annotations

from collections.abc import Callable

# where the name that is imported is not the name that is installed
_INSTALLED_AS = {"PIL": "pillow", "skimage": "scikit-image", "sklearn": "scikit-learn", "vtkmodules": "vtk"}


class MissingPackageError(ModuleNotFoundError, ValueError):
    """A package that is not installed: for those who ask for a module, and for those who read a file that needs it."""


def missing(what: str, error: ModuleNotFoundError, extra: str | None = None, *, instead: str = "") -> ModuleNotFoundError:
    """The error to raise from another one: it says who needs the package; modules of augreg itself are nothing to install.

    Parameters
    ----------
    what : that needs the package: a name, a file, a command
    error : of the import
    extra : of augreg that brings the package; None if it is installed by its own name
    instead : what else one could do
    """
    package = (error.name or "").partition(".")[0]
    if isinstance(error, MissingPackageError) or package in ("", "augreg", "solvers"):
        return error
    name = _INSTALLED_AS.get(package, package)
    remedy = f"pip install {name}" if extra is None else f"pip install 'augreg[{extra}]'"
    text = f"{what}: expected the package {name}, it is not installed; {remedy}{instead and ', ' + instead}"
    return MissingPackageError(text, name=error.name, path=error.path)


def told(module: str, attribute: Callable[[str], object]) -> Callable[[str], object]:
    """A module's `__getattr__` whose errors say which package is not installed, made of one that imports when it is asked."""

    def found(name: str) -> object:
        try:
            return attribute(name)
        except ModuleNotFoundError as error:
            raise missing(f"{module}.{name}", error) from error

    return found
