"""Import matplotlib whatever backend the environment names.

Pages draw without any. A notebook's MPLBACKEND, inherited by a command whose environment does not have that backend, would end
matplotlib's first import, and so a report after all the work. Whoever uses pyplot afterwards finds the backend of the
environment as ever, if it exists.
"""

from __future__ import annotations

import contextlib
import os
import sys

if "matplotlib" not in sys.modules and "MPLBACKEND" in os.environ:
    named = os.environ.pop("MPLBACKEND")
    try:
        import matplotlib
    finally:
        os.environ["MPLBACKEND"] = named
    with contextlib.suppress(ValueError):
        matplotlib.rcParams["backend"] = named
