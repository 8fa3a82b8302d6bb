"""Single image files, a module a format: what a header declares is checked against what is there before anything is believed."""
