"""A function in the processes of a file of `accelerate config`, which end with this process, however that ends.

    this process -> `start`: accelerate launch -> `work`: the processes, one a GPU (or on CPUs)

They meet in a private temporary folder, the job: `call` is what to do, `stop` asks for an end, and `done`, `stopped`,
`failed` and `error-N` say which one came. Each process watches its parent.

From `start` on Ctrl-C and SIGTERM are blocked in all threads, so that a stop, whenever it comes, is only pending:
`work` looks for it where all processes can end together. One that was interrupted would leave the others waiting.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

from restem_lib import UserError
from restem_lib.executors import STOPS, end_unless
from restem_lib.keys import ConfigError, parse_yaml

KINDS = ("MULTI_CPU", "MULTI_GPU", "FSDP")
WATCHED = "RESTEM_WATCHED"
SHARDING = {
    "fsdp_offload_params": (
        "false",
        False,
        "an M-step with weights in main memory has never been run",
    ),
    "fsdp_state_dict_type": (
        "SHARDED_STATE_DICT",
        "SHARDED_STATE_DICT",
        "checkpoints in one piece have never been tried",
    ),
    "fsdp_activation_checkpointing": (
        "false",
        False,
        "the key gradient_checkpointing of the preset is what does this",
    ),
    "fsdp_cpu_ram_efficient_loading": (
        "false",
        True,
        "each process loads the whole model and keeps its shard",
    ),
}
"""Keys of fsdp_config with the one value that works, accelerate's default, and why it must be that."""
TAIL = 15
"""Lines of what failing processes said that an error repeats."""


class LaunchError(UserError):
    """The processes of an accelerate configuration failed; the text has the end of what they said."""


def check(file: str) -> tuple[str, int] | None:
    """The kind (one of KINDS) and number of processes that a file describes; None for "". Raises ConfigError."""
    return _read(file)[:2] if file else None


def _read(file: str) -> tuple[str, int, bool, bool]:
    """Kind, number of processes, whether on CPUs, whether the file names a port."""
    path = Path(file).expanduser()
    advice = "`accelerate config` makes such a file, params/accelerate/ has examples"
    if not path.is_file():
        raise ConfigError(f"accelerate_config is {file!r}, which is no file; {advice}")
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path} (accelerate_config): {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} (accelerate_config) holds no keys; {advice}")
    kind, number = values.get("distributed_type"), values.get("num_processes")
    if kind not in KINDS:
        raise ConfigError(
            f"distributed_type in {path} is {kind!r}; an M-step can run on {', '.join(KINDS)}. "
            'For one process leave accelerate_config empty ("")'
        )
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ConfigError(
            f"num_processes in {path} is {number!r}; it must be a whole number from 1"
        )
    if values.get("num_machines", 1) != 1:
        raise ConfigError(
            f"num_machines in {path} is {values['num_machines']!r}; an M-step runs on one machine: set it to 1"
        )
    if kind == "FSDP":
        _check_sharding(path, values.get("fsdp_config") or {})
    cpu = kind == "MULTI_CPU" or values.get("use_cpu") is True
    return kind, number, cpu, values.get("main_process_port") is not None


def _check_sharding(path: Path, chosen: Any) -> None:
    if not isinstance(chosen, dict):
        raise ConfigError(f"fsdp_config in {path} holds no keys; see params/accelerate/fsdp.yaml")
    version = chosen.get("fsdp_version", 1)
    if version != 2:
        raise ConfigError(
            f"fsdp_version in {path} is {version!r}; only version 2 is supported: set fsdp_version: 2 in fsdp_config "
            "(`accelerate to-fsdp2` converts a file)"
        )
    for key, (needed, default, why) in SHARDING.items():
        value = chosen.get(key, default)
        if str(value).lower() != needed.lower():
            raise ConfigError(
                f"{key} in {path} is {value!r}{'' if key in chosen else ' by default'}; "
                f"set {key}: {needed} in fsdp_config, for {why}"
            )


