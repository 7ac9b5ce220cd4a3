#!/bin/sh
# Check an installed container: restore a small image with bundled weights.
set -eu
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
python -c 'import sys, numpy, tifffile
tifffile.imwrite(sys.argv[1], numpy.random.default_rng(0).integers(0, 256, (48, 64), "uint8"))' "$folder/scan.tif"
pssr2 restore "$folder/scan.tif" "$folder/restored.tif" --weights em_2x
python -c 'import sys, tifffile
shape = tifffile.imread(sys.argv[1]).shape
sys.exit(None if shape == (96, 128) else f"restored to {shape}")' "$folder/restored.tif"
