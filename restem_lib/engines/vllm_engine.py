"""Draw samples with vLLM: the quick way on GPUs, for the models that it knows.

vLLM keeps a prompt's keys and values for its n samples, and what prompts have in common for all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restem_lib.engines import Completion, EngineError, Sampling, check, tokenise
from restem_lib.models import device, load_tokenizer, out_of_memory
from restem_lib.store import seed_for

if TYPE_CHECKING:
    import torch

CPU_CACHE = 2 * 2**30
"""Bytes for keys and values where there is no GPU: a share of the memory would take it from all other programs."""
TEMPERATURES = (0.01, 2.0)
"""What vLLM can sample at; it would quietly raise a lower one."""


class VllmEngine:
    """Draw samples from a model folder. Raises EngineError where vLLM is not installed or cannot load it.

    `rows` samples are computed at a time; `memory_share` of the GPU's memory is vLLM's until the process ends. The
    model is spread over `gpus` GPUs (tensor parallel; more than one has not been tested).
    """

    def __init__(
        self,
        folder: Path,
        dtype: torch.dtype,
        rows: int = 256,
        memory_share: float = 0.9,
        gpus: int = 1,
    ) -> None:
        # In a process of its own its scheduler would start on the first prompts before the others are there, and
        # rounding, hence now and then a token, would depend on when.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ["VLLM_NO_USAGE_STATS"] = "1"  # it reports its use to its makers
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        try:
            from vllm import EngineArgs, LLMEngine
        except ImportError as error:
            raise EngineError(
                f"the vLLM engine needs vLLM ({error}): pip install 'restem-lib[vllm]' in an environment of its own, "
                "or choose engine torch"
            ) from error
        on_gpu = device().type == "cuda"
        self.tokenizer = load_tokenizer(folder)
        arguments = EngineArgs(
            model=str(folder),
            load_format="safetensors",
            trust_remote_code=False,
            use_tqdm_on_load=False,
            dtype=str(dtype).removeprefix("torch."),
            max_model_len=-1,  # the model's own, or what fits into memory
            max_num_seqs=rows,
            tensor_parallel_size=gpus,
            enable_prefix_caching=True,
            gpu_memory_utilization=memory_share,
            kv_cache_memory_bytes=None if on_gpu else CPU_CACHE,
            enforce_eager=not on_gpu,  # compiling takes a CPU minutes
            # A prompt computed in parts draws from its seed at every part; only on a GPU can vLLM take that back.
            enable_chunked_prefill=on_gpu,
            disable_log_stats=True,
        )
        try:
            self.llm = LLMEngine.from_engine_args(arguments)
        except (ValueError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not out_of_memory(error):
                raise
            raise EngineError(
                f"vLLM cannot load the model in {folder}: {error} (memory_share sets what it takes of a GPU's memory)"
            ) from error
        self.positions: int = self.llm.model_config.max_model_len

    def generate(
        self,
        prompts: Sequence[str],
        n: int,
        sampling: Sampling,
        seed: int,
        progress: Callable[[int], object] | None = None,
    ) -> list[list[Completion]]:
        """Draw n completions a prompt: [len(prompts)][n].

        `progress(k)` is called when k more completions are finished. Raises ValueError, before any work, for
        settings that make no sense and for a prompt that is empty or too long for the model, and EngineError when vLLM
        gives a sample up.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        check(n, sampling)
        low, high = TEMPERATURES
        if sampling.temperature and not low <= sampling.temperature <= high:
            raise ValueError(
                f"temperature is {sampling.temperature}, but vLLM takes 0 (greedy) or {low} to {high}"
            )
        # Greedy samples are all the same, and vLLM draws no more than one.
        each = n if sampling.temperature else 1
        for number, ids in enumerate(self.tokenise(prompts, sampling.max_new_tokens)):
            params = SamplingParams(
                n=each,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                max_tokens=sampling.max_new_tokens,
                stop=list(sampling.stop),
                detokenize=bool(sampling.stop),
                seed=seed_for(seed, number),  # far apart: sample s of a prompt has its seed plus s
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            self.llm.add_request(str(number), {"prompt_token_ids": ids}, params)
        drawn: list[list[Completion]] = [[] for _ in prompts]
        while self.llm.has_unfinished_requests():
            for request in self.llm.step():
                completions = [self._completion(output, sampling) for output in request.outputs]
                drawn[int(request.request_id)] = completions * (n // each)
                if progress is not None:
                    progress(n)
        return drawn

    def tokenise(self, prompts: Sequence[str], max_new_tokens: int) -> list[list[int]]:
        """Token ids of each prompt. Raises PromptError for one that is empty or leaves too little room."""
        return tokenise(self.tokenizer, prompts, max_new_tokens, self.positions)

    def _completion(self, output: Any, sampling: Sampling) -> Completion:
        from restem_lib.engines.drawing import decode

        ids = list(output.token_ids)
        stopped = isinstance(output.stop_reason, str)
        ends = {"stop": "stop" if stopped else "eos", "length": "length"}
        if output.finish_reason not in ends:
            raise EngineError(
                f"vLLM gave up a sample after {len(ids)} tokens ({output.finish_reason}): run the same command again; "
                "if that does not help, lower rows or max_new_tokens, or raise memory_share"
            )
        finish = ends[output.finish_reason]
        # The torch engine's way from tokens to text: vLLM's own leaves out the beginning of a broken character.
        text = decode(self.tokenizer, ids[:-1] if finish == "eos" else ids)
        cuts = [cut for stop in sampling.stop if (cut := text.find(stop)) >= 0]
        return Completion(text[: min(cuts)] if cuts else text, len(ids), finish)
