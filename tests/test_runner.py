"""The runner's promises: strict before any work, one failure stops nobody, its own record is right."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from filelock import FileLock

from restem_lib import claims
from restem_lib.config import PROJECT, Config
from restem_lib.keys import ConfigError, parse_yaml
from restem_lib.runner import NotebookError, declared, outcome, plan, publish, publishing, run
from restem_lib.runner.running import duration

CODE = plan._code
PARAMETERS = """\
# what this notebook uses
seeds = [0]
learning_rate = 1e-4
out_dir = "{out_dir}"
"""
GOOD = """\
import os, sys
from pathlib import Path
from ipykernel import get_connection_info
print(Path.cwd().name, os.environ["TQDM_DISABLE"], os.environ["PYTHONHASHSEED"])
print(get_connection_info(unpack=True)["transport"])
print(type(seeds).__name__, type(learning_rate).__name__, learning_rate)
"""
FOUND = "print('pass@1 | rose'); print('n = 3')"
JUDGED = claims.Verdict("C1", "x", claims.HOLDS, "", 0.05, 0.02, 0.08, 9, 5, 0.001, 0.0, "+6", "")
"""A verdict, but for its notebook."""
JUDGE = """\
from pathlib import Path
path = Path(out_dir) / "results" / "claims" / "{name}.csv"
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text({text!r})
"""
WRITE = """\
from pathlib import Path
for kind in ("results", "figures"):
    (Path(out_dir) / kind).mkdir(parents=True, exist_ok=True)
    (Path(out_dir) / kind / "new.csv").write_text("1\\n")
"""
SLOW = """\
import os, time
from pathlib import Path
(Path(out_dir) / "pid").write_text(str(os.getpid()))
time.sleep(60)
"""

TRAINING = """\
import os, time
from pathlib import Path
from restem_lib.training import _stop_asked
def train(folder):
    with _stop_asked() as asked:
        (Path(folder) / "pid").write_text(str(os.getpid()))
        while not asked():
            time.sleep(0.05)
        time.sleep(9)
        (Path(folder) / "checkpoint").touch()
