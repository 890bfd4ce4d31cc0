"""The torch engine against `transformers`: the same greedy texts, the same distributions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
import torch
from scipy.stats import chi2
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE, WordLevel
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.generation import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from restem_lib.engines import Completion, Sampling, drawing, native, parts, torch_engine
from restem_lib.engines.drawing import choose, decode
from restem_lib.engines.torch_engine import TorchEngine
from restem_lib.models import load_model, save_model

EOS = 0
LETTERS = ["</s>", *"abcdefghijklmnopqrstuvwxyz ,."]
PROMPTS = ["abc", "q", "hello, world", "a" * 20, "xyz.", "abcdefghijk" * 3, "zz", "the end"]
FEW_SHOT = "one example, and then another one, both the same. "
GREEDY = Sampling(temperature=0, top_k=0, top_p=1, max_new_tokens=30)
SAMPLED = Sampling(temperature=1, top_k=0, top_p=1, max_new_tokens=30)

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": EOS,
    "pad_token_id": None,
    "tie_word_embeddings": False,
}
SLIDING = {"sliding_window": 7, "head_dim": 8}
LEARNED = {"bos_token_id": None, "eos_token_id": EOS, "pad_token_id": None, "n_head": 4}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def letters() -> PreTrainedTokenizerFast:
    """One token a letter, so that a text tells its tokens."""
    model = Tokenizer(WordLevel({letter: i for i, letter in enumerate(LETTERS)}))
    model.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    model.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=model, eos_token="</s>")


def byte_pairs() -> PreTrainedTokenizerFast:
    """Bytes and all pairs of some letters: half characters, and tokens that hold more than one."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(a, b) for a in "abcĊĠ" for b in "abcĊĠ"]
    names = ["</s>", *alphabet, *(a + b for a, b in pairs)]
    model = Tokenizer(BPE({name: i for i, name in enumerate(names)}, merges=pairs))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=model, eos_token="</s>")


def model_of(name: str, vocab: int = len(LETTERS), scale: float = 6.0) -> PreTrainedModel:
    torch.manual_seed(0)
    size = {"vocab_size": vocab}
    made: PreTrainedModel = {
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, **size)),
        # A key that Llama does not know: models converted from others can have it.
        "odd llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, **size, sliding_window=7)),
        "gemma": lambda: GemmaForCausalLM(GemmaConfig(**SHAPE, **size, head_dim=8)),
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, **size)),
        "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, **size, head_dim=8)),
        "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, **SLIDING, **size)),
        "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**SHAPE, **SLIDING, **size)),
        "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SHAPE, **SLIDING, **size)),
        "gpt2": lambda: GPT2LMHeadModel(
            GPT2Config(**LEARNED, **size, n_embd=32, n_layer=3, n_positions=256)
        ),
        "bloom": lambda: BloomForCausalLM(
            BloomConfig(**LEARNED, **size, hidden_size=32, n_layer=3, tie_word_embeddings=False)
        ),
    }[name]()
    with torch.no_grad():
        for weight in made.parameters():
            if weight.dim() > 1:
                weight.mul_(scale)
    return made.eval()


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    return model_of("llama")


def texts(completions: list[list[Completion]]) -> list[list[str]]:
    return [[completion.text for completion in row] for row in completions]


def reference(model: PreTrainedModel, ids: list[int], max_new_tokens: int) -> list[int]:
    """The new tokens of `model.generate`, greedily, for one prompt alone."""
    prompt = torch.tensor([ids])
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=max_new_tokens,
        pad_token_id=EOS,
    )
    new: list[int] = out[0, len(ids) :].tolist()
    return new


LLAMA_LIKE = ["llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3"]


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """What machines without a C compiler, and all GPUs, compute: the same in torch."""
    monkeypatch.setattr(native, "library", lambda: None)


