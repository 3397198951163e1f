"""The whole job from Python on a DataFrame: audit, split, make mismatches, train, evaluate, choose
a threshold, calibrate, export, predict, explain, look for wrong labels.

    pip install "mismatch-clip[train,audit]" pandas
    python examples/library_tour.py [FOLDER]

It draws its own pictures and keeps them in memory; with yours, give a column of paths instead. The
backbone is the random `tiny` one, which needs no download: its scores are not worth much.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw

import mismatch

COLOURS = {"red": "#c0392b", "blue": "#2471a3", "green": "#1e8449", "yellow": "#f1c40f"}
SHAPES = ("circle", "square", "triangle")


def picture(colour: str, shape: str, chance: random.Random) -> Image.Image:
    """Draw a product on a grey ground, at a place and in a size of its own."""
    ground = chance.randint(190, 240)
    image = Image.new("RGB", (64, 64), (ground, ground, ground))
    draw = ImageDraw.Draw(image)
    left = chance.randint(4, 16)
    top = chance.randint(4, 16)
    side = chance.randint(32, 42)
    box = (left, top, left + side, top + side)
    if shape == "circle":
        draw.ellipse(box, fill=COLOURS[colour])
    elif shape == "square":
        draw.rectangle(box, fill=COLOURS[colour])
    else:
        points = [(left, top + side), (left + side, top + side), (left + side // 2, top)]
        draw.polygon(points, fill=COLOURS[colour])
    return image


def catalogue(products: int = 160) -> pd.DataFrame:
    """Return matching pairs: a picture in memory, its title, its shape."""
    chance = random.Random(0)
    rows = []
    for number in range(products):
        colour = chance.choice(list(COLOURS))
        shape = chance.choice(SHAPES)
        image = picture(colour, shape, chance)
        rows.append({"image": image, "text": f"a {colour} {shape} no. {number}", "shape": shape})
    return pd.DataFrame(rows)


def main(folder: Path) -> None:
    """Do the whole job; what is kept lies in `folder`."""
    pairs = catalogue()

    report = mismatch.audit(pairs.assign(label=1))
    print(f"audit: {len(report.findings)} kinds of findings")

    parts = mismatch.split(pairs.assign(label=1), fractions=(0.6, 0.2, 0.2), seed=1)
    train, val, test = (
        pd.DataFrame(mismatch.make_negatives(part, seed=2).rows)
        for part in (parts.train, parts.val, parts.test)
    )
    print(f"rows: {len(train)} to train on, {len(val)} to choose by, {len(test)} to test")

    run = mismatch.train(
        train_csv=train,
        val_csv=val,
        output_dir=folder / "run",
        backbone="openclip",
        model_name="tiny",
        tune="head",
    )
    print(f"trained: the best epoch is {run.best_epoch}")

    evaluation = mismatch.evaluate(run.best_model, test, slices=["shape"])
    print(f"evaluated: AUROC {evaluation.metrics['auroc']:.3f} on {evaluation.scored} rows")

    threshold = mismatch.tune_threshold(run.best_model, val, objective="f1")
    print(f"threshold: {threshold.threshold.value:.3f}")
    calibration = mismatch.calibrate(run.best_model, val)
    print(f"calibrated: {calibration.calibration.kind}")

    bundle = mismatch.export_onnx(run.best_model, folder / "bundle")
    print(f"bundle: {bundle.path}")

    with mismatch.load(bundle.path) as model:
        scored = model.predict_frame(test)
        print(test[["text"]].join(scored[["similarity_score", "prediction"]]).head())
        worst = test.loc[scored["similarity_score"].idxmin()]
        explanation = mismatch.explain(model, worst["image"], worst["text"], heat_map=False)
        print(f"explained: {explanation.text!r}: {[word.text for word in explanation.named]}")

    labels = mismatch.audit_labels(run.best_model, train, folds=3, repeats=1)
    print(f"labels: the most suspicious of {len(labels.findings)} is {labels.findings[0].text!r}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as place:
            main(Path(place))
