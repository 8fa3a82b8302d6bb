"""Registration of two layers of napari by augreg."""
