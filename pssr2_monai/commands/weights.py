"""``pssr2 export`` and ``convert``: weights as other files."""

from __future__ import annotations

from typing import Any

from pssr2_monai.commands.answer import Answer

__all__ = ["convert", "export"]


def export(
    weights: str,
    target: str,
    *,
    format: str | None = None,
    name: str | None = None,
    description: str | None = None,
    authors: str | None = None,
    license: str | None = None,
    cite: str | None = None,
    cover: str | None = None,
    example: str | None = None,
    dtype: str | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Answer:
    """Write weights as a file that runs without this package.

    pssr2 export WEIGHTS TARGET [--format torchscript|torch_export|onnx|bioimageio] [--example SCAN] [--authors NAMES]

    WEIGHTS    a model.pt that a training wrote, or a .pth of the original pssr package
    TARGET     the file to write: .ts (TorchScript), .pt2 (torch.export), .onnx, or .zip (a BioImage.IO package)
    --format   where the suffix does not tell

    The file takes any batch, height and width, and is run beside the network before it gets its name. Of a BioImage.IO
    package alone, which takes and gives grey levels:

    --example  a scan, whose middle becomes the example, and which tells the data type and, where the training scaled
               each file by itself, the grey levels of black and white
    --dtype    uint8, int8, uint16, int16 or float32, without an example; --low and --high, those grey levels
    --authors  names, separated by semicolons; --license, an SPDX identifier; --name, --description and --cover
    --cite     what to cite beside PSSR2 and MONAI: 'Author YEAR, Title 10.1234/DOI', separated by semicolons

    Example: pssr2 export run/model.pt model.onnx
    """
    from pssr2_monai.export.exporting import export as run
    from pssr2_monai.export.settings import PackageSettings

    options = {
        "name": name,
        "description": description,
        "authors": authors,
        "license": license,
        "cite": cite,
        "cover": cover,
        "example": example,
        "dtype": dtype,
        "low": low,
        "high": high,
    }
    given: dict[str, Any] = {option: value for option, value in options.items() if value is not None}
    done = run(weights, target, format, PackageSettings(**given) if given else None)
    text = f"{done.path}: {done.difference:.1g} grey levels of 255 off at most, at {len(done.shapes)} sizes"
    return Answer(f"{text}; {done.takes}" if done.takes else text, done)


def convert(
    original: str,
    target: str,
    *,
    dilations: list[Any] | None = None,
    pool_sizes: list[int] | None = None,
    qk_scale: float | None = None,
    scale: int | None = None,
) -> Answer:
    """Turn weights of the original pssr package into a model.pt.

    pssr2 convert ORIGINAL TARGET [--dilations LISTS] [--pool-sizes LIST] [--qk-scale X] [--scale N]

    ORIGINAL      a .pth that pssr 2.x saved: ResUNet, ResUNetA, RDResUNet, RDResUNetA or SwinIR
    TARGET        the model.pt to write; restore also takes ORIGINAL as it is
    --dilations   a list for each level, and --pool-sizes a list: where they were not the original's defaults
    --pool-sizes  see --dilations
    --qk-scale    of a SwinIR, where one was given
    --scale       of a SwinIR with the upsampler pixelshuffledirect

    Example: pssr2 convert weights.pth model.pt
    """
    from pssr2_monai.weights import convert as run

    options = {"dilations": dilations, "pool_sizes": pool_sizes, "qk_scale": qk_scale, "scale": scale}
    written = run(original, target, **{name: value for name, value in options.items() if value is not None})
    return Answer(str(written), {"weights": written})
