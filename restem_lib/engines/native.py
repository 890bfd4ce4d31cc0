"""native.c, compiled once for this machine, where there is a C compiler."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from restem_lib.store import digest

TILE = 16
"""As in native.c."""
SOURCE = Path(__file__).with_name("native.c")
FLAGS = ["-std=c11", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"]
# What loops need to become vector code. NaN and infinity keep their meaning, sums their order but where we say so.
FLAGS += ["-fno-trapping-math", "-fno-math-errno"]


class _Job(ctypes.Structure):
    """`struct job` of native.c, where its fields are explained."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("rows", "heads", "group", "size", "threads")),
        *((name, ctypes.c_void_p) for name in ("queries", "new_keys", "new_values")),
        ("stride", ctypes.c_int64),
        ("scale", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("prompt_keys", "prompt_values")),
        *((name, ctypes.c_int64) for name in ("prompt_room", "value_stride", "value_head_stride")),
        *((name, ctypes.c_void_p) for name in ("prompt", "first", "last")),
        *((name, ctypes.c_void_p) for name in ("own_keys", "own_values")),
        *((name, ctypes.c_int64) for name in ("room", "begin", "end")),
        *((name, ctypes.c_void_p) for name in ("out", "mass")),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """The compiled code, kept in the user's cache folder; None where it cannot be had, for the reason in `why_not`."""
    return _load()[0]


def why_not() -> str:
    """What keeps the code from being compiled or loaded here; "" if nothing does."""
    return _load()[1]


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if platform.system() != "Linux" or compiler is None:
        return None, "no C compiler is installed" if compiler is None else "only done on Linux"
    # torch comes with the OpenMP of this name; ours must be the same one, or two would fight for the cores.
    if not (Path(torch.__file__).parent / "lib" / "libgomp.so.1").exists():
        return None, "torch came without libgomp.so.1"
    cpu = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    named = ("model name", "flags", "Features", "CPU part")
    kind = [platform.machine(), *(line for line in cpu if line.startswith(named))]
    try:
        built = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
        name = digest([SOURCE.read_text(), FLAGS, kind, built])
        path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        path = path / "restem" / f"native-{name}.so"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                made = Path(folder) / path.name
                command = [compiler, *FLAGS, "-o", str(made), str(SOURCE), "-lm"]
                subprocess.run(command, check=True, capture_output=True, text=True)
                made.replace(path)
        return ctypes.CDLL(str(path)), ""
    except subprocess.CalledProcessError as error:
        return None, f"{compiler} failed: {error.stderr[-200:]}"
    except (
        OSError,
        RuntimeError,
    ) as error:  # no place to keep it, or not allowed to run from there
        return None, str(error)


def can(like: Tensor) -> bool:
    """Whether the code is there and works on keys like these [..., size]."""
    fits = like.device.type == "cpu" and like.dtype is torch.float32 and like.shape[-1] % 8 == 0
    return fits and library() is not None


def packed(keys: Tensor) -> Tensor:
    """Keys of prompts [P, heads, L, size] as `attend` wants them: [P, heads, size, L in whole tiles]."""
    count, heads, length, size = keys.shape
    room = -(-length // TILE) * TILE
    out = keys.new_zeros(count, heads, size, room)
    out[..., :length] = keys.mT
    return out


def norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Root mean square norm of x [N, width]."""
    x, out = x.contiguous(), torch.empty_like(x)
    rows, width = x.shape
    _call("norm", rows, width, ctypes.c_float(epsilon), weight, x, out)
    return out


def turn(x: Tensor, heads: int, cos: Tensor, sin: Tensor) -> None:
    """Rotary embedding in place of the first heads of x [N, all heads, size]; cos and sin [N, 1, size / 2]."""
    rows, every, size = x.shape
    _call("turn", rows, heads, size, every * size, cos, sin, x)


def gate(x: Tensor) -> Tensor:
    """silu(gate) * up [N, width] of x [N, 2 width], gate first."""
    rows, width = x.shape[0], x.shape[1] // 2
    out = x.new_empty(rows, width)
    _call("gate", rows, width, x, out)
    return out


def _call(name: str, *arguments: int | ctypes.c_float | Tensor) -> None:
    """Call a function of native.c, the number of threads first; tensors must be contiguous."""
    loaded = library()
    assert loaded is not None
    tensors = [x for x in arguments if isinstance(x, Tensor)]
    assert all(x.is_contiguous() and x.dtype is torch.float32 for x in tensors)
    given = (ctypes.c_void_p(x.data_ptr()) if isinstance(x, Tensor) else x for x in arguments)
    whole = (ctypes.c_int64(x) if isinstance(x, int) else x for x in given)
    loaded[name](ctypes.c_int64(torch.get_num_threads()), *whole)


def attend(
    queries: Tensor,
    scale: float,
    new: tuple[Tensor, Tensor],
    prompts: tuple[Tensor, Tensor],
    rows: tuple[Tensor, Tensor, Tensor],
    own: Tensor,
    begin: int,
    end: int,
) -> tuple[Tensor, Tensor]:
    """Attention of new tokens on prompts and own keys: [R, heads, group, size], log of its mass [R, heads, group, 1].

    `new` keys and values [R, heads, size] go to place end - 1 of `own` [2, ., heads, room, size], of
    which each row sees begin to end. `prompts` are keys as `packed` and values [P, heads, L, size];
    `rows` says of each row its prompt, the first key of it that it sees and the one after the last.
    """
    loaded = library()
    assert loaded is not None
    count, heads, group, size = queries.shape
    keys, values = new
    stride = values.stride(0)
    # All three are parts of one projection, but where keys and queries were normed by themselves.
    if queries.stride(0) != stride or keys.stride(0) != stride:
        together = torch.cat([queries.flatten(1), keys.flatten(1), values.flatten(1)], 1)
        stride = together.shape[1]
        queries, keys, values = together.split(
            [heads * group * size, heads * size, heads * size], 1
        )
    theirs, told = prompts
    assert theirs.is_contiguous() and all(x.is_contiguous() for x in (*own, *rows))
    assert told.stride(3) == 1 and (told.shape[2] == 1 or told.stride(2) == size)
    out = told.new_empty(count, heads, group, size)
    mass = told.new_empty(count, heads, group, 1)
    job = _Job(
        *(count, heads, group, size, torch.get_num_threads()),
        *(queries.data_ptr(), keys.data_ptr(), values.data_ptr(), stride, scale),
        *(theirs.data_ptr(), told.data_ptr(), theirs.shape[3], told.stride(0), told.stride(1)),
        *(x.data_ptr() for x in rows),
        *(own[0].data_ptr(), own[1].data_ptr(), own[0].shape[2], begin, end),
        *(out.data_ptr(), mass.data_ptr()),
    )
    loaded.attend(ctypes.byref(job))
    return out, mass
