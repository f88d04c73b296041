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

from ..runtime.errors import ModelError
from ..runtime.model_config import LanguageModelConfig
from .hf_config import read_config
from .weights import Block, DenseMatrix, Linear, Matrix, Norm, stack_rows


class HfCheckpoint:
    """A Hugging Face folder; tensors are read when asked for."""

    def __init__(self, folder: Path) -> None:
        """Open the folder and read its configuration.

        Raises:
            ModelError: a file is missing or corrupt, or the architecture is not supported.
        """
        self._folder = folder
        self._raw_config = self._json("config.json")
        self.config: LanguageModelConfig = read_config(self._raw_config, folder)
        self._files: dict[str, Any] = {}
        for path in sorted(folder.glob("*.safetensors")):
            try:
                handle = safe_open(path, framework="np")
                self._files.update(dict.fromkeys(handle.keys(), handle))
            except (SafetensorError, OSError) as error:
                raise ModelError(
                    f"the weights cannot be read: {error}",
                    field=str(path),
                    remedy="copy the file again; it is cut off or corrupt",
                ) from error
        if not self._files:
            raise ModelError(
                "there is no *.safetensors file",
                field=str(folder),
                remedy="save the model with safetensors; .bin files are pickles and are not read",
            )
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
            raise ModelError("the file holds no JSON object", field=str(path), remedy="copy it again")
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

    def _tensor(self, name: str) -> NDArray[np.float32]:
        full = self._stem + name
        if full not in self._files:
            raise self._missing(full)
        return np.asarray(self._files[full].get_tensor(full)).astype(np.float32)

    def _matrix(self, name: str, rows: int, columns: int) -> Matrix:
        values = self._tensor(name)
        if values.shape != (rows, columns):
            raise ModelError(
                f"shape {values.shape} where config.json asks for {(rows, columns)}",
                field=f"{self._folder}: {name}",
                remedy="config.json and weights belong to different models",
            )
        return DenseMatrix(values)

    def _linear(self, name: str, rows: int, columns: int) -> Linear:
        return Linear(self._matrix(f"{name}.weight", rows, columns), self._bias(f"{name}.bias"))

    def _bias(self, name: str) -> NDArray[np.float32] | None:
        return self._tensor(name) if self._has(name) else None

    def _norm(self, name: str) -> Norm:
        return Norm(self._tensor(f"{name}.weight"), self._bias(f"{name}.bias"))

    def embedding(self) -> Matrix:
        name = "word_embeddings" if self.config.architecture == "bloom" else "embed_tokens"
        return self._matrix(
            f"{name}.weight", self.config.vocab_size, self.config.embedding_size
        )

    def positions(self) -> NDArray[np.float32] | None:
        if self.config.architecture != "opt":
            return None
        # OPT's table starts with two rows for padding that no real token uses.
        return self._tensor("embed_positions.weight")[2:]

    def embedding_norm(self) -> Norm | None:
        if self.config.architecture != "bloom":
            return None
        return self._norm("word_embeddings_layernorm")

    def project_in(self) -> Linear | None:
        config = self.config
        if not self._has("project_in.weight"):
            return None
        return self._linear("project_in", config.hidden_size, config.embedding_size)

    def project_out(self) -> Linear | None:
        config = self.config
        if not self._has("project_out.weight"):
            return None
        return self._linear("project_out", config.embedding_size, config.hidden_size)

    def final_norm(self) -> Norm | None:
        name = {"opt": "final_layer_norm", "bloom": "ln_f"}.get(self.config.architecture, "norm")
        return self._norm(name) if self._has(f"{name}.weight") else None

    def head(self) -> Matrix:
        # A head that equals the embedding may still be stored; files win over `tie_word_embeddings`.
        if "lm_head.weight" not in self._files:
            return self.embedding()
        values = np.asarray(self._files["lm_head.weight"].get_tensor("lm_head.weight"))
        return DenseMatrix(values.astype(np.float32))

    def block(self, index: int) -> Block:
        if self.config.architecture == "opt":
            return self._opt_block(index)
        if self.config.architecture == "bloom":
            return self._bloom_block(index)
        return self._llama_block(index)

    def _stacked(self, names: list[str], rows: list[int], columns: int) -> Linear:
        parts = [self._linear(n, r, columns) for n, r in zip(names, rows, strict=True)]
        biases = [p.bias for p in parts if p.bias is not None]
        bias = np.concatenate(biases) if len(biases) == len(parts) else None
        return Linear(stack_rows([p.weight for p in parts]), bias)

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
        return json.dumps(self._json("tokenizer.json"))

    def chat_template(self) -> str | None:
        path = self._folder / "chat_template.jinja"
        if path.is_file():
            return path.read_text(encoding="utf-8")
        if not (self._folder / "tokenizer_config.json").is_file():
            return None
        template = self._json("tokenizer_config.json").get("chat_template")
        return template if isinstance(template, str) else None
