"""Rebuilds a byte-level BPE tokenizer from the metadata of a GGUF file.

GGUF stores vocabulary, merges and the *name* of the text splitter; the splitters themselves are
part of the convention (llama.cpp `tokenizer.ggml.pre`) and are listed here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from ..runtime.errors import ModelError

#: GGUF token types whose text is matched whole before splitting.
_CONTROL, _USER_DEFINED = 3, 4

_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2_SPLIT = _LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")


def _byte_level(use_regex: bool) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def _splitter(name: str) -> pre_tokenizers.PreTokenizer | None:
    if name in ("gpt-2", "default"):
        return _byte_level(use_regex=True)
    if name == "smollm":
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), _byte_level(use_regex=True)]
        )
    patterns = {"llama-bpe": _LLAMA3_SPLIT, "qwen2": _QWEN2_SPLIT}
    if name in patterns:
        split = pre_tokenizers.Split(Regex(patterns[name]), behavior="isolated")
        return pre_tokenizers.Sequence([split, _byte_level(use_regex=False)])
    return None


def tokenizer_json(value: Callable[[str], Any], path: Path) -> str:
    """Build the tokenizer and return it as JSON.

    Args:
        value: looks up a metadata key of the file.
        path: of the file, for messages.

    Raises:
        ModelError: the tokenizer is of a kind that is not supported.
    """
    model, splitter_name = value("tokenizer.ggml.model"), value("tokenizer.ggml.pre") or "default"
    splitter = _splitter(splitter_name)
    if model != "gpt2" or splitter is None:
        raise ModelError(
            f"tokenizer '{model}' with splitter '{splitter_name}' is not supported from GGUF",
            field=f"{path}: tokenizer.ggml",
            remedy="use the model's Hugging Face folder, which has a tokenizer.json",
        )
    try:
        return _build(value, splitter_name, splitter).to_str()
    except Exception as error:
        # The binding raises bare exceptions, e.g. for merges of tokens that do not exist.
        raise ModelError(
            f"the vocabulary or the merges are missing or corrupt: {error}",
            field=f"{path}: tokenizer.ggml",
            remedy="fetch the file again, or convert the model with a current llama.cpp",
        ) from error


def _build(
    value: Callable[[str], Any], splitter_name: str, splitter: pre_tokenizers.PreTokenizer
) -> Tokenizer:
    tokens, merges = value("tokenizer.ggml.tokens"), value("tokenizer.ggml.merges")
    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    bpe = models.BPE(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=[(left, right) for left, right in pairs],
        # Llama 3 looks whole words up before it merges.
        ignore_merges=splitter_name == "llama-bpe",
    )
    tokenizer = Tokenizer(bpe)
    if splitter_name == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    kinds = value("tokenizer.ggml.token_type") or [1] * len(tokens)
    marked = list(zip(tokens, kinds, strict=True))
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t, k in marked if k == _CONTROL])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t, k in marked if k == _USER_DEFINED])
    adds_bos, bos = value("tokenizer.ggml.add_bos_token"), value("tokenizer.ggml.bos_token_id")
    if adds_bos is None:
        adds_bos = splitter_name == "llama-bpe"  # as llama.cpp has it
    if adds_bos and bos is not None:
        # The token is written as its id, since its text may hold what the template's syntax uses.
        tokenizer.post_processor = processors.TemplateProcessing(
            single="bos:0 $A:0", pair="bos:0 $A:0 $B:1", special_tokens=[("bos", int(bos))]
        )
    return tokenizer
