"""native.c against float64: every head size that loops treat differently, one thread and two."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from restem_lib.engines import native

pytestmark = pytest.mark.skipif(
    bool(native.why_not()), reason=f"native.c is not compiled here: {native.why_not()}"
)


@pytest.fixture(autouse=True, params=[1, 2], ids=["one thread", "two threads"])
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("size", [8, 24, 32, 40, 64, 96, 128])
@pytest.mark.parametrize(("heads", "group"), [(3, 1), (2, 3)])
@pytest.mark.parametrize(("begin", "end"), [(0, 1), (0, 5), (3, 9)])
def test_attention_is_that_of_float64(
    size: int, heads: int, group: int, begin: int, end: int
) -> None:
    torch.manual_seed(size + end)
    rows, prompts, length, room = 37, 5, 21, 12
    which = torch.randint(prompts, (rows,))
    last = torch.randint(1, length + 1, (rows,))
    first = torch.randint(0, length, (rows,))  # beyond the last, a row sees nothing of its prompt
    keys, values = (torch.randn(prompts, heads, length, size) for _ in range(2))
    own = torch.randn(2, rows, heads, room, size)
    own[..., end:, :] = torch.nan  # memory that nobody wrote
    projected = torch.randn(rows, (heads * group + 2 * heads) * size)
    parts = projected.split([heads * group * size, heads * size, heads * size], 1)
    queries = parts[0].unflatten(1, (heads, group, size))
    new = parts[1].unflatten(1, (heads, size)), parts[2].unflatten(1, (heads, size))

    packed = native.packed(keys), values
    where = which, first, last
    out, mass = native.attend(queries, 0.3, new, packed, where, own, begin, end)
    assert torch.equal(own[0, :, :, end - 1], new[0])
    assert torch.equal(own[1, :, :, end - 1], new[1])
    for row in range(rows):
        seen = slice(min(int(first[row]), int(last[row])), int(last[row]))
        k, v = (
            torch.cat([x[which[row], :, seen], mine[row, :, begin:end]], 1).double()
            for x, mine in zip((keys, values), own, strict=True)
        )
        scores = 0.3 * queries[row].double() @ k.mT
        torch.testing.assert_close(out[row].double(), scores.softmax(-1) @ v, atol=2e-5, rtol=1e-5)
        wanted = scores.logsumexp(-1, keepdim=True)
        torch.testing.assert_close(mass[row].double(), wanted, atol=2e-5, rtol=1e-5)


def test_what_is_not_a_number_stays_so() -> None:
    keys = torch.randn(1, 1, 16, 8)
    queries = torch.randn(2, 1, 1, 8)
    queries[1, 0, 0, 3] = torch.nan
    new = torch.randn(2, 1, 8)
    where = (
        torch.zeros(2, dtype=torch.long),
        torch.zeros(2, dtype=torch.long),
        torch.tensor([16, 9]),
    )
    own = torch.zeros(2, 2, 1, 4, 8)
    out, _ = native.attend(queries, 1.0, (new, new), (native.packed(keys), keys), where, own, 0, 1)
    assert out[0].isfinite().all()
    assert out[1].isnan().all()
    assert native.norm(queries.view(2, 8), torch.ones(8), 1e-6)[1].isnan().all()
    assert native.gate(queries.view(2, 8))[1, 3].isnan()


def test_norm_turn_and_gate_are_those_of_torch() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(33, 40), torch.randn(40)
    wanted = torch.nn.functional.rms_norm(x, (40,), weight, 1e-6)
    torch.testing.assert_close(native.norm(x, weight, 1e-6), wanted)

    steps = torch.cat([torch.linspace(-95, 95, 4001), torch.tensor([-1e30, 1e30, 0.0])])
    up = torch.randn(len(steps))
    got = native.gate(torch.stack([steps, up], 1))
    wanted = torch.nn.functional.silu(steps.double()) * up
    torch.testing.assert_close(got[:, 0].double(), wanted, rtol=1e-6, atol=1e-30)

    qkv = torch.randn(33, 5, 8)
    cos, sin = torch.randn(33, 1, 4), torch.randn(33, 1, 4)
    first, second = qkv[:, :3].chunk(2, -1)
    wanted = torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
    untouched = qkv[:, 3:].clone()
    native.turn(qkv, 3, cos, sin)
    torch.testing.assert_close(qkv[:, :3], wanted)
    assert torch.equal(qkv[:, 3:], untouched)
