"""The page's modules by themselves, in Chromium, or in node where that is missing: CSV and zip
files read and written, paths matched with images.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser

FOLDER = Path(__file__).resolve().parents[2] / "mismatch" / "serving" / "page"
HOST = "http://page.test"  # is reached by no request: all are answered here
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def ran(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs an expression of a module's exports (m) and an argument (a); gives its value, or the
    message of its error.
    """
    node = shutil.which("node")
    if node is None or shutil.which("chromium") or shutil.which("chromium-browser"):
        yield from _in_chromium(request.getfixturevalue("chromium"))
    else:
        yield partial(_in_node, node)


def _in_node(node: str, module: str, expression: str, argument: Any = None) -> Any:
    lines = [
        f"import * as m from {json.dumps((FOLDER / f'{module}.js').as_uri())};",
        (
            "const read = async () => { let all = ''; for await (const part of process.stdin) all"
            " += part; return all; };"
        ),
        "const a = JSON.parse(await read());",
        f"const value = await (async () => {expression})().catch(error => error.message);",
        "console.log(JSON.stringify(value ?? null));",
    ]
    program = [
        node,
        "--no-warnings",
        "--experimental-default-type=module",
        "--input-type=module",
        "--eval",
        "\n".join(lines),
    ]
    done = subprocess.run(
        program,
        input=json.dumps(argument),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


def _in_chromium(chromium: Any) -> Iterator[Run]:

    def answer(route: Any) -> None:
        path = FOLDER / route.request.url.rpartition("/")[2]
        (
            route.fulfill(path=path, content_type="text/javascript")
            if path.suffix == ".js"
            else route.fulfill(body="", content_type="text/html")
        )

    tab = chromium.new_page()
    tab.route("**/*", answer)
    tab.goto(HOST)

    def run(module: str, expression: str, argument: Any = None) -> Any:
        code = (
            f"async a => {{ const m = await import('/{module}.js'); try {{ return await"
            f" ({expression}); }} catch (error) {{ return error.message; }} }}"
        )
        return tab.evaluate(code, argument)

    yield run
    tab.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n1,2\n", [["a", "b"], [1, "1", "2"]]),
        ("\ufeffa,b\r\n1,2", [["a", "b"], [1, "1", "2"]]),
        ("a\r1\r\r2\r", [["a"], [1, "1"], [3, "2"]]),
        ('a,b\n"x\n""y""",\n,z\n', [["a", "b"], [1, 'x\n"y"', ""], [3, "", "z"]]),
        ('a\n\n""\n', [["a"], [2, ""]]),
        ("a;b\n1,5;2\n", [["a", "b"], [1, "1,5", "2"]]),
        ('a\tb\n"1\t2"\t3\n', [["a", "b"], [1, "1\t2", "3"]]),
        ('a,b\n5" x,2\n', [["a", "b"], [1, '5" x', "2"]]),
        ('"a;b",c\n1,2,\n', [["a;b", "c"], [1, "1", "2", ""]]),
        ('a,b\n"x,2\n', "the quote that begins on line 2 is never closed"),
        (
            'a,b\n"x"y,2\n',
            "line 2: characters stand after a closing quote; write a quote inside a field twice",
        ),
        ("", "the CSV is empty"),
    ],
)
def test_csv_is_read_as_python_reads_it(ran: Run, text: str, expected: Any) -> None:
    found = ran(
        "csv",
        "(found => [found.header, ...found.rows.map(({line, cells}) => [line - 1,"
        " ...cells])])(m.parse(a))",
        text,
    )
    assert found == expected
    if not isinstance(expected, str) and ";" not in text and "\t" not in text:
        assert [
            row for row in csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")) if row
        ] == [found[0], *(row[1:] for row in found[1:])]


def test_csv_is_written_so_that_python_reads_the_same(ran: Run) -> None:
    rows = [["a", "b"], ['x "y"', "1,2"], ["line\r\nend", ""], [" edge ", ";"], ["", "é"]]
    assert list(csv.reader(io.StringIO(ran("csv", "m.format(a)", rows), newline=""))) == rows
    cells = ["=1", "+1", "-1e3", "- x", "@a", "\tx", "a=1", "+a"]
    assert ran("csv", "a.map(m.guarded)", cells) == [
        "'=1",
        "+1",
        "-1e3",
        "'- x",
        "'@a",
        "'\tx",
        "a=1",
        "'+a",
    ]


