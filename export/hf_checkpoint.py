"""Reads a local Hugging Face folder (config.json, *.safetensors, tokenizer.json) without torch.

Four families: Llama (also SmolLM2), Qwen2, OPT and BLOOM. What a configuration asks for and this
reader does not do is refused by name, never ignored.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - teaches numpy the dtype `bfloat16`, which safetensors asks for
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from ..runtime.errors import ModelError
from ..runtime.local_models import local_model_files
from ..runtime.model_config import LanguageModelConfig
from .hf_config import is_tied, read_config
from .weights import Block, DenseMatrix, Linear, Matrix, Norm, stack_biases, stack_rows


class HfCheckpoint:
    """A Hugging Face folder; tensors are read when asked for."""

    def __init__(self, folder: Path) -> None:
        """Open the folder and read its configuration.

        Raises:
            ModelError: a file is missing or corrupt, or the architecture is not supported.
        """
        self._folder = folder
        # The very files that the content hash covers; others in the folder are not read.
        files = local_model_files(folder)
        self._raw_config = self._json("config.json")
        self.config: LanguageModelConfig = read_config(self._raw_config, folder)
        self._files: dict[str, Any] = {}
        for path in files:
            if path.suffix != ".safetensors":
                continue
            try:
                handle = safe_open(path, framework="np")
                self._files.update(dict.fromkeys(handle.keys(), handle))
            except (SafetensorError, OSError) as error:
                raise ModelError(
                    f"the weights cannot be read: {error}",
                    field=str(path),
                    remedy="copy the file again; it is cut off or corrupt",
                ) from error
        self._stem = self._find_stem()

    def _json(self, name: str) -> dict[str, Any]:
        path = self._folder / name
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ModelError(
                "the file is missing", field=str(path), remedy="copy the whole model folder"
            ) from error
        except (ValueError, OSError) as error:
            raise ModelError(
                f"the file cannot be read: {error}", field=str(path), remedy="copy it again"
            ) from error
        if not isinstance(data, dict):
            raise ModelError(
                "the file holds no JSON object", field=str(path), remedy="copy it again"
            )
        return data

    def _find_stem(self) -> str:
        """The prefix of tensor names, which base and causal models write differently."""
        probe = {
            "llama": "embed_tokens.weight",
            "qwen2": "embed_tokens.weight",
            "opt": "embed_tokens.weight",
            "bloom": "word_embeddings.weight",
        }[self.config.architecture]
        for name in self._files:
            if name.endswith(probe):
                return name.removesuffix(probe)
        raise self._missing(probe)

    def _missing(self, name: str) -> ModelError:
        return ModelError(
            f"tensor '{name}' is missing", field=str(self._folder), remedy="copy all weight files"
        )

    def _has(self, name: str) -> bool:
        return self._stem + name in self._files

    def _tensor(self, name: str, *shape: int) -> NDArray[np.float32]:
        return self._full_tensor(self._stem + name, shape)

    def _full_tensor(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if name not in self._files:
            raise self._missing(name)
        try:
            values = np.asarray(self._files[name].get_tensor(name)).astype(np.float32)
        except (SafetensorError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"the tensor cannot be read: {error}",
                field=f"{self._folder}: {name}",
                remedy="save the model as bfloat16, float16 or float32",
            ) from error
        if values.shape != shape:
            raise ModelError(
                f"shape {values.shape} where config.json asks for {shape}",
                field=f"{self._folder}: {name}",
                remedy="config.json and weights belong to different models",
            )
        return values

    def _matrix(self, name: str, rows: int, columns: int) -> Matrix:
        return DenseMatrix(self._tensor(name, rows, columns))

    def _linear(self, name: str, rows: int, columns: int) -> Linear:
        return Linear(self._matrix(f"{name}.weight", rows, columns), self._bias(name, rows))

    def _bias(self, name: str, size: int) -> NDArray[np.float32] | None:
        return self._tensor(f"{name}.bias", size) if self._has(f"{name}.bias") else None

    def _norm(self, name: str) -> Norm:
        size = self.config.hidden_size
        return Norm(self._tensor(f"{name}.weight", size), self._bias(name, size))

    def embedding(self) -> Matrix:
        name = "word_embeddings" if self.config.architecture == "bloom" else "embed_tokens"
        return self._matrix(f"{name}.weight", self.config.vocab_size, self.config.embedding_size)

    def positions(self) -> NDArray[np.float32] | None:
        if self.config.architecture != "opt":
            return None
        # OPT's table starts with two rows for padding that no real token uses.
        rows, size = self.config.max_positions + 2, self.config.hidden_size
        return self._tensor("embed_positions.weight", rows, size)[2:]

    def embedding_norm(self) -> Norm | None:
        if self.config.architecture != "bloom":
            return None
        return self._norm("word_embeddings_layernorm")

    def project_in(self) -> Linear | None:
        config = self.config
        if config.hidden_size == config.embedding_size:
            return None
        return self._linear("project_in", config.hidden_size, config.embedding_size)

    def project_out(self) -> Linear | None:
        config = self.config
        if config.hidden_size == config.embedding_size:
            return None
        return self._linear("project_out", config.embedding_size, config.hidden_size)

    def final_norm(self) -> Norm | None:
        if self.config.post_norm or self._raw_config.get("_remove_final_layer_norm"):
            return None
        return self._norm(
            {"opt": "final_layer_norm", "bloom": "ln_f"}.get(self.config.architecture, "norm")
        )

    def head(self) -> Matrix:
        # A head that differs from the embedding counts although `tie_word_embeddings` is set:
        # transformers does the same.
        if "lm_head.weight" not in self._files and is_tied(self._raw_config):
            return self.embedding()
        shape = (self.config.vocab_size, self.config.embedding_size)
        return DenseMatrix(self._full_tensor("lm_head.weight", shape))

    def block(self, index: int) -> Block:
        if self.config.architecture == "opt":
            return self._opt_block(index)
        if self.config.architecture == "bloom":
            return self._bloom_block(index)
        return self._llama_block(index)

    def _stacked(self, names: list[str], rows: list[int], columns: int) -> Linear:
        parts = [self._linear(n, r, columns) for n, r in zip(names, rows, strict=True)]
        return Linear(stack_rows([p.weight for p in parts]), stack_biases(parts))

    def _llama_block(self, index: int) -> Block:
        config, stem = self.config, f"layers.{index}"
        hidden, queries = config.hidden_size, config.num_heads * config.head_dim
        keys = config.num_kv_heads * config.head_dim
        return Block(
            attention_norm=self._norm(f"{stem}.input_layernorm"),
            qkv=self._stacked(
                [f"{stem}.self_attn.{p}_proj" for p in "qkv"], [queries, keys, keys], hidden
            ),
            output=self._linear(f"{stem}.self_attn.o_proj", hidden, queries),
            ffn_norm=self._norm(f"{stem}.post_attention_layernorm"),
            ffn_in=self._stacked(
                [f"{stem}.mlp.gate_proj", f"{stem}.mlp.up_proj"], [config.ffn_size] * 2, hidden
            ),
            ffn_out=self._linear(f"{stem}.mlp.down_proj", hidden, config.ffn_size),
        )

    def _opt_block(self, index: int) -> Block:
        config, stem = self.config, f"layers.{index}"
        hidden = config.hidden_size
        return Block(
            attention_norm=self._norm(f"{stem}.self_attn_layer_norm"),
            qkv=self._stacked([f"{stem}.self_attn.{p}_proj" for p in "qkv"], [hidden] * 3, hidden),
            output=self._linear(f"{stem}.self_attn.out_proj", hidden, hidden),
            ffn_norm=self._norm(f"{stem}.final_layer_norm"),
            ffn_in=self._linear(f"{stem}.fc1", config.ffn_size, hidden),
            ffn_out=self._linear(f"{stem}.fc2", hidden, config.ffn_size),
        )

    def _bloom_block(self, index: int) -> Block:
        config, stem = self.config, f"h.{index}"
        hidden = config.hidden_size
        fused = self._linear(f"{stem}.self_attention.query_key_value", 3 * hidden, hidden)
        # BLOOM interleaves per head: (query, key, value) of head 0, then of head 1, ...
        order = (
            np.arange(3 * hidden)
            .reshape(config.num_heads, 3, config.head_dim)
            .transpose(1, 0, 2)
            .reshape(-1)
        )
        bias = None if fused.bias is None else fused.bias[order]
        return Block(
            attention_norm=self._norm(f"{stem}.input_layernorm"),
            qkv=Linear(DenseMatrix(fused.weight.dense()[order]), bias),
            output=self._linear(f"{stem}.self_attention.dense", hidden, hidden),
            ffn_norm=self._norm(f"{stem}.post_attention_layernorm"),
            ffn_in=self._linear(f"{stem}.mlp.dense_h_to_4h", config.ffn_size, hidden),
            ffn_out=self._linear(f"{stem}.mlp.dense_4h_to_h", hidden, config.ffn_size),
        )

    def tokenizer_json(self) -> str:
        text = json.dumps(self._json("tokenizer.json"))
        try:
            Tokenizer.from_str(text)
        except Exception as error:
            raise ModelError(
                f"this is no tokenizer: {error}",
                field=str(self._folder / "tokenizer.json"),
                remedy="copy it again, or save it with a current `tokenizers`",
            ) from error
        return text

    def chat_template(self) -> str | None:
        path = self._folder / "chat_template.jinja"
        if path.is_file():
            return path.read_text(encoding="utf-8")
        if not (self._folder / "tokenizer_config.json").is_file():
            return None
        template = self._json("tokenizer_config.json").get("chat_template")
        return template if isinstance(template, str) else None