@pytest.fixture
def knowing_no_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model goes through the path for any model."""
    monkeypatch.setattr(torch_engine, "is_llama_like", lambda _: False)


@pytest.mark.parametrize("name", [*LLAMA_LIKE, "gpt2", "bloom"])
def test_greedy_texts_are_those_of_generate(name: str) -> None:
    check_greedy(name)


@pytest.mark.parametrize("name", LLAMA_LIKE)
@pytest.mark.usefixtures("without_compiler")
def test_greedy_texts_are_those_of_generate_without_a_compiler(name: str) -> None:
    check_greedy(name)


@pytest.mark.parametrize("name", LLAMA_LIKE)
@pytest.mark.usefixtures("knowing_no_family")
def test_greedy_texts_are_those_of_generate_by_the_general_path(name: str) -> None:
    check_greedy(name)


def check_greedy(name: str) -> None:
    model, tokenizer = model_of(name), letters()
    engine, sampling = TorchEngine(model, tokenizer, rows=3), Sampling(0, 0, 1, 14)
    few_shot = [FEW_SHOT + prompt for prompt in PROMPTS[:3]]
    drawn = [engine.generate(prompts, 1, sampling, seed=0) for prompts in (PROMPTS, few_shot)]
    assert engine._prefix is not None
    for prompt, (completion,) in zip(PROMPTS + few_shot, drawn[0] + drawn[1], strict=True):
        ids = reference(model, tokenizer(prompt)["input_ids"], 14)
        finish = "eos" if ids[-1] == EOS else "length"
        text = tokenizer.decode(ids, skip_special_tokens=True)
        assert completion == Completion(text, len(ids), finish)


def test_greedy_texts_stay_right_when_the_buffer_is_moved(llama: PreTrainedModel) -> None:
    tokenizer, long, prompts = letters(), Sampling(0, 0, 1, 100), PROMPTS[1:4]
    drawn = TorchEngine(llama, tokenizer, rows=3).generate(prompts, 2, long, seed=0)
    for prompt, row in zip(prompts, drawn, strict=True):
        ids = reference(llama, tokenizer(prompt)["input_ids"], 100)
        assert [c.tokens for c in row] == [len(ids)] * 2
        assert {c.text for c in row} == {tokenizer.decode(ids, skip_special_tokens=True)}
    assert max(row[0].tokens for row in drawn) == 100


def warped(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities that `transformers` would sample from."""
    scores = TemperatureLogitsWarper(float(sampling.temperature))(None, logits.float())
    if sampling.top_k:
        scores = TopKLogitsWarper(sampling.top_k)(None, scores)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(None, scores)
    return scores.softmax(-1, dtype=torch.float64)


def g_test(counts: Counter[str], expected: dict[str, float]) -> float:
    """p value of the counts; outcomes expected fewer than five times are taken together."""
    assert set(counts) <= {key for key, value in expected.items() if value > 0}
    often = [key for key, value in expected.items() if value >= 5]
    cells = [(counts[key], expected[key]) for key in often]
    total = sum(expected.values())
    rest = sum(counts.values()) - sum(n for n, _ in cells), total - sum(e for _, e in cells)
    cells += [rest] if rest[1] >= 5 else []
    statistic = sum((n - e) ** 2 / e for n, e in cells)
    return float(chi2.sf(statistic, len(cells) - 1))


