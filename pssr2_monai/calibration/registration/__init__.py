"""Aligning real pairs of LR and HR images to a fraction of a pixel."""