"""
"""As an M-step ends whose checkpoint takes longer than Jupyter gives a kernel by default."""


HERE = TRAINING + "train(out_dir)\n"
APART = f"""\
import sys
from pathlib import Path
from restem_lib.executors import in_own_process
folder = Path(out_dir).resolve()
(folder / "m_step.py").write_text({TRAINING!r})
sys.path.insert(0, str(folder))
import m_step
in_own_process(m_step.train, str(folder))
"""
"""The same in a process of its own, as on a GPU."""


def notebook(path: Path, *code: str, parameters: str | None = PARAMETERS, **tags: str) -> None:
    """A notebook of code cells; `tags` maps a tag to the code of one more cell."""
    v4 = nbformat.v4
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    page = v4.new_notebook(metadata={"kernelspec": kernel})
    if parameters is not None:
        page.cells.append(v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    page.cells += [v4.new_code_cell(text) for text in code]
    page.cells += [v4.new_code_cell(text, metadata={"tags": [tag]}) for tag, text in tags.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(page, path)


@pytest.fixture(scope="module", autouse=True)
def frozen_code() -> Iterator[None]:
    """The library as these tests found it: an edit meanwhile makes runs stale, as it should."""
    code = CODE()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_code", lambda: code)
        yield


@dataclass
class World:
    """A project in miniature: notebooks, a preset called cpu, a place for runs.

    The preset differs from the defaults in three keys that its notebooks declare and in `batch_size`.
    """

    root: Path

    def __post_init__(self) -> None:
        path = PROJECT / "params" / "cpu.yaml"
        values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
        values |= {"seeds": [0], "learning_rate": 1e-4, "batch_size": 7, "out_dir": str(self.out)}
        text = f"# Never run: a test.\n{yaml.safe_dump(values)}"
        (self.root / "params").mkdir(parents=True, exist_ok=True)
        (self.root / "params" / "cpu.yaml").write_text(text, encoding="utf-8")

    @property
    def out(self) -> Path:
        return self.root / "runs {x}"  # papermill takes braces in a path for a format

    @property
    def preset(self) -> str:
        return str(self.root / "params" / "cpu.yaml")

    def notebook(self, name: str, *code: str, **tags: str) -> None:
        parameters = PARAMETERS.format(out_dir=self.out)
        notebook(self.root / "notebooks" / f"{name}.ipynb", *code, parameters=parameters, **tags)

    def run(self, *names: str, overrides: Sequence[str] = (), **how: Any) -> tuple[int, str]:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            code = run(names, self.preset, overrides, notebooks=self.root / "notebooks", **how)
        return code, said.getvalue()

    def start(self) -> subprocess.Popen[str]:
        """`restem run` in a process of its own."""
        script = f"""
            import signal, sys
            from pathlib import Path
            from restem_lib.runner import run
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            sys.exit(run((), {self.preset!r}, notebooks=Path({str(self.root / "notebooks")!r})))
        """
        command = [sys.executable, "-c", textwrap.dedent(script)]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def publish(self) -> None:
        publish(self.preset, notebooks=self.root / "notebooks", project=self.root)

    def status(self, out: Path | None = None) -> dict[str, Any]:
        status = json.loads(((out or self.out) / "status.json").read_text(encoding="utf-8"))
        assert isinstance(status, dict)
        return status


def judge(folder: Path, name: str) -> str:
    """Code of a notebook that judges a claim."""
    claims.save(folder / "verdicts.csv", [replace(JUDGED, notebook=name)])
    return JUDGE.format(name=name, text=(folder / "verdicts.csv").read_text())


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path / "world")
    made.notebook("00_tour", "print(1)")
    return made


# --- before any work


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rat=1", "unknown key 'learning_rat' in -p; did you mean 'learning_rate'"),
        ("seeds=one", "seeds in -p is 'one'; it must be a list of whole numbers"),
        ("cap=3", "-p cap: the parameters cells of 00_tour do not have it"),
        ("seeds", "not of the form key=value"),
        ("seeds=[1", "not valid YAML"),
    ],
)
def test_a_bad_override_stops_before_any_work(world: World, override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        world.run(overrides=[override])
    assert message in str(error.value)
    assert not world.out.exists()


def test_an_override_given_twice_is_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="-p gives seeds twice"):
        world.run(overrides=["seeds=[1]", "seeds=[2]"])


def test_an_unknown_notebook_or_preset_names_what_there_is(world: World) -> None:
    with pytest.raises(
        NotebookError, match=r"no notebook '00_tuor' in .*; did you mean '00_tour'\?"
    ):
        world.run("00_tuor")
    with pytest.raises(ConfigError, match=r"no preset 'gpv': .*presets there: .*gpu"):
        run((), "gpv")
    with pytest.raises(NotebookError, match=r"no notebooks in"):
        run((), world.preset, notebooks=world.root)
    assert not world.out.exists()


def test_notebooks_are_named_by_stem_file_or_path(world: World) -> None:
    folder = world.root / "notebooks"
    path = (folder / "00_tour.ipynb").resolve()
    for name in ("00_tour", "00_tour.ipynb", str(path)):
        assert plan._sources([name, "00_tour"], folder) == {"00_tour": path}
    notebook(world.root / "00_tour.ipynb")
    with pytest.raises(NotebookError, match="the same name"):
        plan._sources(["00_tour", str(world.root / "00_tour.ipynb")], folder)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("sead = 1", "unknown key 'sead' in the parameters cell of .*; did you mean 'seeds'"),
        ("seeds = 1", "seeds in the parameters cell of .* must be a list of whole numbers"),
        ("seeds = list(range(3))", "seeds in .* is computed"),
        ("cap = 1; cap = 2", "gives cap twice"),
        ("cap = dedup = True", "line 1 of .* is not of the form key = value"),
        ("import os", "line 1 of .* is not of the form key = value"),
        ("cap = = 1", "not Python"),
        (None, '0 cells tagged "parameters", not exactly one'),
    ],
)
def test_a_parameters_cell_holds_literals_of_the_key_table(
    tmp_path: Path, cell: str | None, message: str
) -> None:
    notebook(tmp_path / "n.ipynb", "print(1)", parameters=cell)
    with pytest.raises(NotebookError, match=message):
        declared(tmp_path / "n.ipynb")


def test_there_is_one_parameters_cell(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    notebook(path, "dedup = True", parameters="cap = 1")
    page = nbformat.read(path, as_version=4)
    page.cells[1].metadata.tags = ["parameters"]
    nbformat.write(page, path)
    with pytest.raises(NotebookError, match="2 cells tagged"):
        declared(tmp_path / "n.ipynb")


def test_declared_values_are_python_values(tmp_path: Path) -> None:
    text = (
        '# comment\nseeds = [\n    0,\n    1,\n]\nlearning_rate = 1e-4\nkeep = "correct"  # and\n'
    )
    notebook(tmp_path / "n.ipynb", parameters=text)
    assert declared(tmp_path / "n.ipynb") == {
        "seeds": [0, 1],
        "learning_rate": 1e-4,
        "keep": "correct",
    }


@pytest.mark.parametrize("text", ["{", "[]", '{"cells": [1]}'])
def test_a_file_that_is_no_notebook_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "n.ipynb").write_text(text)
    with pytest.raises(NotebookError, match=r"n\.ipynb is not a readable notebook"):
        declared(tmp_path / "n.ipynb")


def test_a_second_run_in_the_same_folder_is_refused(world: World) -> None:
    world.out.mkdir()
    with FileLock(world.out / ".lock"), pytest.raises(NotebookError, match="another restem run"):
        world.run()


def test_a_damaged_record_is_named(world: World) -> None:
    world.out.mkdir()
    (world.out / "status.json").write_text('{"00_tour": {}}')
    with pytest.raises(NotebookError, match=r"status\.json is damaged .*delete it"):
        world.run()


def test_a_notebook_never_run_here_is_forecast_by_what_is_published(world: World) -> None:
    results = world.root / "results" / "cpu"
    results.mkdir(parents=True)
    (results / "notebooks.csv").write_text("notebook,minutes\n00_tour,3.5\n")
    _, said = world.run(overrides=["seeds=[1]"])
    assert "to run, time unknown\n" in said and "expected: unknown\n" in said
    world.notebook("01_new", "print(1)")
    _, said = world.run()
    assert "  00_tour  to run, published: about 3.5 min on another machine\n" in said
    assert "expected: about 3 min 30 s, 1 of 2 by another machine, and 1 of unknown time\n" in said
    _, said = world.run(again=True)
    assert "last time\n" in said and "another machine" not in said


def test_a_notebook_that_judges_no_more_has_no_verdicts(world: World) -> None:
    world.notebook("00_tour", judge(world.root, "00_tour"))
    assert "\nclaims, preset cpu\n" in world.run()[1]
    world.notebook("00_tour", "print(1)")
    assert "claims, preset" not in world.run()[1]


def test_a_run_modified_in_any_way_has_its_own_folder(world: World) -> None:
    def out(*overrides: str) -> str:
        made = plan.make_plan(["00_tour"], world.preset, overrides, world.root / "notebooks")
        assert PROJECT / made.jobs[0].parameters["out_dir"] == made.out_dir
        return str(made.out_dir)

    assert out() == out("seeds=[0]") == str(world.out)
    assert out("out_dir=elsewhere") == str(PROJECT / "elsewhere")
    modified = out("seeds=[1]")
    assert modified.startswith(f"{world.out}-") and len(modified) == len(str(world.out)) + 7
    assert modified != out("seeds=[2]") != out("learning_rate=2e-4")


def test_a_notebook_gets_the_keys_it_declares_and_those_that_differ_from_the_default(
    world: World,
) -> None:
    def given(*overrides: str) -> dict[str, Any]:
        made = plan.make_plan((), world.preset, overrides, world.root / "notebooks")
        return made.jobs[0].parameters

    notebook(
        world.root / "notebooks" / "00_tour.ipynb", parameters=f"cap = {Config().cap}\nseeds = [0]"
    )
    assert given() == {
        "cap": Config().cap,  # declared, and no other than the default
        "seeds": [0],
        "learning_rate": 1e-4,  # not declared, and another than the default
        "batch_size": 7,
        "out_dir": str(world.out),
    }
    with pytest.raises(ConfigError, match="-p batch_size: the parameters cells of 00_tour do not"):
        given("batch_size=8")
    notebook(world.root / "notebooks" / "01_other.ipynb", parameters="batch_size = 32")
    assert given("batch_size=8")["batch_size"] == 8
    assert "batch_size" not in given(f"batch_size={Config().batch_size}")


def test_the_hash_stands_for_cells_parameters_library_and_models(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made_of(*overrides: str) -> str:
        return plan.make_plan((), world.preset, overrides, world.root / "notebooks").jobs[0].hash

    first = made_of()
    assert made_of("seeds=[1]") != first
    world.notebook("00_tour", "print(1)")
    assert made_of() == first
    world.notebook("00_tour", "print(2)")
    assert made_of() != first
    monkeypatch.setattr(plan, "_code", lambda: {"library": {}, "models": {}})
    world.notebook("00_tour", "print(1)")
    assert made_of() != first


def test_the_hash_reads_every_file_of_library_and_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = ["restem_lib/a.py", "restem_lib/tasks/b.py"]
    paper = ["paper/claims.yaml", "paper/values.yaml"]
    for name in (*library, "models/toy-s/model.safetensors", *paper):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("123")
    monkeypatch.setattr(plan, "PROJECT", tmp_path)
    code = CODE()
    assert list(code["library"]) == [*library, *paper]
    assert list(code["models"]) == ["models/toy-s/model.safetensors"]
    for name in (*library, "models/toy-s/model.safetensors", *paper):
        (tmp_path / name).write_text("124")  # of the same length, as retrained weights are
        assert CODE() != code
        (tmp_path / name).write_text("123")
    assert CODE() == code


# --- one run with everything that goes wrong


@dataclass
class Ran:
    world: World
    out: Path
    code: int
    said: str
    status: dict[str, Any]


OVERRIDES = ["learning_rate=2e-4"]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    world = World(tmp_path_factory.mktemp("mixed") / "world")
    world.notebook("00_raises", "print(1)", "1 / 0", "print(2)")
    world.notebook("01_exits", "import sys; sys.exit(0)", "print(2)")
    world.notebook("02_dies", "import os; os.kill(os.getpid(), 9)", "print(2)")
    world.notebook("03_hangs", "import time; time.sleep(60)", "print(2)")
    world.notebook("04_good", GOOD, summary=FOUND)
    world.notebook("05_judges", judge(world.root, "05_judges"), summary="print('long')")
    code, said = world.run(overrides=OVERRIDES, cell_timeout=6.0)
    out = next(path for path in world.root.glob("runs*") if path != world.out)
    return Ran(world, out, code, said, world.status(out))


def test_one_failing_notebook_does_not_stop_the_others(mixed: Ran) -> None:
    assert mixed.code == 1
    states = {name: entry["state"] for name, entry in mixed.status.items()}
    assert states == {
        "00_raises": "failed",
        "01_exits": "failed",
        "02_dies": "failed",
        "03_hangs": "failed",
        "04_good": "done",
        "05_judges": "done",
    }


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("00_raises", "cell [4]: ZeroDivisionError: division by zero"),
        ("01_exits", "cell [3]: SystemExit: 0"),
        ("02_dies", "cell [3]: the kernel died"),
        ("03_hangs", "cell [3]: CellTimeoutError: A cell timed out while it was being executed, "),
    ],
)
def test_a_failure_names_cell_error_and_executed_copy(mixed: Ran, name: str, error: str) -> None:
    assert mixed.status[name]["error"].startswith(error)
    copy = mixed.out / "notebooks" / f"{name}.ipynb"
    assert f"    {mixed.status[name]['error']}\n    see {copy}\n" in mixed.said
    assert copy.is_file()


def test_a_notebook_gets_what_it_declares_where_it_lies(mixed: Ran) -> None:
    entry = mixed.status["04_good"]
    expected = {"seeds": [0], "learning_rate": 2e-4, "out_dir": str(mixed.out), "batch_size": 7}
    assert entry["parameters"] == expected
    assert entry["overrides"] == {"learning_rate": 2e-4}
    assert entry["provenance"]["python"]
    page = nbformat.read(mixed.out / "notebooks" / "04_good.ipynb", as_version=4)
    assert page.cells[2].outputs[0].text == "notebooks 1 0\nipc\nlist float 0.0002\n"
    assert "PYTHONHASHSEED" not in os.environ or os.environ["PYTHONHASHSEED"] != "0"


def test_the_run_tells_plan_progress_and_summary(mixed: Ran) -> None:
    said = mixed.said
    assert said.startswith(f"preset cpu ({mixed.world.preset})\nNever run: a test.\n")
    assert f"  with learning_rate = 0.0002\nwriting to {mixed.out}\n" in said
    assert "  04_good    to run, time unknown\n" in said and "expected: unknown\n" in said
    assert "[4/6] 03_hangs failed after" in said and " gone, left: unknown\n" in said
    seconds = duration(mixed.status["04_good"]["seconds"])
    table = said.split("\nnotebook ")[1]
    row = next(line for line in table.splitlines() if line.startswith("04_good")).split()
    copy = str(mixed.out / "notebooks" / "04_good.ipynb")
    assert row == ["04_good", "done", *seconds.split(), *copy.split()]
    assert "\n04_good\n  pass@1 | rose\n  n = 3\n" in said


def test_the_run_ends_with_its_verdicts_in_place_of_the_summary(mixed: Ran) -> None:
    table = """
