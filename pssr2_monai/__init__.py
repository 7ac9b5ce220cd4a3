"""Point-scanning super-resolution for microscopy, on MONAI."""

__version__ = "0.1.0"