SETTINGS = [(1.0, 0, 1.0), (0.7, 40, 1.0), (0.7, 6, 1.0), (1.0, 0, 0.9), (1.3, 12, 0.8)]


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), SETTINGS)
def test_two_tokens_have_the_distribution_of_transformers(
    temperature: float, top_k: int, top_p: float
) -> None:
    model, tokenizer, n = model_of("llama", scale=4.0), letters(), 20_000
    sampling = Sampling(temperature, top_k, top_p, max_new_tokens=2)
    (drawn,) = TorchEngine(model, tokenizer, rows=2_000).generate(["hello"], n, sampling, seed=1)
    ids = tokenizer("hello")["input_ids"]
    with torch.inference_mode():
        longer = torch.tensor([[*ids, token] for token in range(len(LETTERS))])
        logits = model(longer).logits
    first, second = warped(logits[:1, -2], sampling)[0], warped(logits[:, -1], sampling)
    assert first.max() < 0.9
    # Two tokens that are not the end are one of "a".."." each; the end is the empty string.
    names = ["", *LETTERS[1:]]
    ones = {names[a]: n * float(first[a]) for a in range(len(names))}
    pairs = {
        names[a] + names[b] + "$" * (b == EOS): n * float(first[a] * second[a, b])
        for a in range(1, len(names))
        for b in range(len(names))
    } | {"": ones[""]}
    ended = [c.text + "$" * (c.finish == "eos" and c.tokens == 2) for c in drawn]
    assert g_test(Counter(text[:1] for text in ended), ones) > 1e-4
    assert g_test(Counter(ended), pairs) > 1e-4


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), SETTINGS)
def test_choose_has_the_probabilities_of_transformers_with_ties(
    temperature: float, top_k: int, top_p: float
) -> None:
    torch.manual_seed(2)
    logits = (torch.randn(5, 60) * 2).bfloat16().float()
    logits[0, :20] = logits[0].topk(top_k or 1).values[-1]
    grid = (torch.arange(4_000, dtype=torch.float64) + 0.5) / 4_000
    sampling = Sampling(temperature, top_k, top_p, 1)
    for row in logits:
        wanted = warped(row[None], sampling)[0]
        tokens = choose(row.expand(len(grid), -1), sampling, grid)
        shares = tokens.bincount(minlength=60) / len(grid)
        if top_p < 1:
            # Which of several equal tokens the nucleus ends with is open in `transformers`.
            shares, wanted = shares.sort().values, wanted.sort().values
        assert (shares - wanted).abs().max() < 1.01 / len(grid)


def test_choose_never_draws_what_has_no_probability() -> None:
    one = torch.tensor([0.0, 1 - 2.0**-53, 0.5], dtype=torch.float64)
    logits = torch.full((3, 9), -torch.inf)
    logits[:, 3], logits[:, 5] = 1.0, 0.0
    for top_k, top_p in [(0, 1.0), (2, 1.0), (0, 0.95), (2, 0.95)]:
        drawn = choose(logits, Sampling(1.0, top_k, top_p, 1), one).tolist()
        assert set(drawn) == {3, 5}
        assert choose(logits, Sampling(1e-30, top_k, top_p, 1), one).tolist() == [3, 3, 3]
    assert choose(logits, Sampling(1.0, 0, 0.5, 1), one).tolist() == [3, 3, 3]
    assert choose(torch.zeros(3, 9), Sampling(0, 0, 1.0, 1), one).tolist() == [0, 0, 0]


def test_choose_keeps_a_tail_below_float32(llama: PreTrainedModel) -> None:
    # A thousand tokens share 1e-8: less than float32 resolves near 1.
    logits = torch.full((1, 1001), -25.3)
    logits[0, 0] = 0.0
    tail = float(warped(logits, SAMPLED)[0, 1:].sum())
    assert 5e-9 < tail < 2e-8
    u = torch.tensor([1 - tail / 2], dtype=torch.float64)
    assert 450 < int(choose(logits, SAMPLED, u)) < 550


def test_rows_and_neighbours_do_not_change_texts(llama: PreTrainedModel) -> None:
    tokenizer = letters()
    few = TorchEngine(llama, tokenizer, rows=3).generate(PROMPTS, 4, SAMPLED, seed=5)
    many = TorchEngine(llama, tokenizer, rows=64).generate(PROMPTS, 4, SAMPLED, seed=5)
    alone = TorchEngine(llama, tokenizer, rows=64).generate(PROMPTS[:1], 4, SAMPLED, seed=5)
    assert few == many
    assert alone[0] == many[0]
    assert len({text for row in texts(many) for text in row}) > 20


def test_all_ways_to_compute_draw_the_same_texts(
    llama: PreTrainedModel, request: pytest.FixtureRequest
) -> None:
    prompts = [FEW_SHOT + prompt for prompt in PROMPTS]
    assert native.can(llama.model.embed_tokens.weight), "the machine for tests needs a C compiler"

    def draw() -> list[list[Completion]]:
        engine = TorchEngine(llama, letters(), rows=10)
        return engine.generate(prompts, 5, SAMPLED, seed=5)

    compiled = draw()
    request.getfixturevalue("without_compiler")
    assert draw() == compiled
    request.getfixturevalue("knowing_no_family")
    assert draw() == compiled


