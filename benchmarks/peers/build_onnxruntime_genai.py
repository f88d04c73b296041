"""Writes a GGUF checkpoint as a folder of onnxruntime-genai; runs in its environment.

Its model builder reads Hugging Face folders, so the weights are dequantised into one first.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Convert: path of the GGUF file, target folder."""
    import torch
    import transformers
    from safetensors.torch import save_file

    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    model = transformers.AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32
    )
    config = model.config
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tied = config.tie_word_embeddings
        weights = {
            key: value.clone().contiguous()
            for key, value in model.state_dict().items()
            if not (tied and key == "lm_head.weight")
        }
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        if hasattr(config, "quantization_config"):
            delattr(config, "quantization_config")
        config.architectures = [type(model).__name__]
        config.save_pretrained(folder)
        transformers.AutoTokenizer.from_pretrained(
            source.parent, gguf_file=source.name
        ).save_pretrained(folder)
        words = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", source.stem]
        words += ["-i", str(folder), "-o", str(target), "-p", "int4", "-e", "cpu"]
        options = ["hf_token=false", "int4_block_size=32", "int4_accuracy_level=4"]
        subprocess.run([*words, "--extra_options", *options], check=True)


if __name__ == "__main__":
    main()
