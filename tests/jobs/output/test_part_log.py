"""mismatch.jobs.output.part_log: which parts are done, in a folder and in a store, however a run ended; and
one run at a time.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mismatch.errors import CheckpointError, InputError
from mismatch.io.atomic import atomic_binary
from mismatch.io.reading import read_json
from mismatch.io.remote import Remote
from mismatch.jobs.output.part_log import Block, ObjectLog, PartLog, foreign

RUN = {"the model": ["c0ffee"], "--block-rows": 2}


@pytest.fixture(params=["folder", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | Remote:
    """An empty place for parts."""
    if request.param == "folder":
        return tmp_path
    pytest.importorskip(
        "fsspec", reason='fsspec is not installed; pip install "mismatch-clip[remote]"'
    )
    return (
        Remote.of("memory://shop") / tmp_path.name
        if request.param == "memory"
        else request.getfixturevalue("s3") / tmp_path.name
    )


def put(place: Path | Remote, name: str, data: bytes) -> None:
    with atomic_binary(place / name) as file:
        file.write(data)


def names(place: Path | Remote) -> list[str]:
    return sorted(os.listdir(place) if isinstance(place, Path) else place.listing())


def block(number: int, place: Path | Remote) -> Block:
    put(place, f"part-{number:05}.parquet", b"rows")
    return Block(
        number=number,
        part=f"part-{number:05}.parquet",
        bytes=4,
        rows=2,
        failed=1,
        long_texts=0,
        worker="here:1",
    )


def kill(log: PartLog) -> None:
    """Leave things as a process does that ends at once: the kernel closes its files."""
    if isinstance(log.folder, Path):
        log.close()


def test_a_journal_knows_the_parts_that_are_whole(place: Path | Remote) -> None:
    log = PartLog(place, RUN, resume=False)
    for number in (2, 0, 1):
        log.add(block(number, place))
    log.close()
    put(place, "part-00001.parquet", b"half a row")
    if isinstance(place, Path):
        with (place / "progress.jsonl").open("a") as file:
            file.write('{"number": 3, "pa')
    again = PartLog(place, RUN, resume=True)
    assert sorted(again.blocks) == [0, 2]
    assert (again.total("rows"), again.total("failed")) == (4, 2)
    assert "part-00001.parquet" not in names(place)
    again.add(block(1, place))
    again.finish({"input": "rows.csv"})
    manifest = read_json(place / "manifest.json")
    assert [(part["first_row"], part["part"]) for part in manifest["parts"]] == [
        (1, "part-00000.parquet"),
        (3, "part-00001.parquet"),
        (5, "part-00002.parquet"),
    ]
    assert names(place) == ["manifest.json", *(f"part-{number:05}.parquet" for number in range(3))]
    whole = PartLog(place, RUN, resume=True)
    whole.close()
    assert sorted(whole.blocks) == [0, 1, 2]


def test_a_run_that_was_killed_is_gone_on_with_any_number_of_times(place: Path | Remote) -> None:
    for number in range(3):
        log = PartLog(place, RUN, resume=True)
        assert sorted(log.blocks) == list(range(number))
        log.add(block(number, place))
        kill(log)
    last = PartLog(place, RUN, resume=True)
    last.close()
    assert sorted(last.blocks) == [0, 1, 2]


def test_a_journal_of_another_run_or_a_changed_manifest_is_refused(place: Path | Remote) -> None:
    log = PartLog(place, RUN, resume=False)
    log.add(block(0, place))
    with pytest.raises(
        InputError, match=r"of another run, which differs in `block_rows` \(2 before, 3 now\)"
    ):
        PartLog(place, {**RUN, "--block-rows": 3}, resume=True)
    log.finish({})
    put(
        place,
        "manifest.json",
        json.dumps(read_json(place / "manifest.json")).replace('"rows": 2', '"rows": 3').encode(),
    )
    with pytest.raises(InputError, match="not what was written to it"):
        PartLog(place, RUN, resume=True)


def test_a_journal_begun_anew_removes_the_parts_of_an_earlier_run(place: Path | Remote) -> None:
    log = PartLog(place, RUN, resume=False)
    log.add(block(0, place))
    log.add(block(1, place))
    log.finish({})
    log = PartLog(place, RUN, resume=False)
    log.add(block(1, place))
    log.close()
    other = PartLog(place, {**RUN, "--block-rows": 3}, resume=False)
    other.close()
    assert other.blocks == {}
    assert names(place) == ["progress.jsonl" if isinstance(place, Path) else "_progress"]
    again = PartLog(place, {**RUN, "--block-rows": 3}, resume=True)
    again.close()
    assert again.blocks == {}


def test_a_part_that_somebody_has_changed_leaves_no_manifest(place: Path | Remote) -> None:
    log = PartLog(place, RUN, resume=False)
    for number in range(2):
        log.add(block(number, place))
    put(place, "part-00001.parquet", b"other rows")
    with pytest.raises(
        CheckpointError,
        match=r"part-00001.parquet was changed or removed by somebody else; continue with `resume=True`",
    ):
        log.finish({})
    log.close()
    assert "manifest.json" not in names(place)
    again = PartLog(place, RUN, resume=True)
    again.close()
    assert sorted(again.blocks) == [0]


def test_damaged_records_are_one_line(place: Path | Remote) -> None:
    log = PartLog(place, RUN, resume=False)
    log.close()
    put(
        place,
        "progress.jsonl" if isinstance(place, Path) else "_progress/ffff-0000000.jsonl",
        b'{"number": \n',
    )
    with pytest.raises(InputError, match="can't be used; leave `resume` out to begin again"):
        PartLog(place, RUN, resume=True)


def test_what_no_run_has_put_there_is_found(place: Path | Remote) -> None:
    log = PartLog(place, RUN, resume=False)
    log.add(block(0, place))
    log.close()
    assert foreign(place) == []
    put(place, "photos.zip", b"")
    assert foreign(place) == ["photos.zip"]


def test_in_a_store_a_run_that_writes_is_in_the_way_of_another_one(store: Remote) -> None:
    running = PartLog(store, RUN, resume=False)
    with pytest.raises(
        CheckpointError,
        match=(
            rf"_progress/writer says that .*:{os.getpid()} writes there; wait for it or, if it was"
            r" killed, continue with"
        ),
    ):
        PartLog(store, RUN, resume=False)
    running.add(block(0, store))
    running.close()
    PartLog(store, RUN, resume=False).close()


def test_in_a_store_whoever_resumes_takes_over_and_the_other_one_ends(store: Remote) -> None:
    slow = PartLog(store, RUN, resume=False)
    slow.add(block(0, store))
    new = PartLog(store, RUN, resume=True)
    assert sorted(new.blocks) == [0]
    part = block(1, store)
    with pytest.raises(CheckpointError, match=r"was taken over by .*; this run ends"):
        slow.add(part)
    slow.close()  # and leaves the other's claim
    new.add(part)
    new.finish({})
    assert len(read_json(store / "manifest.json")["parts"]) == 2


def test_records_of_a_store_are_gathered_when_a_run_goes_on(store: Remote) -> None:
    log = ObjectLog(store, resume=False)
    log.begin({"run": 1})
    for number in range(3):
        log.append({"number": number})
    wanted: list[Any] = [{"run": 1}, *({"number": number} for number in range(3))]
    assert log.read() == wanted
    assert len(store.listing()) == 5  # four, and who writes
    again = ObjectLog(store, resume=True)
    again.begin(*again.read())
    assert again.read() == wanted
    assert len(store.listing()) == 2
    again.remove()
    assert store.listing() == {}
