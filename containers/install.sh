#!/bin/sh
# Build the wheel of this project and install it into a virtual environment; run from the repository's root:
#   sh containers/install.sh PREFIX [cpu|cuda] [EXTRAS]
# TORCH_INDEX names another index for the processor's build of torch.
set -eu
prefix=$1
device=${2:-cpu}
extras=${3:-czi,mrc,nd2,lif}
torch=$(grep '^torch==' constraints.txt)

python3 -m venv "$prefix"
pip() { "$prefix/bin/python" -m pip --disable-pip-version-check --no-cache-dir "$@"; }

case $device in
    cpu) pip install --index-url "${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}" "$torch" ;;
    cuda) pip install "$torch" ;;
    *) echo "install.sh: the device is cpu or cuda, not $device" >&2; exit 2 ;;
esac
wheels=$(mktemp -d)
pip wheel --no-deps --wheel-dir "$wheels" .
set -- "$wheels"/pssr2_monai-*.whl
pip install --constraint constraints.txt "$1[$extras]"
pip check
rm -r "$wheels"
cp containers/check.sh "$prefix/check.sh"
