"""The store's promises: nothing is lost, nothing wrong is reused, and every error names the file."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import datasets
import pyarrow as pa
import pytest

from restem_lib.records import Pair, Sample, to_table
from restem_lib.store import (
    MANIFEST,
    Shards,
    Stage,
    StoreError,
    digest,
    open_stage,
    seed_for,
    write_records,
)
from restem_lib.upkeep import delete_stage, stages

NAMES = [f"p0000{i}-0123abcd-s0000-0002.parquet" for i in range(3)]


def table(i: int = 0) -> pa.Table:
    return to_table([Sample(f"x/{i}", j, f"text {j}", 3, "eos") for j in range(2)], Sample)


def make(root: Path, **settings: object) -> Stage:
    return Stage(root, "sample", 1, {"task": "t", **settings})


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    made = make(tmp_path)
    with made.work():
        for i, name in enumerate(NAMES):
            made.write(name, table(i), 0.1)
    return made


def test_a_stage_is_named_by_all_that_determines_it(tmp_path: Path) -> None:
    names = {
        make(tmp_path).name,
        make(tmp_path, seed=1).name,
        Stage(tmp_path, "sample", 2, {"task": "t"}).name,
        Stage(tmp_path, "score", 1, {"task": "t"}).name,
    }
    assert len(names) == 4
    assert make(tmp_path / "elsewhere").name in names


def test_the_names_of_stages_do_not_change_between_versions_of_the_code(tmp_path: Path) -> None:
    assert (
        Stage(tmp_path, "sample", 1, {"b": [1, 0.5, "é"], "a": None}).name
        == "sample-5633386ec87c5b0c"
    )


def test_seeds_depend_on_their_parts_alone() -> None:
    assert seed_for(0, "t", "e-step-1", 3, 16) == seed_for(0, "t", "e-step-1", 3, 16)
    assert len({seed_for(0, "t", "e-step-1", p, s) for p in range(20) for s in range(20)}) == 400
    assert 0 <= seed_for("x") < 2**63


def test_records_come_back_as_written(stage: Stage) -> None:
    records = list(Shards(stage, tuple(NAMES)).records(Sample))
    assert records[2] == Sample("x/1", 0, "text 0", 3, "eos")
    assert len(records) == 6


def test_the_hub_library_opens_a_shard(stage: Stage, tmp_path: Path) -> None:
    rows = datasets.Dataset.from_parquet(
        str(stage.folder / NAMES[0]), cache_dir=str(tmp_path / "c")
    )
    assert rows.column_names == ["problem_id", "index", "text", "tokens", "finish"]


def test_equal_records_give_equal_bytes(stage: Stage, tmp_path: Path) -> None:
    other = make(tmp_path / "other")
    with other.work():
        other.write(NAMES[0], table(0), 9.9)
    assert (other.folder / NAMES[0]).read_bytes() == (stage.folder / NAMES[0]).read_bytes()


def test_a_shard_of_other_records_is_refused(stage: Stage) -> None:
    with pytest.raises(StoreError, match=f"{NAMES[0]}.*not those of Pair"):
        list(Shards(stage, (NAMES[0],)).records(Pair))


@pytest.mark.parametrize("harm", ["truncate", "flip", "empty"])
def test_a_damaged_shard_is_never_reused(stage: Stage, harm: str) -> None:
    path = stage.folder / NAMES[1]
    data = bytearray(path.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 1
    path.write_bytes(
        data[: len(data) // 2] if harm == "truncate" else b"" if harm == "empty" else data
    )
    with pytest.raises(StoreError, match=f"{NAMES[1]} is damaged"):
        stage.read(NAMES[1])
    path.unlink()  # what the message advises
    assert stage.missing(NAMES) == [NAMES[1]]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"shards": {}}', '{"checksum": 1, "shards": {}}'])
def test_a_damaged_manifest_is_named(stage: Stage, text: str) -> None:
    (stage.folder / MANIFEST).write_text(text)
    with pytest.raises(StoreError, match=r"manifest\.json is damaged"):
        stage.missing(NAMES)


def test_a_changed_manifest_is_noticed(stage: Stage) -> None:
    path = stage.folder / MANIFEST
    path.write_text(path.read_text().replace('"rows": 2', '"rows": 3', 1))
    with pytest.raises(StoreError, match="checksum differs"):
        stage.shards()


@pytest.mark.parametrize("name", ["notes.txt", "mine.parquet", "model2"])
def test_a_foreign_file_is_named(stage: Stage, name: str) -> None:
    (stage.folder / name).write_text("hello")
    with pytest.raises(StoreError, match=f"{name} does not belong"), stage.work():
        pass
    assert (stage.folder / name).read_text() == "hello"


def test_a_shard_that_the_manifest_does_not_list_is_made_anew(stage: Stage) -> None:
    left = stage.folder / "p00009-0123abcd-s0000-0002.parquet"
    shutil.copy(stage.folder / NAMES[0], left)  # as a kill between rename and manifest leaves it
    with stage.work():
        assert stage.missing([left.name]) == [left.name]


def test_half_written_files_are_cleared_away(stage: Stage) -> None:
    (stage.folder / ".tmp-p00009-0123abcd-s0000-0002.parquet").write_text("half")
    (stage.folder / ".tmp-model").mkdir()
    with stage.work():
        assert not list(stage.folder.glob(".tmp-*"))


def test_a_folder_is_whole_or_not_there(stage: Stage) -> None:
    def save(folder: Path) -> None:
        folder.mkdir()
        (folder / "a").write_text("1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), stage.work():
        stage.write_folder("model", save, 0.0)
    assert not stage.has_folder("model")
    assert not (stage.folder / "model").exists()


def test_a_damaged_file_of_a_folder_is_named(stage: Stage) -> None:
    def save(folder: Path) -> None:
        folder.mkdir()
        (folder / "weights").write_text("1")

    with stage.work():
        stage.write_folder("model", save, 0.0)
    assert stage.read_folder("model") == stage.folder / "model"
    (stage.folder / "model" / "weights").write_text("2")
    with pytest.raises(StoreError, match="model/weights is damaged"):
        stage.read_folder("model")


def run(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


SLOW_WORK = """
    import sys, time
    from pathlib import Path
    from restem_lib.records import Sample, to_table
    from restem_lib.store import Stage
    stage = Stage(sys.argv[1], "sample", 1, {"task": "t"})
    with stage.work():
        for name in stage.missing(sys.argv[3:]):
            time.sleep(float(sys.argv[2]))
            stage.write(name, to_table([Sample("x", 0, "t", 1, "eos")], Sample), 0.0)
            print("made", name, flush=True)
