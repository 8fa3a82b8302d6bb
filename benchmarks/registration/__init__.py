"""augreg's registration beside other software: pairs of images, sizes, volumes."""