def run(file: str, work: Callable[..., object], *arguments: Any) -> None:
    """Call `work(*arguments)` in every process of a configuration; `work` is a module-level function of an importable
    module, its arguments can be pickled. In them Ctrl-C and SIGTERM stay pending: `work` looks for them
    (`signal.sigpending`) and raises KeyboardInterrupt in all at once.

    Ctrl-C asks the processes to stop, as SIGTERM would, and waits for them; a second one ends them at once. A
    UserError of theirs is raised here as it was there. Raises LaunchError after any other failure, ConfigError for a
    configuration that cannot work here, KeyboardInterrupt when they were stopped.
    """
    kind, number, cpu, port = _read(file)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    if cpu:
        environment |= {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    else:
        _enough_gpus(file, number)
    if watched():
        environment[WATCHED] = "1"
    with TemporaryDirectory(prefix="restem-") as folder:
        job = Path(folder)
        (job / "call").write_bytes(pickle.dumps((work, arguments)))
        command = [*_me("start", folder), "--config_file", str(Path(file).expanduser())]
        if kind == "MULTI_CPU":
            command += [
                "--multi_gpu"
            ]  # accelerate leaves CPUs to MPI; the environment has it use them
        if not port:  # a free one, for other M-steps may be at work on this machine
            command += ["--main_process_port", "0"]
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,  # so that a terminal's Ctrl-C comes here alone
        )
        assert process.stdout
        said: list[str] = []
        stopped = False
        try:
            try:
                _relay(process.stdout, said)
            except KeyboardInterrupt:
                stopped = True
                (job / "stop").touch()
                _relay(process.stdout, said)
        except BaseException:
            process.kill()
            process.stdout.read()  # ends when the last process has ended
            raise
        finally:
            process.stdout.close()
            code = process.wait()
        for error in sorted(job.glob("error-*")):
            raise pickle.loads(error.read_bytes())
        # A process that died has the others told to stop too; only then there is an exit code.
        if stopped or (not code and (job / "stopped").exists()):
            raise KeyboardInterrupt
        if not (job / "done").exists():
            failed = (job / "failed").read_text() if (job / "failed").exists() else ""
            why = failed.splitlines()[-1:] + "".join(said).splitlines()[-TAIL:]
            raise LaunchError(
                f"the processes of {file} failed (exit code {code}). What was finished is kept: run the same command "
                "again to go on. The end of what they said, all of which is above:\n"
                + "\n".join(why)
            )


def watched() -> bool:
    """Whether somebody looks at what goes to standard error."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules or WATCHED in os.environ


def _enough_gpus(file: str, number: int) -> None:
    import torch

    if torch.cuda.device_count() < number:
        raise ConfigError(
            f"{file} (accelerate_config) wants {number} GPUs, but {torch.cuda.device_count()} are here; change "
            "num_processes there, or use params/accelerate/ddp_cpu2.yaml for processes on CPUs"
        )


def _me(role: str, job: str) -> list[str]:
    return [sys.executable, "-m", "restem_lib.launching", role, job, str(os.getpid())]


def _relay(output: IO[bytes], said: list[str]) -> None:
    """Pass on to standard error, as it comes, what the processes say; keep the last of it."""
    while chunk := os.read(output.fileno(), 1 << 16):
        text = chunk.decode(errors="replace")
        print(text, end="", file=sys.stderr, flush=True)
        said.append(text)
        del said[:-100]


def _start(job: str, parent: int, options: Sequence[str]) -> None:
    """Be `accelerate launch` for the call of a job."""
    # Who sends these to all processes means the working ones: they write a checkpoint, and this one waits for them.
    # Blocked before libraries start threads, which inherit this as the working ones do: torch sets handlers, and one
    # open thread is enough.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    from accelerate.commands.launch import main

    end_unless(lambda: os.getppid() == parent)
    sys.argv = ["accelerate launch", *options, "-m", *_me("work", job)[2:]]
    main()


def _work(folder: str, parent: int) -> None:
    """Make the call of a job, as one of its processes."""
    job, rank = Path(folder), os.environ["RANK"]
    told = ended = False

    def alive() -> bool:
        nonlocal told
        if not told and (job / "stop").exists():
            told = True
            os.kill(os.getpid(), signal.SIGTERM)
        if not ended and (job / "failed").exists():
            os._exit(0)  # another one failed, for which this one would wait for ever
        return os.getppid() == parent

    end_unless(alive)
    if rank != "0":
        os.environ["TQDM_DISABLE"] = "1"
    try:
        work, arguments = pickle.loads((job / "call").read_bytes())
        work(*arguments)
        ended = True
        if rank == "0":
            (job / "done").touch()
    except KeyboardInterrupt:
        (job / "stopped").touch()
    except UserError as error:  # with exit code 0, so that no launcher adds a traceback to it
        ended = True
        (job / f"error-{rank}").write_bytes(pickle.dumps(error))
        (job / "failed").touch()
    except BaseException:
        ended = True
        try:
            with (job / "failed").open("x") as file:
                file.write(traceback.format_exc())
        except FileExistsError:  # the first is the cause, for which this one lost its connection
            os._exit(0)
        raise


if __name__ == "__main__":
    role, job, parent, *options = sys.argv[1:]
    if role == "start":
        _start(job, int(parent), options)
    else:
        _work(job, int(parent))
