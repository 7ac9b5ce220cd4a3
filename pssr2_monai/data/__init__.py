"""From folders of images to tiles: lists, pairs, loading, samples."""
