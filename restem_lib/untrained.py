"""What pretraining begins with: the toy world's tokenizer, and a model of the ladder with random weights."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from itertools import islice
from random import Random

from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from restem_lib.ladder import SHAPES
from restem_lib.tasks.toy import PIECES, corpus

RARE = 20
"""A word that 40,000 documents hold less often is no token."""


@cache
def build_tokenizer() -> PreTrainedTokenizerFast:
    """The world's tokenizer: whole words and single digits, each with the space before it; rare words in letters.

    So `decode(encode(text)) == text` exactly, for ASCII. No token is added around a text; "<eos>" ends a document and
    doubles as the token that begins one.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    texts = islice(corpus.documents(Random("tokenizer")), 40_000)
    seen = Counter(piece for pair in texts for piece in re.findall(PIECES, "".join(pair)))
    letters = {space + chr(code) for space in ("", " ") for code in range(33, 127)}
    words = {piece for piece, count in seen.items() if count >= RARE}
    special = ["<pad>", "<eos>", "<unk>"]
    vocabulary = {t: index for index, t in enumerate([*special, *sorted(words | letters | {" "})])}
    # The longest beginning that is a token, then the longest of what is left: a word that is none falls into letters.
    tokenizer = Tokenizer(
        models.WordPiece(vocabulary, unk_token="<unk>", continuing_subword_prefix="")
    )
    pieces = pre_tokenizers.Split(Regex(PIECES + r"|\s"), behavior="isolated")
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<eos>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def build_model(size: str, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained model of the ladder, float32; weights come from torch's global seed."""
    shape = SHAPES[size]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape["hidden_size"],
        intermediate_size=shape["intermediate_size"],
        num_hidden_layers=shape["num_hidden_layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["heads"],
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    config._attn_implementation = "eager"
    return LlamaForCausalLM(config)
