"""Score pairs on a Triton Inference Server, over HTTP and its v2 protocol, with the repository that
`mismatch export-onnx --triton repository` wrote.

    pip install mismatch-clip httpx python triton_client.py --files repository/mismatch/1 photo.jpg
    "Red leather handbag" python triton_client.py --files repository/mismatch/1 --csv pairs.csv
    --image-base-path photos > scores.csv

Pixels and token ids are made here, by mismatch's own code, so that they are those of the training.
A pair takes one request to the ensemble. A file of pairs goes to the two encoders and the head:
`mismatch.Predictor` takes `Triton` for an engine, so that each image and each text is sent once,
long texts are scored as the model was trained for, and a row that can't be scored has a status.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

import mismatch

ENSEMBLE, IMAGE, TEXT, HEAD = (
    "mismatch",
    "mismatch_image_encoder",
    "mismatch_text_encoder",
    "mismatch_head",
)
TYPES = {"FP32": np.float32, "INT64": np.int64}
MAX_BATCH = 64  # rows of a request, as the repository's configs have it
TRIES = 4  # of a request that the server has no room for
Tensors = dict[str, NDArray[Any]]


class TritonError(Exception):
    """The server refused a request, or serves another model."""


class Triton:
    """Two towers and a head on a server: what `mismatch.Predictor` takes for an engine."""

    # texts of a file are sorted by length first, and padded as mismatch's own runtime pads them
    name, independent, length_step = "triton", False, 4

    def __init__(self, http: httpx.Client, files: Path) -> None:
        """`http`: a client whose base_url is the server's; `files`: the ensemble's folder in the
        repository, mismatch/1.
        """
        manifest = json.loads((files / "manifest.json").read_text(encoding="utf-8"))
        head = mismatch.HeadSpec.from_dict(manifest["head"])
        self.image_spec = mismatch.ImageSpec.from_dict(manifest["image_spec"])
        self.text_spec = mismatch.TextSpec.from_dict(
            manifest["text_spec"],
            tokenizer_json=(files / "tokenizer.json").read_text(encoding="utf-8"),
        )
        self.score = mismatch.ScoreSpec.from_dict(manifest["score"])
        self.image_dim, self.text_dim, self.image_width, self.text_width = (
            head.image_dim,
            head.text_dim,
            head.image_width,
            head.text_width,
        )
        self.fingerprint = hashlib.sha256((files / "manifest.json").read_bytes()).hexdigest()
        self.sees = (
            "image_features" if head.image_features else "image_embedding",
            "text_features" if head.text_features else "text_embedding",
        )
        self.http = http
        self.check()

    def check(self) -> None:
        """TritonError where the server's model is not the one that the files are of."""
        parameters = self._json("GET", f"/v2/models/{ENSEMBLE}/config").get("parameters", {})
        if parameters.get("manifest_sha256", {}).get("string_value") != self.fingerprint:
            raise TritonError(
                f"the server at {self.http.base_url} has another model than these files; take"
                " mismatch/1 of the repository that it serves"
            )

    def encode_images(self, pixel_values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, 3, S, S) → (B, image_width)."""
        return self.infer(IMAGE, {"pixel_values": pixel_values}, [self.sees[0]])[self.sees[0]]

    def encode_texts(
        self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """(B, L), twice → (B, text_width)."""
        return self.infer(
            TEXT, {"input_ids": input_ids, "attention_mask": attention_mask}, [self.sees[1]]
        )[self.sees[1]]

    def logits(
        self, image_embeddings: NDArray[np.float32], text_embeddings: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """(B, image_width), (B, text_width) → (B,)."""
        image, text = self.sees
        return self.infer(HEAD, {image: image_embeddings, text: text_embeddings}, ["logit"])[
            "logit"
        ][:, 0]

    def describe(self) -> dict[str, Any]:
        """What the server says of itself."""
        return {"engine": self.name, **self._json("GET", "/v2")}

    def scores(
        self,
        pixel_values: NDArray[np.float32],
        input_ids: NDArray[np.int64],
        attention_mask: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """(B, 3, S, S), (B, L), twice → (B,) similarity scores, by the ensemble: one request."""
        feeds: Tensors = {
            "pixel_values": pixel_values,
            "input_ids": input_ids,
            "attention_mask": attention_mask,
        }
        return self.infer(ENSEMBLE, feeds, ["similarity_score"])["similarity_score"][:, 0]

    def infer(
        self, model: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> Tensors:
        """Tensors of B rows → the outputs, in requests of `MAX_BATCH` rows at most."""
        rows = len(next(iter(inputs.values())))
        parts = [
            self._infer(
                model, {name: value[at : at + MAX_BATCH] for name, value in inputs.items()}, outputs
            )
            for at in range(0, rows, MAX_BATCH)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in outputs}

    def _infer(
        self, model: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> Tensors:
        """Tensors go as bytes behind the JSON, both ways: as numbers in JSON, pixels would be five
        times as long.
        """
        names = {np.dtype(kind): name for name, kind in TYPES.items()}
        described = [
            {
                "name": name,
                "shape": value.shape,
                "datatype": names[value.dtype],
                "parameters": {"binary_data_size": value.nbytes},
            }
            for name, value in inputs.items()
        ]
        head = json.dumps(
            {
                "inputs": described,
                "outputs": [
                    {"name": name, "parameters": {"binary_data": True}} for name in outputs
                ],
            }
        ).encode()
        body = b"".join(
            [head, *(np.ascontiguousarray(value).tobytes() for value in inputs.values())]
        )
        headers = {
            "inference-header-content-length": str(len(head)),
            "content-type": "application/octet-stream",
        }
        response = self._send("POST", f"/v2/models/{model}/infer", content=body, headers=headers)
        at = int(response.headers["inference-header-content-length"])
        found: Tensors = {}
        for one in json.loads(response.content[:at])["outputs"]:
            size = one["parameters"]["binary_data_size"]
            found[one["name"]] = np.frombuffer(
                response.content[at : at + size], TYPES[one["datatype"]]
            ).reshape(one["shape"])
            at += size
        return found

    def _json(self, method: str, path: str) -> dict[str, Any]:
        return dict(self._send(method, path).json())

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Again after 0.1, 0.2 and 0.4 seconds where the server has no room (503); TritonError for
        any other refusal.
        """
        for number in range(TRIES):
            response = self.http.request(method, path, **more)
            if response.status_code != 503 or number == TRIES - 1:
                break
            time.sleep(0.1 * 2**number)
        if response.is_error:
            raise TritonError(f"{path}: {response.status_code}, {response.text[:300].strip()}")
        return response


