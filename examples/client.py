"""Ask a `mismatch serve` whether texts describe images, over HTTP. Needs httpx alone: pip install
httpx

    python client.py photo.jpg "Red leather handbag"
    python client.py photos/ "Red leather handbag"
    python client.py --csv pairs.csv --image-base-path photos/ > answers.csv

A bearer token, where the service wants one, stands in the environment variable MISMATCH_TOKEN:
other users of a machine see the words of a command.
"""

from __future__ import annotations

import argparse
import base64
import csv
import io
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

IMAGES = {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
BASE64 = 4 / 3  # characters a byte
SPARE = 2**16  # bytes of a request's body apart from its images and texts
FOREIGN = "its answer is not one of a mismatch service; check --url"


@dataclass(frozen=True)
class Pair:
    """An image and what it is said to show."""

    image: Path
    text: str


@dataclass(frozen=True)
class Answer:
    """What the service says of a pair."""

    # probability of a match 0..1; None for a pair that can't be scored
    similarity_score: float | None
    threshold: float | None
    is_match: bool | None
    prediction: str  # match, mismatch, review or error
    status: str  # ok, or why there is no score
    model_id: str = ""


class ServiceError(Exception):
    """A refusal: its status and, in words, why."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status


class Client:
    """A connection to the service. Keeps connections open, so use one for many pairs, and close it,
    or use it as a context manager.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 60,
        tries: int = 5,
        longest_wait: float = 30,
    ) -> None:
        """`timeout`: seconds for an answer, more than the service's --deadline; `tries`: of a
        request that the service has no room for.

        `longest_wait`: seconds before another try, whatever the service asks for. ValueError for a
        URL that names no host.
        """
        if not urlsplit(url).hostname:
            raise ValueError(f"{url!r} names no host; a URL as http://127.0.0.1:8000 is needed")
        bearer = f"Bearer {token}".encode("utf-8", "surrogateescape")  # the variable's very bytes
        headers = {b"authorization": bearer} if token else {}
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=httpx.Timeout(timeout, connect=5)
        )
        self._tries, self._longest_wait = tries, longest_wait

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def model(self) -> dict[str, Any]:
        """What is being served: threshold, calibration, limits and more."""
        return dict(self._send("GET", "/v1/model").json())

    def predict(self, image: Path | bytes, text: str) -> Answer:
        """One pair, as a form. ServiceError where the service refuses it, OSError where there is no
        such file.
        """
        data = image if isinstance(image, bytes) else image.read_bytes()
        return _answer(
            self._send(
                "POST", "/v1/predict", files={"image": ("image", data)}, data={"text": text}
            ).json()
        )

    def predict_pairs(self, pairs: Iterable[Pair]) -> Iterator[Answer]:
        """One answer a pair, in their order, in requests as large as the service takes them; each
        image and each text once in a request.

        What is wrong with one pair (no such file, no image, an empty text) is its status and stops
        no other.
        """
        try:
            limits = self.model()["limits"]
            max_pairs, max_body = int(limits["max_pairs"]), int(limits["max_body"])
        except (KeyError, TypeError, ValueError):
            raise ServiceError(200, FOREIGN) from None
        for group in _groups(pairs, max_pairs, max_body - SPARE):
            yield from self._predict_group(group)

    def _predict_group(self, group: list[tuple[Pair, bytes | None]]) -> Iterator[Answer]:
        """The answer to each; where the service refuses them together, they are sent one by one."""
        sent = [(pair, data) for pair, data in group if data is not None]
        try:
            answers = iter(
                self._batch(sent)
                if len(sent) > 1
                else [self._alone(pair, data) for pair, data in sent]
            )
        except ServiceError as error:
            if error.status == 504 and len(group) > 1:  # more than the service does by its deadline
                half = len(group) // 2
                yield from self._predict_group(group[:half])
                yield from self._predict_group(group[half:])
                return
            if error.status not in (400, 413, 422):
                raise
            answers = iter([self._alone(pair, data) for pair, data in sent])
        for pair, data in group:
            yield (
                next(answers)
                if data is not None
                else _error(f"image '{pair.image}' can't be read; check its path")
            )

    def _batch(self, pairs: list[tuple[Pair, bytes]]) -> list[Answer]:
        images = {
            data: f"i{number}"
            for number, data in enumerate(dict.fromkeys(data for _, data in pairs))
        }
        texts = {
            text: f"t{number}"
            for number, text in enumerate(dict.fromkeys(pair.text for pair, _ in pairs))
        }
        question = {
            "images": {name: base64.b64encode(data).decode() for data, name in images.items()},
            "texts": {name: text for text, name in texts.items()},
            "pairs": [{"image": images[data], "text": texts[pair.text]} for pair, data in pairs],
        }
        found = self._send("POST", "/v1/predict/batch", json=question).json()
        answers = found.get("answers") if isinstance(found, dict) else None
        if not isinstance(answers, list) or len(answers) != len(pairs):
            raise ServiceError(200, FOREIGN)
        return [_answer(one) for one in answers]

    def _alone(self, pair: Pair, data: bytes) -> Answer:
        try:
            return self.predict(data, pair.text)
        except ServiceError as error:
            if error.status not in (400, 413, 422):
                raise
            return _error(str(error))

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Again, as late as `Retry-After` says, where the service has no room (503) or can't be
        reached: a pair's score has no side effect.
        """
        for number in range(1, self._tries + 1):
            try:
                response = self._http.request(method, path, **more)
            except (
                httpx.ConnectError,
                httpx.ConnectTimeout,
                httpx.RemoteProtocolError,
                httpx.ReadError,
            ):
                if number == self._tries:
                    raise
                wait = 2.0 ** (number - 1)
            else:
                if response.status_code != 503 or number == self._tries:
                    break
                wait = retry_after(response.headers.get("retry-after", ""), 2.0 ** (number - 1))
            time.sleep(min(wait, self._longest_wait))
        if response.is_error:
            raise ServiceError(response.status_code, _detail(response))
        if response.headers.get("content-type", "").partition(";")[0] != "application/json":
            raise ServiceError(response.status_code, FOREIGN)
        return response


def retry_after(said: str, otherwise: float) -> float:
    """Seconds: the header is a number of them or a date (RFC 9110)."""
    if said.isascii() and said.isdigit():
        return float(said)
    try:
        at = parsedate_to_datetime(said)
    except ValueError:
        return otherwise
    return max(
        0.0, ((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()
    )


def _groups(
    pairs: Iterable[Pair], most: int, size: int
) -> Iterator[list[tuple[Pair, bytes | None]]]:
    """Pairs with their images' bytes (None where a file can't be read), at most `most` and about
    `size` bytes of JSON together.
    """
    group: list[tuple[Pair, bytes | None]] = []
    held: set[bytes | str] = set()
    used = 0.0
    for pair in pairs:
        data = _read(pair.image)
        new: set[bytes | str] = {pair.text} if data is None else {data, pair.text}
        more = sum(_size(one) for one in new - held)
        if group and (len(group) == most or used + more > size):
            yield group
            group, held, used = [], set(), 0.0
            more = sum(map(_size, new))
        group.append((pair, data))
        held |= new
        used += more
    if group:
        yield group


def _size(part: bytes | str) -> float:
    """Bytes that it takes in JSON, at most: six a letter that isn't ASCII."""
    return len(part) * (BASE64 if isinstance(part, bytes) else 1 if part.isascii() else 12)