@pytest.mark.parametrize(
    ("encoding", "said"), [("utf-8", "utf-8"), ("utf-16", "utf-16le"), ("cp1252", "windows-1252")]
)
def test_csv_in_other_encodings(ran: Run, encoding: str, said: str) -> None:
    assert ran("csv", "m.decode(new Uint8Array(a).buffer)", list("prix,é".encode(encoding))) == {
        "text": "prix,é",
        "encoding": said,
    }


READ = (
    "(async () => { const found = []; for (const entry of await m.entriesOf(new Blob([new"
    " Uint8Array(a)]))) found.push([entry.path, %s]); return found; })()"
)
TEXT = "await entry.read(100).then(blob => blob.text(), error => error.message)"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zips_are_read(ran: Run, method: int) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        archive.mkdir("folder")
        archive.writestr("folder/é.txt", "hello " * 10)
        archive.writestr("large.txt", "x" * 101)
        archive.comment = b"PK\x05\x06 a comment that looks like an end"
    found = ran("zip", READ % TEXT, list(held.getvalue()))
    assert found == [["folder/é.txt", "hello " * 10], ["large.txt", "it has more than 100 bytes"]]


def test_zips_that_lie_are_stopped(ran: Run) -> None:
    def changed(name: str, at: int, value: bytes, content: bytes = b"x" * 5000) -> Any:
        """A zip of one file with other bytes in its table of contents."""
        held = io.BytesIO()
        with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
        data = bytearray(held.getvalue())
        start = data.index(b"PK\x01\x02") + at
        data[start : start + len(value)] = value
        return ran("zip", READ % TEXT, list(data))

    assert changed("bomb", 24, (50).to_bytes(4, "little")) == [
        ["bomb", "it has more than 100 bytes"]
    ], "its table claims 50"
    assert changed("a", 8, b"\x01\x00", b"x") == [["a", "it is encrypted in the zip"]]
    assert changed("a", 10, b"\x0c\x00", b"x") == [
        ["a", "it is packed by method 12; zip again with Deflate"]
    ]
    assert changed("a", 16, b"\0\0\0\0", b"x") == [["a", "it is damaged in the zip"]], (
        "its checksum"
    )
    assert changed("a", 10, b"\0\0", b"x") == [["a", "it is damaged in the zip"]], (
        "it is stored, and of another size than it says"
    )
    assert changed("a", 42, b"\x05\0\0\0", b"x") == [["a", "it is damaged in the zip"]], "its place"
    assert changed("a", 0, b"nope", b"x") == "the zip’s table of contents is damaged"
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("a", "x")
    assert (
        ran("zip", READ % "0", list(held.getvalue()[:-5]))
        == "the file is no zip, or it is cut short"
    )


CHOSEN = (
    "const found = new m.Pictures(); for (const path of a[0]) found.add(path, null); return"
    " found.find(a[1]).path;"
)


@pytest.mark.parametrize(
    ("paths", "wanted", "expected"),
    [
        (["a/1.jpg", "b/1.jpg"], "b/1.jpg", "b/1.jpg"),
        (["/shop/a/1.jpg", "/shop/b/1.jpg"], "./b/1.jpg", "shop/b/1.jpg"),
        (["1.jpg"], "https:/host/images/1.jpg", "1.jpg"),
        (["x\\1.JPG"], "1.jpg", "x/1.JPG"),
        (["a/cafe\u0301.png"], "caf\u00e9.png", "a/caf\u00e9.png"),
        (["A.png", "a.png"], "a.png", "a.png"),
        (["a/1.jpg", "b/1.jpg"], "1.jpg", "2 images have this name; write more of the path"),
        (["a/1.jpg", "b/1.jpg"], "c/1.jpg", "no image of this path was chosen"),
        (["bags/1.jpg"], "shoes/1.jpg", "no image of this path was chosen"),
        (["bags/1.jpg"], "SHOES/1.JPG", "no image of this path was chosen"),
        (["bags/1.jpg"], "ags/1.jpg", "no image of this path was chosen"),
        (["bags/1.jpg"], "x/y/Bags/1.JPG", "bags/1.jpg"),
        (["shop/bags/1.jpg"], "home/bags/1.jpg", "no image of this path was chosen"),
        (["1.jpg", "x/1.JPG"], "x/1.jpg", "x/1.JPG"),
        (["1.jpg", "b/1.jpg"], "a/b/1.jpg", "b/1.jpg"),
        (["a/1.jpg", "a/1.jpg"], "a/1.jpg", "2 images have this name; write more of the path"),
        (["1.jpg"], "/1.jpg", "1.jpg"),
        (["1.jpg"], "11.jpg", "no image of this path was chosen"),
        (["1.jpg"], "  ", "the row names no image"),
    ],
)
def test_a_path_means_an_image(ran: Run, paths: list[str], wanted: str, expected: str) -> None:
    assert ran("pictures", f"(() => {{ {CHOSEN} }})()", [paths, wanted]) == expected


