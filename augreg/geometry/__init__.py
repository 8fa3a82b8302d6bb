"""The floor of both halves: grids, images, transforms between them, warps, splines."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
