"""Registrations as steps of other people's pipelines: `augreg.bridges.monai` and `augreg.bridges.torchio`, with their extras."""