def score_pair(triton: Triton, image: Path, text: str, *, step: int = 16) -> float:
    """One pair by one request. Of a text over the model's context the beginning is scored:
    `mismatch.Predictor(triton)` does as the model was trained for.

    `step`: tokens to a multiple of which the text is padded. Triton batches only requests of equal
    shape, and the fewer shapes there are, the fuller they get.
    """
    pipeline = mismatch.Predictor(triton).pipeline
    ids, truncated = pipeline.tokenizer.encode([text])
    tokens = pipeline.tokenizer.pad(ids, truncated, step=step)
    return float(
        triton.scores(pipeline.preprocess(image)[None], tokens.input_ids, tokens.attention_mask)[0]
    )


def main() -> int:
    """From the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("image", nargs="?", type=Path)
    parser.add_argument("text", nargs="?")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of Triton's HTTP port")
    parser.add_argument(
        "--files",
        type=Path,
        required=True,
        help="repository/mismatch/1, with manifest.json and tokenizer.json",
    )
    parser.add_argument("--csv", type=Path, help="columns image_path and text")
    parser.add_argument("--image-base-path", default="")
    given = parser.parse_args()
    if (given.csv is None) == (given.text is None):
        parser.error("give an image and a text, or --csv")
    with httpx.Client(base_url=given.url, timeout=httpx.Timeout(60, connect=5)) as http:
        try:
            triton = Triton(http, given.files)
            if given.csv is None:
                score = score_pair(triton, given.image, given.text)
                print(
                    f"{score:.4f} "
                    f" {'match' if score >= triton.score.threshold_in_use else 'mismatch'}"
                )
            else:
                _score_rows(triton, given.csv, given.image_base_path)
        except (TritonError, httpx.TransportError, mismatch.MismatchError) as error:
            print(f"triton_client: {error}", file=sys.stderr)
            return 2
    return 0


def _score_rows(triton: Triton, path: Path, base: str) -> None:
    with path.open(newline="", encoding="utf-8") as file:
        writer = None
        for prediction in mismatch.Predictor(triton).predict_pairs(
            csv.DictReader(file), image_base_path=base
        ):
            row = asdict(prediction)
            if writer is None:
                writer = csv.DictWriter(sys.stdout, list(row))
                writer.writeheader()
            writer.writerow(row)


if __name__ == "__main__":
    sys.exit(main())