def _read(path: Path) -> bytes | None:
    """The bytes of a file; None where there is none. A pipe or a device might never end."""
    try:
        return path.read_bytes() if path.is_file() else None
    except (OSError, ValueError):  # ValueError: a path with a NUL
        return None


def _answer(found: Any) -> Answer:
    """What the service says; fields that later services add are left out."""
    try:
        return Answer(
            **{name: found[name] for name in Answer.__dataclass_fields__ if name in found}
        )
    except TypeError:
        raise ServiceError(200, FOREIGN) from None


def _error(status: str) -> Answer:
    return Answer(None, None, None, "error", status)


def _detail(response: httpx.Response) -> str:
    """The sentence of a problem document (RFC 9457), or the beginning of whatever it is."""
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]


def main() -> int:
    """From the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("image", nargs="?", type=Path, help="an image, or a folder of them")
    parser.add_argument("text", nargs="?", type=_text)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--csv", type=Path, help="columns image_path and text")
    parser.add_argument("--image-base-path", type=Path, default=Path())
    given = parser.parse_args()
    if isinstance(sys.stdout, io.TextIOWrapper):  # of a file's name that is no UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    if (given.csv is None) == (given.text is None):
        parser.error("give an image or a folder and a text, or --csv")
    try:
        with Client(given.url, token=os.environ.get("MISMATCH_TOKEN")) as client:
            if given.csv is None and not given.image.is_dir():
                answer = client.predict(given.image, given.text)
                print(
                    answer.status
                    if answer.similarity_score is None
                    else f"{answer.similarity_score:.4f}  {answer.prediction}"
                )
            else:
                _write(
                    client,
                    (
                        _pairs_of_csv(given.csv, given.image_base_path)
                        if given.csv
                        else _pairs_of_folder(given.image, given.text)
                    ),
                )
    except (ServiceError, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        print(f"client: {str(error) or type(error).__name__}", file=sys.stderr)
        return 2
    return 0


def _text(word: str) -> str:
    try:
        word.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError("it is not in UTF-8; write it in that encoding") from None
    return word


def _pairs_of_csv(path: Path, base: Path) -> list[Pair]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        try:
            names = rows.fieldnames or []
            if len(set(names)) < len(names):
                raise ValueError(f"{path}: two columns have one name; rename one")
            return [_pair(row, base, f"{path}:{rows.line_num}") for row in rows]
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not in UTF-8; save it in that encoding") from None
        except csv.Error as error:
            raise ValueError(f"{path}:{rows.line_num + 1}: {error}; mend the row") from None


def _pair(row: dict[Any, Any], base: Path, place: str) -> Pair:
    image, text = row.get("image_path"), row.get("text")
    if None in row:  # where DictReader puts what is behind the header's columns
        raise ValueError(
            f"{place}: the row has more fields than the header; put a text with commas in quotes"
        )
    if image is None or text is None:
        missing = "text" if image is not None else "image_path"
        raise ValueError(
            f"{place}: the row has no {missing}; columns image_path and text are needed"
        )
    path = base / image
    if not _lies_in(base, path):
        raise ValueError(f"{place}: '{image}' lies outside of {base}, and is not sent")
    return Pair(path, text)


def _lies_in(base: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(base.resolve())
    except ValueError:  # a NUL: such a file can't be read either
        return True


def _pairs_of_folder(folder: Path, text: str) -> list[Pair]:
    return [Pair(path, text) for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGES]


def _write(client: Client, pairs: list[Pair]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(["image_path", "text", *Answer.__dataclass_fields__])
    for pair, answer in zip(pairs, client.predict_pairs(pairs), strict=True):
        writer.writerow([pair.image, pair.text, *asdict(answer).values()])


if __name__ == "__main__":
    sys.exit(main())
