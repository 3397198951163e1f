"""Pictures are kept of images that were in memory, and of no others."""

from __future__ import annotations

from pathlib import Path

from mismatch.jobs.kept_pictures import kept_picture, temporary_folder
from mismatch.jobs.options import RowSettings, open_rows


def test_only_images_in_the_temporary_folder_are_kept(colour_images: Path) -> None:
    data = (colour_images / "red.png").read_bytes()
    rows = [
        {"image": data, "text": "red"},
        {"image": str(colour_images / "blue.png"), "text": "blue"},
    ]
    with open_rows(rows, RowSettings()) as source:
        folder = temporary_folder(rows, source)
        assert folder is not None
        [written] = [path for path in folder.iterdir() if path.suffix != ".jsonl"]
        picture = kept_picture(str(written), source.base, folder)
        assert picture is not None
        assert picture.name == written.name
        assert picture.data_url.startswith("data:image/jpeg;base64,")
        assert kept_picture(str(colour_images / "blue.png"), source.base, folder) is None
        assert kept_picture(str(folder / "gone"), source.base, folder) is None


def test_a_file_of_rows_has_no_temporary_folder(tmp_path: Path, colour_images: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("image_path,text\n")
    with open_rows(file, RowSettings()) as source:
        assert temporary_folder(file, source) is None
    assert kept_picture("red.png", str(colour_images), None) is None
