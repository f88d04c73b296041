"""Checkpoints that are broken, incomplete or ask for what is not implemented."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from safetensors.numpy import load_file, save_file

from tailwire.export.checkpoint import Checkpoint, open_checkpoint
from tailwire.runtime.errors import ModelError

from ..tiny_gguf import write_tiny_gguf
from ..tiny_models import BLOCKS, VOCABULARY, save_tiny_model

if TYPE_CHECKING:
    from ..built_models import TinyModels


def read_all(path: Path) -> None:
    """Everything that a build asks a checkpoint for."""
    checkpoint: Checkpoint = open_checkpoint(path)
    checkpoint.tokenizer_json()
    checkpoint.chat_template()
    checkpoint.project_in()
    checkpoint.embedding()
    checkpoint.positions()
    checkpoint.embedding_norm()
    for index in range(min(checkpoint.config.num_blocks, BLOCKS + 1)):
        checkpoint.block(index)
    checkpoint.final_norm()
    checkpoint.project_out()
    checkpoint.head()


def refused(action: Callable[[], object], field: str) -> ModelError:
    """Run what must be refused with one error that names this field and a remedy."""
    with pytest.raises(ModelError) as caught:
        action()
    assert field in caught.value.field
    assert caught.value.problem
    assert caught.value.remedy
    return caught.value


# --- neither, nor


@pytest.mark.parametrize("name", ["nothing.gguf", "nothing", "text.txt"])
def test_paths_that_are_no_checkpoint(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.txt").write_text("hello")
    refused(lambda: open_checkpoint(tmp_path / name), name)


# --- Hugging Face folders


@pytest.fixture
def folder(tiny: TinyModels, tmp_path: Path) -> Path:
    """A copy of the Llama folder that a test may break."""
    return shutil.copytree(tiny.folder("llama"), tmp_path / "model")


def rewrite_config(folder: Path, **changes: Any) -> None:
    """Change keys of config.json; a value of `...` removes its key."""
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_folders_that_lack_a_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    error = refused(lambda: open_checkpoint(folder), str(folder))
    assert name in f"{error}"


def test_pickled_weights_are_never_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    error = refused(lambda: open_checkpoint(folder), str(folder))
    assert "safetensors" in error.remedy


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"{}"])
def test_json_files_that_are_broken(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    refused(lambda: read_all(folder), name)


@pytest.mark.parametrize("kept", [0, 7, 8, 200, 5000, -1])
def test_safetensors_that_are_cut_off(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    refused(lambda: open_checkpoint(folder), "model.safetensors")


def test_missing_shards_are_named(tiny: TinyModels, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny.folder("opt"), tmp_path / "model")
    lost = sorted(folder.glob("model-*.safetensors"))[1]
    lost.unlink()
    error = refused(lambda: read_all(folder), str(folder))
    assert lost.name in error.problem


TENSORS = {
    "llama": (
        "model.embed_tokens.weight",
        "model.norm.weight",
        "model.layers.5.mlp.down_proj.weight",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.2.input_layernorm.weight",
    ),
    "qwen2": ("lm_head.weight", "model.layers.3.self_attn.v_proj.weight"),
    "opt_post_norm": ("model.decoder.project_in.weight", "model.decoder.project_out.weight"),
    "bloom": (
        "transformer.ln_f.weight",
        "transformer.word_embeddings_layernorm.weight",
        "transformer.h.4.self_attention.query_key_value.weight",
    ),
}


@pytest.mark.parametrize(
    ("family", "name"), [(family, name) for family, names in TENSORS.items() for name in names]
)
@pytest.mark.parametrize("damage", ["missing", "too small", "transposed"])
def test_tensors_that_are_missing_or_of_another_shape(
    tiny: TinyModels, tmp_path: Path, family: str, name: str, damage: str
) -> None:
    folder = shutil.copytree(tiny.folder(family), tmp_path / "model")
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensor = tensors.pop(name)
    if damage == "too small":
        tensors[name] = np.ascontiguousarray(tensor[:-1])
    elif damage == "transposed":
        tensors[name] = np.ascontiguousarray(tensor.reshape(*tensor.shape[::-1], 1))
    save_file(tensors, path)
    error = refused(lambda: read_all(folder), str(folder))
    assert name.rsplit(".", 2)[-2] in f"{error}"


def test_learned_positions_of_another_length(tmp_path: Path) -> None:
    folder = save_tiny_model("opt_post_norm", tmp_path / "model")
    rewrite_config(folder, max_position_embeddings=512)
    error = refused(lambda: read_all(folder), "embed_positions")
    assert "514" in error.problem


def test_integer_weights_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"] = np.ones(3, np.int32)
    save_file(tensors, path)
    refused(lambda: read_all(folder), "model.norm.weight")


@pytest.mark.parametrize(
    ("family", "changes", "field"),
    [
        ("llama", {"model_type": "mamba"}, "config.json"),
        ("llama", {"model_type": ...}, "config.json"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rope_type"),
        ("llama", {"rope_parameters": ..., "rope_scaling": {"type": "linear"}}, "rope_type"),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ("llama", {"rope_parameters": {"rope_type": "llama3"}}, "config.json"),
        ("llama", {"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
        ("llama", {"hidden_size": ...}, "config.json"),
        ("llama", {"hidden_size": "wide"}, "config.json"),
        ("llama", {"num_attention_heads": 0}, "config.json"),
        ("llama", {"num_key_value_heads": 3}, "config.json"),
        ("llama", {"num_hidden_layers": -1}, "config.json"),
        ("llama", {"rope_parameters": "fast"}, "config.json"),
        ("llama", {"vocab_size": 2 * VOCABULARY}, "embed_tokens"),
        ("llama", {"num_hidden_layers": BLOCKS + 1}, ""),
        ("llama", {"tie_word_embeddings": False}, ""),
        ("llama", {"tie_word_embeddings": ...}, ""),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window"),
        ("qwen2", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ("opt_post_norm", {"activation_function": "silu"}, "activation_function"),
        ("opt_post_norm", {"enable_bias": False}, "enable_bias"),
        ("opt_post_norm", {"layer_norm_elementwise_affine": False}, "layer_norm_elementwise"),
        ("bloom", {"apply_residual_connection_post_layernorm": True}, "apply_residual"),
        ("bloom", {"slow_but_exact": True}, "slow_but_exact"),
    ],
)
def test_switches_that_are_not_implemented_are_named(
    tiny: TinyModels, tmp_path: Path, family: str, changes: dict[str, Any], field: str
) -> None:
    folder = shutil.copytree(tiny.folder(family), tmp_path / "model")
    rewrite_config(folder, **changes)
    error = refused(lambda: read_all(folder), field)
    assert str(folder) in error.field


# --- GGUF files


@pytest.fixture
def gguf_file(tiny: TinyModels, tmp_path: Path) -> Path:
    return write_tiny_gguf(tiny.folder("llama"), tmp_path / "model.gguf", GGMLQuantizationType.Q4_1)


def test_gguf_files_that_are_cut_off(gguf_file: Path) -> None:
    whole = gguf_file.read_bytes()
    for kept in (0, 3, 4, 12, 100, 1000, 9000, len(whole) // 2, len(whole) - 1):
        gguf_file.write_bytes(whole[:kept])
        refused(lambda: read_all(gguf_file), str(gguf_file))


def test_gguf_files_of_another_magic_or_version(gguf_file: Path) -> None:
    whole = gguf_file.read_bytes()
    for start in (b"GGML", b"\0\0\0\0", b"GGUF\x63\0\0\0"):
        gguf_file.write_bytes(start + whole[len(start) :])
        refused(lambda: read_all(gguf_file), str(gguf_file))


def test_gguf_files_with_flipped_bytes(gguf_file: Path) -> None:
    """Whatever the damage, the file is read or refused, and never anything else happens."""
    whole = gguf_file.read_bytes()
    header = whole.index(b"token_embd.weight") + 2000
    generator = random.Random(0)
    refusals = 0
    for _ in range(150):
        broken = bytearray(whole)
        broken[generator.randrange(header)] = generator.choice([0, 255, generator.randrange(256)])
        gguf_file.write_bytes(broken)
        with np.errstate(all="ignore"):
            try:
                read_all(gguf_file)
            except ModelError as error:
                assert error.field and error.remedy
                refusals += 1
    assert refusals > 30


@pytest.mark.parametrize("architecture", ["gpt2", "gemma3", "qwen3"])
def test_gguf_architectures_that_are_not_supported(
    tiny: TinyModels, tmp_path: Path, architecture: str
) -> None:
    path = write_tiny_gguf(tiny.folder("llama"), tmp_path / "x.gguf", architecture=architecture)
    error = refused(lambda: open_checkpoint(path), str(path))
    assert architecture in error.problem
    assert "llama" in error.remedy


@pytest.mark.parametrize(
    "name",
    [
        "token_embd.weight",
        "output_norm.weight",
        "blk.0.attn_q.weight",
        "blk.3.ffn_up.weight",
        "blk.5.attn_norm.weight",
        "llama.block_count",
        "llama.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.merges",
    ],
)
def test_gguf_files_that_lack_something(tiny: TinyModels, tmp_path: Path, name: str) -> None:
    path = write_tiny_gguf(tiny.folder("llama"), tmp_path / "x.gguf", leave_out=name)
    error = refused(lambda: read_all(path), str(path))
    assert name.rsplit(".", 1)[0] in f"{error}"


@pytest.mark.parametrize(
    ("header", "field"),
    [
        ({"llama.rope.scaling.type": "yarn"}, "rope.scaling.type"),
        ({"llama.rope.dimension_count": 8}, "rope.dimension_count"),
        ({"llama.attention.value_length": 32}, "attention.value_length"),
        ({"llama.attention.head_count": 0}, ""),
        ({"llama.attention.head_count_kv": 3}, ""),
        ({"llama.embedding_length": "64"}, ""),
        ({"llama.block_count": BLOCKS + 1}, ""),
        ({"llama.block_count": BLOCKS - 1}, f"blk.{BLOCKS - 1}."),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml"),
        ({"tokenizer.ggml.pre": "unheard-of"}, "tokenizer.ggml"),
    ],
)
def test_gguf_headers_that_ask_for_what_is_not_implemented(
    tiny: TinyModels, tmp_path: Path, header: dict[str, str | int | float], field: str
) -> None:
    path = write_tiny_gguf(tiny.folder("llama"), tmp_path / "x.gguf", header=header)
    error = refused(lambda: read_all(path), field)
    assert str(path) in error.field


@pytest.mark.parametrize(
    "name", ["rope_freqs.weight", "blk.0.attn_q_norm.weight", "blk.2.ffn_gate_exps.weight"]
)
def test_gguf_tensors_that_nobody_would_compute_with(
    tiny: TinyModels, tmp_path: Path, name: str
) -> None:
    extra = {name: np.ones(8, np.float32)}
    path = write_tiny_gguf(tiny.folder("llama"), tmp_path / "x.gguf", extra=extra)
    refused(lambda: open_checkpoint(path), name)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("blk.1.attn_q.weight", (32, 128)),
        ("blk.1.ffn_down.weight", (96, 64)),
        ("blk.1.attn_norm.weight", (2, 32)),
        ("output_norm.weight", (64, 1)),
        ("token_embd.weight", (VOCABULARY * 64,)),
    ],
)
def test_gguf_tensors_of_another_shape(
    tiny: TinyModels, tmp_path: Path, name: str, shape: tuple[int, ...]
) -> None:
    path = write_tiny_gguf(tiny.folder("llama"), tmp_path / "x.gguf", reshape={name: shape})
    refused(lambda: read_all(path), name)


def test_merges_of_tokens_that_do_not_exist(tiny: TinyModels, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny.folder("llama"), tmp_path / "model")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["merges"].append(["no", "such token"])
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    path = write_tiny_gguf(folder, tmp_path / "x.gguf")
    refused(lambda: read_all(path), "tokenizer.ggml")
    refused(lambda: read_all(folder), "tokenizer.json")
