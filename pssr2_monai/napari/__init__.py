"""The napari plugin: training, restoring, calibrating and evaluating in windows; needs the extra ``napari``."""
