"""Segmentation by several atlases."""