"""


@pytest.mark.slow
def test_two_processes_do_the_work_once(tmp_path: Path) -> None:
    first = run(SLOW_WORK, tmp_path, 1.5, *NAMES)
    assert first.stdout is not None
    begun = first.stdout.readline()
    both = [first, run(SLOW_WORK, tmp_path, 1.5, *NAMES)]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum(text.count("made") for text in (begun, outputs[0][0])) == len(NAMES)
    assert f"waiting for process {first.pid} on" in outputs[1][0]
    assert "made" not in outputs[1][0]


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    process = run(SLOW_WORK, tmp_path, 0.3, *NAMES)
    assert process.stdout is not None
    assert process.stdout.readline() == f"made {NAMES[0]}\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    stage = make(tmp_path)
    start = time.monotonic()
    with stage.work():
        assert NAMES[0] not in stage.missing(NAMES)
    assert time.monotonic() - start < 5


def test_a_stage_in_use_is_not_deleted(tmp_path: Path) -> None:
    stage = make(tmp_path)
    with stage.work():
        stage.write(NAMES[0], table(), 0.0)
        found = run(
            "import sys; from pathlib import Path; from restem_lib.upkeep import delete_stage;"
            "delete_stage(sys.argv[1], Path(sys.argv[2]))",
            tmp_path,
            stage.folder,
        )
        _, errors = found.communicate(timeout=60)
        assert f"in use by process {os.getpid()}" in errors
    delete_stage(tmp_path, stage.folder)
    assert stages(tmp_path) == []


def test_a_store_lists_its_stages(stage: Stage, tmp_path: Path) -> None:
    assert [open_stage(folder).name for folder in stages(tmp_path)] == [stage.name]
    (stage.folder / "key.json").write_text("{")
    with pytest.raises(StoreError, match=r"key\.json is missing or damaged"):
        open_stage(stage.folder)


def test_a_store_on_a_read_only_place_is_named() -> None:
    with pytest.raises(StoreError, match=r"cannot write /proc/stages"), make(Path("/proc")).work():
        pass


def test_a_full_disk_loses_only_the_shard_in_work(tmp_path: Path) -> None:
    # A limit on the size of files fails writes as a full disk does: short, and in the middle of a shard.
    code = """
        import resource, sys
        from restem_lib.records import Sample, to_table
        from restem_lib.store import Stage, StoreError
        import random
        stage = Stage(sys.argv[1], "sample", 1, {"task": "t"})
        rng = random.Random(0)
        big = to_table([Sample(str(i), 0, rng.randbytes(200).hex(), 1, "eos") for i in range(3000)], Sample)
        with stage.work():
            stage.write(sys.argv[2], big.slice(0, 2), 0.0)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
            try:
                stage.write(sys.argv[3], big, 0.0)
            except StoreError as error:
                print(error)
    """
    text, errors = run(code, tmp_path, *NAMES[:2]).communicate(timeout=60)
    assert f"cannot write {make(tmp_path).folder / NAMES[1]}" in text, errors
    stage = make(tmp_path)
    assert stage.missing(NAMES[:2]) == [NAMES[1]]
    assert not list(stage.folder.glob(".tmp-*"))
    assert stage.read(NAMES[0]).num_rows == 2


def test_digests_are_of_values_not_of_their_order() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest(float("nan"))


def test_an_empty_shard_keeps_its_columns(stage: Stage) -> None:
    with stage.work():
        write_records(stage, "pairs.parquet", [], Pair, 0.0)
    assert list(Shards(stage, ("pairs.parquet",)).records(Pair)) == []