@pytest.mark.parametrize("name", LLAMA_LIKE)
def test_bfloat16_logits_are_those_of_the_model(name: str) -> None:
    model, tokenizer = model_of(name, scale=2.0).bfloat16(), letters()
    ids = [tokenizer(FEW_SHOT)["input_ids"], tokenizer("abc")["input_ids"]]
    with torch.inference_mode():
        wanted = torch.cat([model(torch.tensor([one])).logits[:, -1] for one in ids])
        _, logits = TorchEngine(model, tokenizer).path.prefill([], ids)
    assert (logits - wanted).abs().max() < 0.05 * wanted.std() + 0.01


def test_a_window_that_the_model_does_not_use_is_not_used() -> None:
    model, tokenizer = model_of("odd llama"), letters()
    ids = [tokenizer(FEW_SHOT)["input_ids"]]
    with torch.inference_mode():
        wanted = model(torch.tensor(ids)).logits[:, -1]  # `generate` would cut its cache there
        _, logits = TorchEngine(model, tokenizer).path.prefill([], ids)
    torch.testing.assert_close(logits, wanted, atol=1e-3, rtol=1e-4)


def test_engines_leave_a_model_that_can_be_saved_and_changed(
    llama: PreTrainedModel, tmp_path: Path
) -> None:
    model, tokenizer = model_of("llama"), letters()
    first, second = TorchEngine(model, tokenizer), TorchEngine(model, tokenizer)
    before = first.generate(PROMPTS, 2, GREEDY, seed=0)
    save_model(model, tokenizer, tmp_path / "saved")
    saved = load_model(tmp_path / "saved", torch.float32)
    for name, weight in saved.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name])
    model.load_state_dict({name: -weight for name, weight in model.state_dict().items()})
    after = TorchEngine(model, tokenizer).generate(PROMPTS, 2, GREEDY, seed=0)
    assert first.generate(PROMPTS, 2, GREEDY, seed=0) == after != before
    assert second.generate(PROMPTS, 2, GREEDY, seed=0) == after


def test_an_engine_follows_weights_that_are_replaced() -> None:
    model, other, tokenizer = model_of("llama"), model_of("llama"), letters()
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(-1)
    engine = TorchEngine(model, tokenizer)
    engine.generate(PROMPTS, 2, GREEDY, seed=0)
    model.load_state_dict(other.state_dict(), assign=True)
    wanted = TorchEngine(other, tokenizer).generate(PROMPTS, 2, GREEDY, seed=0)
    assert engine.generate(PROMPTS, 2, GREEDY, seed=0) == wanted
    model.double().float()
    assert engine.generate(PROMPTS, 2, GREEDY, seed=0) == wanted


