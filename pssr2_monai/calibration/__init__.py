"""Fitting a crappifier to a microscope, from pairs of LR and HR or from LR images alone."""
