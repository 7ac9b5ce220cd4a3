"""How good a restored image is, in figures."""