def test_scores_in_pieces_change_nothing(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [FEW_SHOT + prompt for prompt in PROMPTS]
    whole = TorchEngine(llama, letters()).generate(prompts, 2, GREEDY, seed=0)
    monkeypatch.setattr(parts, "SCORES", 400)
    assert TorchEngine(llama, letters()).generate(prompts, 2, GREEDY, seed=0) == whole


def test_a_long_prompt_is_computed_as_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = model_of("llama"), letters()
    prompts = ["abcdefg ., " * 20, "abc" * 40]
    drawn = TorchEngine(model, tokenizer).generate(prompts, 2, GREEDY, seed=0)
    monkeypatch.setattr(parts, "LONG", 16)
    assert TorchEngine(model, tokenizer).generate(prompts, 2, GREEDY, seed=0) == drawn


def test_seed_decides(llama: PreTrainedModel) -> None:
    engine = TorchEngine(llama, letters())
    first = engine.generate(PROMPTS, 2, SAMPLED, seed=1)
    assert engine.generate(PROMPTS, 2, SAMPLED, seed=1) == first
    assert engine.generate(PROMPTS, 2, SAMPLED, seed=2) != first


def test_shared_prefix_changes_no_greedy_text(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [FEW_SHOT + prompt for prompt in [*PROMPTS, ""]]
    engine = TorchEngine(llama, letters(), rows=4)
    shared = engine.generate(prompts, 2, GREEDY, seed=0)
    assert engine._prefix is not None
    monkeypatch.setattr(torch_engine, "SHARED", 1_000)
    plain = TorchEngine(llama, letters(), rows=4)
    assert plain.generate(prompts, 2, GREEDY, seed=0) == shared
    assert plain._prefix is None


def test_kept_prefix_is_used_again_and_follows_the_weights() -> None:
    model, prompts = model_of("llama"), [FEW_SHOT + prompt for prompt in PROMPTS]
    engine = TorchEngine(model, letters())
    before = engine.generate(prompts, 2, SAMPLED, seed=3)
    kept = engine._prefix
    assert engine.generate(prompts, 2, SAMPLED, seed=3) == before
    assert engine._prefix is kept
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(-1.5)
    after = engine.generate(prompts, 2, SAMPLED, seed=3)
    assert after == TorchEngine(model, letters()).generate(prompts, 2, SAMPLED, seed=3) != before


def test_prefill_in_several_batches_changes_no_greedy_text(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = TorchEngine(llama, letters(), rows=5).generate(PROMPTS, 2, GREEDY, seed=0)
    monkeypatch.setattr(torch_engine, "PREFILL_TOKENS", 24)
    assert TorchEngine(llama, letters(), rows=5).generate(PROMPTS, 2, GREEDY, seed=0) == whole


def test_stop_strings_cut_where_they_first_appear() -> None:
    tokenizer = byte_pairs()
    model = model_of("llama", vocab=len(tokenizer))
    with torch.no_grad():
        # Mostly letters, so that texts are more than broken characters.
        model.lm_head.weight[1:257] *= 0.55
    model.generation_config.eos_token_id = None
    tokenizer.eos_token = None
    engine = TorchEngine(model, tokenizer, rows=4)
    prompts = ["ab", "ca\n", " bb é", "a b c"]
    inside = across = at_start = 0
    for prompt in prompts:
        ids = reference(model, tokenizer(prompt)["input_ids"], 12)
        grown = [tokenizer.decode(ids[:k], skip_special_tokens=True) for k in range(13)]
        text = grown[-1]
        stops = {text[i : i + size] for i in range(len(text)) for size in (1, 2, 3)}
        for stop in sorted(stop for stop in stops if "\ufffd" not in stop):
            sampling = Sampling(0, 0, 1, 12, (stop, "never there"))
            ((drawn,),) = engine.generate([prompt], 1, sampling, seed=0)
            tokens = next(k for k, part in enumerate(grown) if stop in part)
            part = grown[tokens]
            assert drawn == Completion(part[: part.find(stop)], tokens, "stop"), (prompt, stop)
            inside += not part.endswith(stop)
            across += part.find(stop) < len(grown[tokens - 1])
            at_start += part.startswith(stop)
    assert min(inside, across, at_start) > 0


def test_a_completion_is_decoded_once(
    llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[int]()
    monkeypatch.setattr(
        drawing, "decode", lambda tokenizer, ids: calls.append(len(ids)) or decode(tokenizer, ids)
    )
    engine, sampling = TorchEngine(llama, letters()), Sampling(1, 0, 1, 30, ("ea", "b ,c"))
    engine.generate(PROMPTS, 1, sampling, seed=0)  # also tells what each token adds
    calls.clear()
    drawn = engine.generate(PROMPTS, 16, sampling, seed=1)
    assert len(calls) == 16 * len(PROMPTS)
    ends = "".join(completion.text for row in drawn for completion in row)
    assert ends.count("a") + ends.count("c") > 50  # each of which could have ended a stop string


def test_the_earliest_of_several_stops_cuts(llama: PreTrainedModel) -> None:
    tokenizer = letters()
    engine = TorchEngine(llama, tokenizer)
    free = engine.generate(PROMPTS, 8, SAMPLED, seed=4)
    stops = ("ab", "c", " ", "e.")
    cut = engine.generate(PROMPTS, 8, Sampling(1, 0, 1, 30, stops), seed=4)
    finishes: Counter[str] = Counter()
    for before, after in zip(chain(*free), chain(*cut), strict=True):
        places = [(place, s) for s in stops if (place := before.text.find(s)) >= 0]
        if places:
            ends = min(place + len(s) for place, s in places)
            text = before.text[: min(place for place, s in places if place + len(s) == ends)]
            assert after == Completion(text, ends, "stop")
        else:
            assert after == before
        finishes[after.finish] += 1
    assert set(finishes) == {"stop", "eos", "length"}


def test_every_end_of_sequence_id_ends(llama: PreTrainedModel) -> None:
    tokenizer, model = letters(), model_of("llama")
    free = TorchEngine(model, tokenizer).generate(PROMPTS, 8, SAMPLED, seed=4)
    model.generation_config.eos_token_id = [LETTERS.index("b"), LETTERS.index("c")]
    ended = TorchEngine(model, tokenizer).generate(PROMPTS, 8, SAMPLED, seed=4)
    for before, after in zip(chain(*free), chain(*ended), strict=True):
        places = [place for letter in "bc" if (place := before.text.find(letter)) >= 0]
        if places:
            assert after == Completion(before.text[: min(places)], min(places) + 1, "eos")
        else:
            assert after == before
    assert any(c.finish == "eos" and c.tokens == 1 and not c.text for row in ended for c in row)


def test_length_ends_even_after_one_token(llama: PreTrainedModel) -> None:
    drawn = TorchEngine(llama, letters(), rows=2).generate(PROMPTS, 3, Sampling(1, 0, 1, 1), seed=0)
    assert {(c.tokens, c.finish) for row in drawn for c in row} <= {(1, "length"), (1, "eos")}
    assert [len(row) for row in drawn] == [3] * len(PROMPTS)


def test_progress_counts_all_and_training_mode_stays() -> None:
    model, seen = model_of("gpt2"), list[int]()
    engine = TorchEngine(model, letters(), rows=3)
    still = engine.generate(PROMPTS, 2, SAMPLED, seed=0)
    model.train()
    assert engine.generate(PROMPTS, 2, SAMPLED, seed=0, progress=seen.append) == still
    assert model.training
    assert sum(seen) == 2 * len(PROMPTS)
    assert len(seen) > 2


def test_mistakes_are_named_before_any_work(llama: PreTrainedModel) -> None:
    engine = TorchEngine(llama, letters())
    with pytest.raises(ValueError, match=r"prompt 1 .* no tokens"):
        engine.generate(["a", ""], 1, GREEDY, seed=0)
    with pytest.raises(ValueError, match=r"prompt 0 .*aaa.* 250 tokens .* 30, .* 256 positions"):
        engine.generate(["a" * 250], 1, GREEDY, seed=0)
    with pytest.raises(ValueError, match="n is 0"):
        engine.generate(["a"], 0, GREEDY, seed=0)
    for wrong, word in [
        (Sampling(-0.1, 0, 1, 5), "temperature"),
        (Sampling(float("nan"), 0, 1, 5), "temperature"),
        (Sampling(1, -1, 1, 5), "top_k"),
        (Sampling(1, 0, 0, 5), "top_p"),
        (Sampling(1, 0, 1.1, 5), "top_p"),
        (Sampling(1, 0, 1, 0), "max_new_tokens"),
        (Sampling(1, 0, 1, 5, ("",)), "stop"),
    ]:
        with pytest.raises(ValueError, match=word):
            engine.generate(["a"], 1, wrong, seed=0)
    with pytest.raises(ValueError, match="rows"):
        TorchEngine(llama, letters(), rows=0)
    assert engine.generate([], 1, GREEDY, seed=0) == []


def test_a_model_with_recurrent_state_is_refused() -> None:
    mamba = MambaForCausalLM(MambaConfig(vocab_size=30, hidden_size=8, num_hidden_layers=1))
    with pytest.raises(ValueError, match="recurrent"):
        TorchEngine(mamba, letters())


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED, Sampling(1, 5, 0.9, 5)])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_stop_the_work(sampling: Sampling, value: float) -> None:
    model = model_of("llama")
    with torch.no_grad():
        model.lm_head.weight[3] = value
    with pytest.raises(RuntimeError, match="NaN or infinite"):
        TorchEngine(model, letters()).generate(PROMPTS, 2, sampling, seed=0)
