"""The command ``pssr2``."""
