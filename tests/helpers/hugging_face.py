"""Small models of ``transformers`` with random weights, and networks of ours of the same shapes.

``transformers`` is imported when the first one is built: that takes seconds.
"""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gptladder.data.tokenizer import CharTokenizer, Tokenizer
from gptladder.model import GPT
from gptladder.runs.checkpoint import Trained
from gptladder.runs.hugging_face.tokenizer_json import describe_tokenizer

ALPHABET = CharTokenizer("".join(map(chr, range(32, 96))) + "\n")

# The shape of GPT-2, with all biases.
GPT2 = {"activation": "gelu_tanh", "qkv_bias": True, "head_bias": False, "tie_weights": True}


def transformers() -> Any:
    """The library, without its progress bars and advice."""
    import transformers

    transformers.logging.set_verbosity(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    return transformers


def with_random_weights(net: nn.Module) -> nn.Module:
    """The same in evaluation mode, with every gain near one, and no weight or bias zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.normal_(mean=float("norm" in name or "ln_" in name), std=0.2)
    return net.eval()


def build_trained(options: dict[str, Any], tokenizer: Tokenizer = ALPHABET) -> Trained:
    """A network of ours with random weights, as it is loaded from a run."""
    net = with_random_weights(GPT(vocab_size=tokenizer.vocab_size, **options))
    config = {"model": {key: value for key, value in net.arguments.items() if key != "vocab_size"}}
    return Trained(net, tokenizer, config, "")


def write_model(directory: Path, kind: str, tokenizer: Tokenizer = ALPHABET, **config: Any) -> nn.Module:
    """A random model of ``transformers``, ``gpt2`` or ``llama``, saved by itself with a tokenizer of ours."""
    library = transformers()
    sizes: dict[str, Any] = {
        "gpt2": {"n_positions": 24, "n_embd": 32, "n_layer": 2, "n_head": 4},
        "llama": {
            **{"max_position_embeddings": 24, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2},
            **{"num_attention_heads": 4, "num_key_value_heads": 2},
        },
    }[kind]
    sizes = {**sizes, "vocab_size": tokenizer.vocab_size, "bos_token_id": None, "eos_token_id": None, **config}
    if kind == "gpt2":
        model = library.GPT2LMHeadModel(library.GPT2Config(**sizes))
    else:
        model = library.LlamaForCausalLM(library.LlamaConfig(**sizes))
    with_random_weights(model).save_pretrained(directory)
    write_tokenizer(directory, tokenizer)
    return model


def write_tokenizer(directory: Path, tokenizer: Tokenizer) -> None:
    """A ``tokenizer.json`` as the library itself writes it."""
    from tokenizers import Tokenizer as Backend

    Backend.from_str(json_of(tokenizer)).save(str(directory / "tokenizer.json"))


def json_of(tokenizer: Tokenizer) -> str:
    return json.dumps(describe_tokenizer(tokenizer))


@torch.inference_mode()
def logits_of(model: nn.Module, idx: Tensor) -> Tensor:
    """The logits of a model of theirs or of ours."""
    output = model(idx)
    return output if isinstance(output, Tensor) else output.logits


def random_tokens(vocab_size: int, length: int) -> Tensor:
    return torch.randint(vocab_size, (3, length), generator=torch.Generator().manual_seed(2))
