"""The file formats of images, one module each."""
