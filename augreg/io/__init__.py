"""The only reader and writer of files: images and label maps, landmarks, transforms, arrays.

Nothing is imported before it is asked for: who reads arrays needs no reader of images.
"""

import lazy_loader as _lazy

from augreg.missing import told as _told

_attribute, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__getattr__ = _told(__name__, _attribute)
