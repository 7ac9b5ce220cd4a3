r"""Does calibrating pay?

Networks trained on HR images alone, with the default and with a calibrated crappifier, and networks trained on real
pairs restore real LR images that none of them saw. All train for the same number of epochs on the same images, and one
scorer judges the files that they write: PSNR and SSIM after a least-squares gain and offset, since real pairs differ in
contrast.

    python scripts/compare_calibration.py ../shared/data/em_pairs/sem_real2x/train --scale 2 --test 'f(2[89]|3)' \
        --epochs 36 --out OUT
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pssr2_monai.calibration.calibrate import calibrate
from pssr2_monai.evaluation.compare import upscale
from pssr2_monai.images.image import open_image
from pssr2_monai.restoration.restore import restore
from pssr2_monai.training.train import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, help="folder with LR and HR images of the same names")
    parser.add_argument("--test", required=True, help="regular expression of the names that are held out")
    parser.add_argument("--scale", type=int, required=True)
    parser.add_argument("--model", default="poisson+gaussian")
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--network", default="resunet_small", help="preset of the network")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    split(options.pairs, options.test, options.out)
    seen, held_out = options.out / "train", options.out / "test"
    preset = options.out / "calibrated.json"
    if not preset.exists():
        calibrate(seen / "LR", preset, hr=seen / "HR", scale=options.scale, model=options.model)
    ways = {
        "default crappifier": {"preset": [options.network], "lr_dir": None},
        "calibrated crappifier": {"preset": [options.network, str(preset)], "lr_dir": None},
        "real pairs": {"preset": [options.network], "lr_dir": str(seen / "LR")},
    }
    scores: dict[str, list[tuple[float, float]]] = {"bicubic": [interpolated(held_out, options.scale)]}
    for seed in options.seeds:
        for way, chosen in ways.items():
            out = options.out / f"{way.split()[0]}_{seed}"
            weights = out / "model.pt"
            if not (out / "done").exists():
                shutil.rmtree(out, ignore_errors=True)
                weights = train(
                    seen / "HR",
                    out,
                    epochs=options.epochs,
                    seed=seed,
                    scale=options.scale,
                    tile=options.tile,
                    batch_size=options.batch,
                    num_workers=0,
                    val_interval=options.epochs,
                    **chosen,
                )
                (out / "done").touch()
            restore(held_out / "LR", out / "restored", weights, overwrite=True, precision="float32")
            scores.setdefault(way, []).append(score(out / "restored", held_out / "HR"))
            print(seed, way, scores[way][-1], flush=True)
    (options.out / "scores.json").write_text(json.dumps(scores, indent=2))
    print(table("trained on", scores))


def split(pairs: Path, held_out: str, out: Path) -> None:
    """Link the pairs, those for testing in a folder of their own."""
    for kind in ("LR", "HR"):
        for path in sorted((pairs / kind).iterdir()):
            link = out / ("test" if re.search(held_out, path.name) else "train") / kind / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(path.resolve())


def interpolated(held_out: Path, scale: int) -> tuple[float, float]:
    """Return the scores of bicubic interpolation."""
    scores = []
    for path in sorted((held_out / "LR").iterdir()):
        lr = read(path).astype(np.float32)
        scores.append(fitted(upscale(lr[None], scale, "bicubic")[0], read(held_out / "HR" / path.name)))
    return mean(scores)


def score(restored: Path, hr: Path) -> tuple[float, float]:
    """Return the mean PSNR and SSIM of the files of a folder."""
    return mean([fitted(read(path), read(hr / path.name)) for path in sorted(restored.iterdir())])


def fitted(image: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Return PSNR and SSIM after the gain and offset that fit best."""
    gain, offset = np.polyfit(image.ravel().astype(float), target.ravel().astype(float), 1)
    same = image * gain + offset
    ssim = structural_similarity(
        target.astype(float), same, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return float(peak_signal_noise_ratio(target.astype(float), same, data_range=255)), float(ssim)


def mean(scores: list[tuple[float, float]]) -> tuple[float, float]:
    psnr, ssim = np.mean(scores, axis=0)
    return float(psnr), float(ssim)


def table(heading: str, scores: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Return PSNR and SSIM of each kind of training, in Markdown."""
    rows = [f"| {heading} | PSNR (dB) by seed | SSIM by seed |", "|---|---|---|"]
    for way, pairs in scores.items():
        psnr, ssim = (", ".join(f"{pair[number]:.{2 + 2 * number}f}" for pair in pairs) for number in (0, 1))
        rows.append(f"| {way} | {psnr} | {ssim} |")
    return "\n".join(rows)


def read(path: Path) -> np.ndarray:
    with open_image(path) as image:
        return image.read()


if __name__ == "__main__":
    main()