EXPECTED = (
    "(() => { const found = new m.Pictures(); found.add(a[0], null); found.expect(a[1]); return"
    " found.find(a[2]).path; })()"
)


@pytest.mark.parametrize(
    ("rows", "wanted", "given"),
    [
        (["bags/1.jpg", "shoes/1.jpg"], "bags/1.jpg", False),
        (["bags/1.jpg", "shoes/1.jpg", "1.jpg"], "1.jpg", True),
        (["bags/1.jpg", "Shoes/1.JPG"], "Shoes/1.JPG", False),
        (["bags/1.jpg", "x/bags/1.jpg", "./bags/1.jpg"], "bags/1.jpg", True),
        (["bags/1.jpg", "bags/1.jpg", "bags/2.jpg"], "bags/1.jpg", True),
        (["1.jpg", "bags/1.jpg"], "bags/1.jpg", False),
        (["1.jpg", "bags/1.jpg"], "1.jpg", True),
    ],
)
def test_one_image_is_not_given_to_rows_of_two_folders(
    ran: Run, rows: list[str], wanted: str, given: bool
) -> None:
    found = ran("pictures", EXPECTED, ["1.jpg", rows, wanted])
    assert (found == "1.jpg") is given
    assert given or "rows of several folders mean this image" in found


def test_images_of_one_name_and_deep_paths_take_no_longer(ran: Run) -> None:
    many = (
        "const p = new m.Pictures(); for (let i = 0; i < 30000; i += 1) p.add(`d${i}/1.jpg`, null);"
    )
    rows = "p.expect(Array.from({length: 30000}, (_, i) => `x/d${i}/1.jpg`));"
    deep = "p.add('a/'.repeat(30000) + '2.jpg', null);"
    find = (
        "return [p.find('d7/1.jpg').path, p.find('y/d29999/1.jpg').path,"
        " p.find('a/a/2.jpg').path.length, p.find('/'.repeat(1e5) + 'd7/1.jpg').path];"
    )
    assert ran("pictures", f"(() => {{ {many} {rows} {deep} {find} }})()") == [
        "d7/1.jpg",
        "d29999/1.jpg",
        60_005,
        "d7/1.jpg",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("'a,' + ','.repeat(5000)", "line 1 has more than 4,096 fields"),
        ("'a,b\\n1,2\\n' + ','.repeat(5000)", "line 3 has more than 4,096 fields"),
        ("'a\\n' + '1\\n'.repeat(1000001)", "the CSV has more than 1,000,000 rows; split it"),
        ("'a\\n' + '\\n'.repeat(3000000) + '1'", [3_000_002]),
    ],
)
def test_csvs_that_no_page_can_show_are_refused(ran: Run, text: str, said: Any) -> None:
    assert ran("csv", f"(() => m.parse({text}).rows.map(row => row.line))()") == said


ADDED = ["similarity_score", "threshold", "prediction", "status"]
CHECKED = {"similarity_score": 0.5, "threshold": 0.4, "prediction": "match", "status": "ok"}


def test_columns_of_the_users_own_stay_under_another_name(ran: Run) -> None:
    sheet = {"header": ["image_path", "status", "text", "input_status"]}
    rows = [{"cells": ["1.png", "sold", "red", "new"], "answer": CHECKED}]
    assert ran("table", "m.records(a[0], a[1])", [rows, sheet]) == [
        ["image_path", "input_input_status", "text", "input_status", *ADDED],
        ["1.png", "sold", "red", "new", 0.5, 0.4, "match", "ok"],
    ]


def test_an_earlier_download_can_be_checked_again(ran: Run) -> None:
    sheet = {"header": ["image_path", "text", *ADDED]}
    rows = [{"cells": ["1.png", "red", "0.1", "0.2", "match", "old"], "answer": CHECKED}]
    expected = [
        ["image_path", "text", "similarity_score", "threshold", "prediction", "status"],
        ["1.png", "red", 0.5, 0.4, "match", "ok"],
    ]
    assert ran("table", "m.records(a[0], a[1])", [rows, sheet]) == expected