claims, preset cpu with learning_rate = 0.0002
claim  part  estimate                                    verdict
C1     x     +5.0 points (+2.0 to +8.0; n = 9, 5 seeds)  holds
1 holds, 0 do not, 0 too small to tell
"""
    assert mixed.said.endswith(table)
    assert "long" not in mixed.said


def test_done_is_skipped_until_again_or_cut_off(mixed: Ran) -> None:
    copy = mixed.out / "notebooks" / "04_good.ipynb"
    path, written = mixed.out / "status.json", copy.stat().st_mtime_ns

    code, said = mixed.world.run("04_good", overrides=OVERRIDES)
    assert code == 0 and "done before in" in said and "expected" not in said
    assert said.endswith("\n04_good\n  pass@1 | rose\n  n = 3\n")
    assert copy.stat().st_mtime_ns == written

    code, said = mixed.world.run("04_good", overrides=OVERRIDES, again=True)
    assert code == 0 and "s last time\n" in said and "expected: about" in said
    assert copy.stat().st_mtime_ns > written
    assert mixed.world.status(mixed.out)["00_raises"]["state"] == "failed"

    status, written = mixed.world.status(mixed.out), copy.stat().st_mtime_ns
    status["04_good"]["state"] = "running"
    path.write_text(json.dumps(status))
    code, said = mixed.world.run("04_good", overrides=OVERRIDES)
    assert code == 0 and "last time; was cut off\n" in said
    assert copy.stat().st_mtime_ns > written


def test_a_run_that_finds_its_stages_does_not_shorten_the_recorded_time(mixed: Ran) -> None:
    status = mixed.world.status(mixed.out)
    status["04_good"]["longest"] = 500.0
    (mixed.out / "status.json").write_text(json.dumps(status))
    mixed.world.run("04_good", overrides=OVERRIDES, again=True)
    after = mixed.world.status(mixed.out)["04_good"]
    assert after["longest"] == 500.0 > after["last_done"]


def test_a_modified_or_failed_run_is_not_published(mixed: Ran) -> None:
    with pytest.raises(NotebookError) as error:
        mixed.world.publish()
    assert "04_good has not run\n" in str(error.value)
    assert not (mixed.world.root / "results").exists()


# --- interrupt


@pytest.mark.slow
def test_ctrl_c_keeps_the_record_and_leaves_no_kernel(tmp_path: Path) -> None:
    world = World(tmp_path / "world")
    world.notebook("00_quick", "print(1)")
    world.notebook("01_slow", SLOW)
    world.notebook("02_never", "print(1)")
    pid = world.out / "pid"
    with world.start() as process:
        wait_for(lambda: pid.exists() and pid.read_text() != "", 40)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "01_slow interrupted after" in said and "give the same command" in said
    states = {name: entry["state"] for name, entry in world.status().items()}
    assert states == {"00_quick": "done", "01_slow": "interrupted"}
    wait_for(lambda: not alive(int(pid.read_text())), 10)
    with pytest.raises(NotebookError, match="01_slow was interrupted\n  02_never has not run"):
        world.publish()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, HERE), (signal.SIGINT, HERE), (signal.SIGTERM, APART)],
    ids=["SIGTERM", "SIGINT", "SIGTERM, M-step apart"],
)
def test_a_stopped_run_lets_an_m_step_write_its_checkpoint(
    tmp_path: Path, number: signal.Signals, code: str
) -> None:
    world = World(tmp_path / "world")
    world.notebook("00_training", code)
    with world.start() as process:
        wait_for(lambda: (world.out / "pid").exists(), 60)
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "00_training interrupted after" in said
    assert (world.out / "checkpoint").exists()


def wait_for(condition: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# --- publishing

README = f"# Title\n\n{publishing.BEGIN}\nold\n{publishing.END}\n\nrest\n"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("whole") / "world")
    world.notebook("00_tour", WRITE, "seeds", summary=FOUND)
    world.notebook("01_judges", judge(world.root, "01_judges"))
    code, _ = world.run()
    assert code == 0
    return world


@pytest.fixture
def published(whole: World) -> Iterator[World]:
    (whole.root / "README.md").write_text(README)
    (whole.root / "results" / "cpu").mkdir(parents=True, exist_ok=True)
    (whole.root / "results" / "cpu" / "old.csv").write_text("0\n")
    whole.publish()
    yield whole


def test_publishing_replaces_results_and_figures(published: World) -> None:
    made = {"results": ["claims.csv", "new.csv", "notebooks.csv"], "figures": ["new.csv"]}
    for kind, files in made.items():
        assert sorted(path.name for path in (published.root / kind / "cpu").iterdir()) == files


def test_published_are_all_verdicts_and_minutes(published: World) -> None:
    results = published.root / "results" / "cpu"
    assert claims.read(results / "claims.csv") == [replace(JUDGED, notebook="01_judges")]
    minutes = {name: entry["seconds"] / 60 for name, entry in published.status().items()}
    assert list(minutes) == ["00_tour", "01_judges"]
    assert outcome.read_minutes(results / "notebooks.csv") == pytest.approx(minutes, abs=0.051)


def test_published_notebooks_hold_outputs_and_nothing_volatile(published: World) -> None:
    path = published.root / "notebooks" / "00_tour.ipynb"
    text = path.read_text()
    assert "papermill" not in text and "injected" not in text
    page = nbformat.read(path, as_version=4)
    assert "version" not in page.metadata.language_info
    assert [cell.execution_count for cell in page.cells] == [1, 2, 3, 4]
    assert page.cells[2].outputs[0].execution_count == 3
    assert page.cells[2].outputs[0].data["text/plain"] == "[0]"
    assert page.cells[3].outputs[0].text == "pass@1 | rose\nn = 3\n"
    nbformat.validate(page)


def test_publishing_leaves_the_run_current(published: World) -> None:
    path = published.root / "notebooks" / "00_tour.ipynb"
    before = path.read_bytes()
    code, said = published.run()
    assert code == 0 and "done before" in said
    published.publish()
    assert path.read_bytes() == before


def test_the_readme_gets_the_table_of_what_is_published(published: World) -> None:
    results = published.root / "results" / "cpu"
    verdicts = claims.read(results / "claims.csv")
    table = outcome.as_markdown(verdicts, outcome.read_minutes(results / "notebooks.csv"))
    assert (published.root / "README.md").read_text() == README.replace("old", table)
    assert "| x: +5.0 points (+2.0 to +8.0; n = 9, 5 seeds) | holds |" in table


def test_nothing_is_published_when_something_changed(published: World) -> None:
    notebooks = published.root / "notebooks"
    source = notebooks / "00_tour.ipynb"
    text, copy = source.read_text(), published.out / "notebooks" / "00_tour.ipynb"
    kept, readme = copy.read_bytes(), published.root / "README.md"

    def refused(message: str) -> None:
        (published.root / "results" / "cpu" / "mark").touch()
        with pytest.raises(NotebookError, match=message):
            published.publish()
        assert (published.root / "results" / "cpu" / "mark").exists()

    try:
        source.write_text(text.replace("n = 3", "n = 4"))
        refused("00_tour has run, but the notebook, .* changed since")
        source.write_text(text.replace("learning_rate = 1e-4", "learning_rate = 2e-4"))
        refused("00_tour has run, but the notebook, .* changed since")
        source.write_text(text)
        copy.unlink()
        refused("its executed copy is gone")
        copy.write_bytes(kept)
        readme.write_text("no markers")
        refused("README.md needs the line")
        readme.write_text(README)
        published.notebook("01_new", "print(1)")
        refused("01_new has not run")
    finally:
        (notebooks / "01_new.ipynb").unlink(missing_ok=True)
        source.write_text(text)
        copy.write_bytes(kept)


def test_published_defaults_equal_the_preset(whole: World) -> None:
    job = plan.make_plan((), whole.preset, (), whole.root / "notebooks").jobs[0]
    other = replace(job, defaults={**job.defaults, "seeds": [7]})
    with pytest.raises(NotebookError, match="differs from the preset in seeds; make them agree"):
        publishing._clean(other)


def test_a_run_by_hand_into_the_same_folder_is_noticed(published: World) -> None:
    path = published.out / "results" / "new.csv"
    kept = path.read_bytes()
    try:
        path.write_text("2\n")
        with pytest.raises(NotebookError, match=r"results/new\.csv was changed since"):
            published.publish()
    finally:
        path.write_bytes(kept)
    published.publish()


def test_some_notebooks_are_published_and_what_was_published_of_others_stays(
    whole: World, tmp_path: Path
) -> None:
    preset = whole.root / "params" / "some.yaml"
    text = Path(whole.preset).read_text().replace(str(whole.out), str(tmp_path / "out"))
    preset.write_text(text)
    names, where = ("00_tour", "01_judges"), whole.root / "notebooks"
    results = tmp_path / "results" / "some"
    try:
        for name in names:
            assert run([name], str(preset), notebooks=where) == 0
            publish(str(preset), [name], notebooks=where, project=tmp_path)
        assert tuple(outcome.read_minutes(results / "notebooks.csv")) == names
        assert len(claims.read(results / "claims.csv")) == 1 and (results / "new.csv").exists()
        publish(str(preset), names[:1], notebooks=where, project=tmp_path)
        assert len(claims.read(results / "claims.csv")) == 1
    finally:
        preset.unlink()


def test_a_file_among_the_parameters_is_part_of_a_run(tmp_path: Path) -> None:
    task = tmp_path / "mine.jsonl"
    task.write_text("1")
    found = [plan._files({"math_task": str(task), "seeds": [0]})]
    task.with_name("mine.test.jsonl").write_text("2")
    found.append(plan._files({"math_task": str(task)}))
    task.write_text("3")
    found.append(plan._files({"models": [str(task)]}))
    assert [list(one) for one in found] == [
        ["mine.jsonl"],
        *[["mine.jsonl", "mine.test.jsonl"]] * 2,
    ]
    assert len({str(one) for one in found}) == 3


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0.4 s"),
        (34.2, "34 s"),
        (59.7, "1 min 00 s"),
        (310, "5 min 10 s"),
        (7500, "2 h 05 min"),
    ],
)
def test_times_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text
