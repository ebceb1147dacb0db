"""Runs that start from a model of ``transformers``: the same logits, and one line for all that does not fit."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from safetensors.torch import load_file, save_file

from gptladder.cli.inherit import inherited_overrides
from gptladder.data.gpt2_tokenizer import GPT2Tokenizer
from gptladder.data.text import tiny_shakespeare
from gptladder.data.tokenizer import CharTokenizer
from gptladder.model.gpt import GPT
from gptladder.runs.checkpoint import load_trained
from gptladder.runs.hugging_face import safetensors_files
from gptladder.runs.hugging_face.export import export_to_hugging_face
from gptladder.runs.hugging_face.load import describe_directory, load_directory
from gptladder.runs.hugging_face.tokenizer_json import describe_tokenizer
from gptladder.system.errors import UserError
from helpers.configs import composed, trained
from helpers.hugging_face import (
    ALPHABET,
    GPT2,
    build_trained,
    logits_of,
    random_tokens,
    transformers,
    write_model,
    write_tokenizer,
)
from helpers.malice import Malice
from helpers.networks import LLAMA
from helpers.processes import Warm
from helpers.tokenizers import TINY_BPE, TINY_GPT2

pytestmark = pytest.mark.xdist_group("hugging_face")  # one process imports transformers

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", {}),
    "gpt2 with a head of its own": ("gpt2", {"tie_word_embeddings": False, "activation_function": "gelu"}),
    "narrow gpt2 with relu": ("gpt2", {"n_embd": 12, "n_head": 1, "n_inner": 20, "activation_function": "relu"}),
    "gpt2 without scale": ("gpt2", {"scale_attn_weights": False, "layer_norm_epsilon": 1e-3, "n_layer": 1}),
    "gpt2 with tanh": ("gpt2", {"activation_function": "gelu_pytorch_tanh"}),
    "llama": ("llama", {}),
    "llama with as many key heads": ("llama", {"num_key_value_heads": 4}),
    "llama with one key head": ("llama", {"num_key_value_heads": 1, "num_hidden_layers": 1}),
    "tied llama with another base": ("llama", {"tie_word_embeddings": True, "rope_theta": 300.0}),
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True, "rms_norm_eps": 1e-5}),
    "llama with wide heads": ("llama", {"head_dim": 12, "num_attention_heads": 8, "num_key_value_heads": 2}),
}

TRAIN = ["trainer.max_steps=4", "trainer.val_check_interval=2", "data.estimate_batches=1", "scheduler=constant",
         "data.batch_size=2", "optimizer.lr=1e-4", "logger=none", "callbacks.samples.n_tokens=3"]  # fmt: skip


def build(directory: Path) -> GPT:
    """The network that a run would start from."""
    pretrained = load_directory(f"hf:{directory}")
    net = GPT(vocab_size=pretrained.tokenizer.vocab_size, **pretrained.config["model"])
    net.load_state_dict(pretrained.weights)
    return net.eval()


@pytest.mark.parametrize(("kind", "config"), MODELS.values(), ids=MODELS)
def test_our_network_computes_the_logits_of_transformers(kind: str, config: dict[str, Any], tmp_path: Path) -> None:
    model = write_model(tmp_path, kind, **config)
    ours = build(tmp_path)
    for length in (1, 2, 9, 24):
        idx = random_tokens(ALPHABET.vocab_size, length)
        assert torch.allclose(logits_of(ours, idx), logits_of(model, idx), rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of each kind, and a short text of its characters."""
    directory = tmp_path_factory.mktemp("models")
    write_model(directory / "gpt2", "gpt2")
    write_model(directory / "llama", "llama")
    text = "".join(c for c in tiny_shakespeare()[:6_000].upper() if c in ALPHABET.vocabulary)
    (directory / "text.txt").write_text(text)
    return directory


@pytest.fixture
def copy(models: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a model, to be damaged."""

    def copy_model(kind: str) -> Path:
        shutil.copytree(models / kind, tmp_path / kind)
        return tmp_path / kind

    return copy_model


def change_config(directory: Path, **values: Any) -> None:
    path = directory / "config.json"
    config = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in config.items() if value != "absent"}))


def change_tensors(directory: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_model_is_finetuned_resumed_sampled_and_exported_again(
    kind: str, models: Path, tmp_path: Path, tried: Callable[..., None]
) -> None:
    """Through the commands, from another directory, with sizes that the command does not repeat."""
    shutil.copytree(models, tmp_path / "my models")
    words = ["data=text", "data.path='my models/text.txt'", *TRAIN, "hydra.run.dir=run"]
    done = Warm("train.py", f"init_from='hf:my models/{kind}'", *words, cwd=tmp_path)
    assert done.end() == 0, done.stderr
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert (result["model"], result["status"]) == (kind, "finished")
    shutil.rmtree(tmp_path / "my models" / kind)
    resumed = Warm("train.py", "resume=run", "trainer.max_steps=6", cwd=tmp_path)
    assert resumed.end() == 0, resumed.stderr
    generated = Warm("scripts/generate.py", "--run", "run", "--greedy", "--tokens", "9", "--prompt", "TO", cwd=tmp_path)
    assert generated.end() == 0, generated.stderr
    exported = Warm("scripts/export.py", "--run", "run", "--format", "hf", cwd=tmp_path)
    assert exported.end() == 0, exported.stderr
    pipeline = transformers().pipeline("text-generation", model=str(tmp_path / "run/hf"))
    (theirs,) = pipeline("TO", max_new_tokens=9, do_sample=False)
    assert theirs["generated_text"] + "\n" == generated.stdout


def finetune(run: Path, models: Path, *overrides: str) -> dict[str, Any]:
    """A run as the command line makes it: with what the model gives and the command does not."""
    words = ["data=text", f"data.path={models}/text.txt", *TRAIN, *overrides]
    parsed = OverridesParser.create().parse_overrides(words)
    return trained(run, *inherited_overrides(parsed, lambda words: composed(*words)), *words)


def test_the_first_loss_is_that_of_the_model(models: Path, tmp_path: Path) -> None:
    text = (models / "text.txt").read_text()
    for kind in ("gpt2", "llama"):
        result = finetune(tmp_path / kind, models, f"init_from=hf:{models}/{kind}")
        model = transformers().AutoModelForCausalLM.from_pretrained(models / kind)
        tokens = ALPHABET.encode(text[int(0.9 * len(text)) :]).long()
        losses = []
        for start in range(0, len(tokens) - 1, 24):
            window = tokens[start : start + 25]
            losses.append(torch.nn.functional.cross_entropy(
                logits_of(model, window[None, :-1])[0], window[1:], reduction="none"))  # fmt: skip
        assert result["curve"][0]["val_loss"] == pytest.approx(torch.cat(losses).mean().item(), abs=1e-5)


def test_the_weights_are_part_of_the_identity_and_their_place_is_not(
    models: Path, copy: Callable[[str], Path], tmp_path: Path
) -> None:
    directory = copy("llama")
    first = finetune(tmp_path / "a", models, f"init_from=hf:{models}/llama")
    assert finetune(tmp_path / "b", models, f"init_from=hf:{directory}")["config_hash"] == first["config_hash"]
    change_tensors(directory, lambda tensors: tensors["model.norm.weight"].add_(0.1))
    assert finetune(tmp_path / "c", models, f"init_from=hf:{directory}")["config_hash"] != first["config_hash"]


def test_a_shorter_context_keeps_the_first_positions(models: Path, tmp_path: Path) -> None:
    for kind in ("gpt2", "llama"):
        word = f"init_from=hf:{models}/{kind}"
        finetune(tmp_path / kind, models, word, "model.block_size=8", "trainer.max_steps=1", "optimizer.lr=1e-30")
        short, long = load_trained(tmp_path / kind), build(models / kind)
        idx = random_tokens(ALPHABET.vocab_size, 8)
        assert torch.allclose(logits_of(short.net, idx), logits_of(long, idx), atol=1e-6)


def test_a_sharded_model_is_loaded(models: Path, tmp_path: Path) -> None:
    model = transformers().AutoModelForCausalLM.from_pretrained(models / "llama")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    write_tokenizer(tmp_path, ALPHABET)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    one, several = (load_directory(f"hf:{directory}") for directory in (models / "llama", tmp_path))
    assert one.sha256 == several.sha256


def test_half_precision_is_loaded_as_it_is(models: Path, tmp_path: Path) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        model = transformers().AutoModelForCausalLM.from_pretrained(models / "llama").to(dtype)
        model.save_pretrained(tmp_path / str(dtype))
        write_tokenizer(tmp_path / str(dtype), ALPHABET)
        weights = load_directory(f"hf:{tmp_path / str(dtype)}").weights
        assert torch.equal(weights["lm_head.weight"], model.lm_head.weight.float())


def test_a_file_as_gpt2_was_published_is_loaded(copy: Callable[[str], Path], models: Path) -> None:
    """Without the prefix and the head, and with the causal mask of each layer."""
    directory = copy("gpt2")

    def as_published(tensors: dict[str, torch.Tensor]) -> None:
        tensors.pop("lm_head.weight", None)
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        for layer in range(2):
            tensors[f"h.{layer}.attn.bias"] = torch.ones(24, 24).tril()[None, None]
            tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)

    change_tensors(directory, as_published)
    change_config(directory, model_type="gpt2", n_ctx=24, task_specific_params={"text-generation": {"do_sample": True}})
    assert load_directory(f"hf:{directory}").sha256 == load_directory(f"hf:{models}/gpt2").sha256


def test_a_tied_head_may_be_stored_as_well(copy: Callable[[str], Path], models: Path) -> None:
    directory = copy("gpt2")
    change_tensors(
        directory, lambda tensors: tensors.update({"lm_head.weight": tensors["transformer.wte.weight"].clone()})
    )
    assert load_directory(f"hf:{directory}").sha256 == load_directory(f"hf:{models}/gpt2").sha256
    change_tensors(directory, lambda tensors: tensors["lm_head.weight"].add_(1))
    with pytest.raises(UserError, match=r"lm_head\.weight differs from the embedding"):
        load_directory(f"hf:{directory}")


def test_a_model_of_ours_comes_back_as_it_left(tmp_path: Path) -> None:
    for options in (GPT2, LLAMA):
        ours = build_trained(options)
        export_to_hugging_face(ours, tmp_path)
        again = build(tmp_path)
        idx = random_tokens(ALPHABET.vocab_size, 8)
        assert torch.equal(logits_of(again, idx), logits_of(ours.net, idx))


@pytest.mark.parametrize("tokenizer", ["bpe", "gpt2"])
def test_a_model_with_byte_level_tokens_is_finetuned(
    tokenizer: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: TINY_GPT2)
    ours = TINY_BPE if tokenizer == "bpe" else GPT2Tokenizer.from_text()
    write_model(tmp_path / "model", "gpt2", ours)
    given = ["tokenizer=gpt2"] if tokenizer == "gpt2" else []
    assert finetune(tmp_path / "run", models, f"init_from=hf:{tmp_path}/model", *given)["status"] == "finished"
    used = load_trained(tmp_path / "run").tokenizer
    assert used.state_dict()["kind"] == tokenizer
    assert used.encode("to be").tolist() == ours.encode("to be").tolist()
    if tokenizer == "gpt2":  # the tokens are those of the library where the file is gone
        (tmp_path / "model/tokenizer.json").unlink()
        assert load_directory(f"hf:{tmp_path}/model", tokenizer="gpt2").tokenizer.vocab_size == ours.vocab_size


def test_new_characters_get_new_rows(models: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("TO BE, ÖR NÖT TO BE\n" * 60)
    words = [f"init_from=hf:{models}/llama", "unknown_characters=extend"]
    finetune(tmp_path / "run", tmp_path, *words)
    assert isinstance(tokenizer := load_trained(tmp_path / "run").tokenizer, CharTokenizer)
    assert tokenizer.vocabulary == ALPHABET.vocabulary + "Ö"
    with pytest.raises(UserError, match=r"lacks \('Ö'\): use unknown_characters=extend"):
        finetune(tmp_path / "other", tmp_path, words[0])


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        ("gpt2", {"model_type": "mistral"}, "model_type=mistral, and only gpt2 and llama"),
        ("gpt2", {"model_type": "absent"}, "has no model_type"),
        ("gpt2", {"model_type": ["gpt2"]}, "model_type="),
        ("gpt2", {"auto_map": {"AutoModel": "code.Model"}}, "auto_map, code of its own"),
        ("gpt2", {"quantization_config": {"bits": 4}}, "quantization_config"),
        ("gpt2", {"activation_function": "quick_gelu"}, "activation_function=quick_gelu, and only gelu_new"),
        ("gpt2", {"activation_function": ["gelu"]}, "activation_function="),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=true"),
        ("gpt2", {"add_cross_attention": True}, "add_cross_attention=true"),
        ("gpt2", {"n_layer": "absent"}, "n_layer=null, which must be an integer"),
        ("gpt2", {"n_layer": "2"}, "n_layer=2, which must be an integer"),
        ("gpt2", {"n_layer": True}, "n_layer=true"),
        ("gpt2", {"n_layer": 3}, "transformer.h.2.ln_1.weight is missing"),
        ("gpt2", {"n_layer": 1}, "transformer.h.1.attn.c_attn.bias belongs to no part"),
        ("gpt2", {"n_layer": 10**9}, "n_layer=1000000000 must be at most"),
        ("gpt2", {"n_embd": 10**9}, "GB"),
        ("gpt2", {"n_embd": 0}, "n_embd=0"),
        ("gpt2", {"n_embd": 64}, "is (65, 32), and config.json says (65, 64)"),
        ("gpt2", {"n_head": 5}, "not divisible"),
        ("gpt2", {"n_inner": 64}, "c_fc.weight is (32, 128), and config.json says (32, 64)"),
        ("gpt2", {"n_positions": 48}, "wpe.weight is (24, 32), and config.json says (48, 32)"),
        ("gpt2", {"vocab_size": 67}, "tokenizer has 65 tokens, and config.json vocab_size=67"),
        ("gpt2", {"layer_norm_epsilon": -1}, "layer_norm_epsilon=-1"),
        ("gpt2", {"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon=NaN"),
        ("gpt2", {"tie_word_embeddings": False}, "lm_head.weight is missing"),
        ("gpt2", {"tie_word_embeddings": "no"}, "tie_word_embeddings=no, which must be true or false"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "rope_parameters="),
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling="),
        ("llama", {"rope_scaling": "linear"}, "rope_scaling="),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ("llama", {"sliding_window": 16}, "sliding_window=16"),
        ("llama", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act=gelu, and only silu"),
        ("llama", {"attention_bias": True}, "attention_bias and mlp_bias that differ"),
        ("llama", {"attention_bias": True, "mlp_bias": True}, "q_proj.bias is missing"),
        ("llama", {"num_key_value_heads": 3}, "n_kv_head=3"),
        ("llama", {"num_key_value_heads": 4}, "k_proj.weight is (16, 32), and config.json says (32, 32)"),
        ("llama", {"head_dim": 7}, "even"),
        ("llama", {"intermediate_size": 41}, "(41, 32)"),
        ("llama", {"tie_word_embeddings": True}, "lm_head.weight differs from the embedding"),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": "x"}}, "rope_theta=x"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)  # fmt: skip
def test_a_config_that_our_networks_do_not_fit_is_refused(
    kind: str, values: dict[str, Any], words: str, copy: Callable[[str], Path]
) -> None:
    directory = copy(kind)
    change_config(directory, **values)
    assert_refused(directory, words)


def assert_refused(directory: Path, words: str, tokenizer: str | None = None) -> None:
    with pytest.raises(UserError) as error:
        load_directory(f"hf:{directory}", tokenizer=tokenizer)
    message = str(error.value)
    assert words in message
    assert message.startswith(f"init_from=hf:{directory}: ")
    assert "\n" not in message


def add(name: str, tensor: torch.Tensor) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda tensors: tensors.update({name: tensor})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("model.norm.weight"), "model.norm.weight is missing"),
        (add("score.weight", torch.ones(2)), "score.weight belongs to no part"),
        (add("model.norm.weight", torch.ones(33)), "model.norm.weight is (33,), and config.json says (32,)"),
        (add("model.norm.weight", torch.ones(32, dtype=torch.float64)), "has the type F64, and only F32, F16, BF16"),
        (add("model.norm.weight", torch.ones(32, dtype=torch.int8)), "has the type I8"),
        (add("model.norm.weight", torch.full((32,), torch.nan)), "model.norm.weight is not finite"),
        (add("model.norm.weight", torch.full((32,), torch.inf)), "model.norm.weight is not finite"),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_refused(
    change: Callable[[dict[str, torch.Tensor]], Any], words: str, copy: Callable[[str], Path]
) -> None:
    directory = copy("llama")
    change_tensors(directory, change)
    assert_refused(directory, words)


def test_weights_that_no_machine_can_hold_are_refused(
    copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Memory:
        total = 1_000

    directory = copy("llama")
    monkeypatch.setattr(safetensors_files.psutil, "virtual_memory", lambda: Memory)
    assert_refused(directory, "GB")


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no config": (lambda d: (d / "config.json").unlink(), "there is no file config.json"),
    "empty config": (lambda d: (d / "config.json").write_text(""), "config.json is damaged"),
    "a list": (lambda d: (d / "config.json").write_text("[]"), "config.json is no config"),
    "half a config": (lambda d: (d / "config.json").write_text('{"model_type"'), "config.json is damaged"),
    "deep config": (lambda d: (d / "config.json").write_text("[" * 100_000), "config.json is damaged"),
    "large config": (lambda d: (d / "config.json").write_text(" " * (2**24 + 1)), "larger than 16 MB"),
    "latin config": (lambda d: (d / "config.json").write_bytes(b'{"a": "\xff"}'), "config.json is damaged"),
    "a directory": (lambda d: (d / "model.safetensors").unlink() or (d / "model.safetensors").mkdir(), "no file"),
    "no weights": (lambda d: (d / "model.safetensors").unlink(), "there is no model.safetensors"),
    "empty weights": (lambda d: (d / "model.safetensors").write_bytes(b""), "model.safetensors cannot be read"),
    "half the weights": (
        lambda d: (d / "model.safetensors").write_bytes((d / "model.safetensors").read_bytes()[:-9]),
        "model.safetensors cannot be read",
    ),
    "a huge header": (
        lambda d: (d / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}"),
        "model.safetensors cannot be read",
    ),
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), "there is no tokenizer.json in it: use tokenizer=gpt2"),
    "empty tokenizer": (lambda d: (d / "tokenizer.json").write_text(""), "tokenizer.json is damaged"),
    "another tokenizer": (lambda d: (d / "tokenizer.json").write_text('{"model": 1}'), "describes no tokenizer"),
    "an index of nothing": (
        lambda d: (d / "model.safetensors").rename(d / "x") and (d / "model.safetensors.index.json").write_text("{}"),
        "index.json names no files",
    ),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_directory_is_refused(
    damage: Callable[[Path], Any], words: str, copy: Callable[[str], Path], tried: Callable[..., None]
) -> None:
    directory = copy("llama")
    damage(directory)
    assert_refused(directory, words)
    tried(hostile_files=1)


def test_weights_that_may_contain_code_are_not_read(copy: Callable[[str], Path], tmp_path: Path) -> None:
    directory = copy("gpt2")
    (directory / "model.safetensors").unlink()
    torch.save(Malice(tmp_path / "proof"), directory / "pytorch_model.bin")
    assert_refused(directory, "it has pytorch_model.bin and no model.safetensors: save the model as safetensors")
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_link_out_of_the_directory_is_not_followed(name: str, copy: Callable[[str], Path], tmp_path: Path) -> None:
    directory = copy("llama")
    (directory / name).rename(tmp_path / name)
    (directory / name).symlink_to(tmp_path / name)
    assert_refused(directory, f"{name} is a link out of the directory: copy the files themselves")
    (directory / name).unlink()
    (tmp_path / name).rename(directory / "inside")
    (directory / name).symlink_to("inside")
    load_directory(f"hf:{directory}")


@pytest.mark.parametrize("place", ["../model.safetensors", "/etc/passwd", "absent.safetensors", "..", "."])
def test_an_index_names_only_files_of_its_directory(place: str, copy: Callable[[str], Path], tmp_path: Path) -> None:
    directory = copy("llama")
    (directory / "model.safetensors").rename(tmp_path / "model.safetensors")
    index = {"weight_map": {"model.norm.weight": place}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_refused(directory, "absent.safetensors" if place.startswith("absent") else "no file of this directory")


def test_a_tensor_in_two_files_is_refused(copy: Callable[[str], Path]) -> None:
    directory = copy("llama")
    shutil.copy(directory / "model.safetensors", directory / "a.safetensors")
    (directory / "model.safetensors").rename(directory / "b.safetensors")
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_refused(directory, "is in two files")


def other_tokenizer(**changes: Any) -> dict[str, Any]:
    description = describe_tokenizer(TINY_BPE)
    return {**description, **changes, "model": {**description["model"], **changes.get("model", {})}}


@pytest.mark.parametrize(
    "description",
    [
        other_tokenizer(normalizer={"type": "NFC"}),
        other_tokenizer(pre_tokenizer=None),
        other_tokenizer(pre_tokenizer={"type": "Metaspace", "replacement": "_", "prepend_scheme": "always"}),
        other_tokenizer(pre_tokenizer={**describe_tokenizer(TINY_BPE)["pre_tokenizer"], "add_prefix_space": True}),
        other_tokenizer(pre_tokenizer={**describe_tokenizer(TINY_BPE)["pre_tokenizer"], "use_regex": False}),
        other_tokenizer(model={"type": "Unigram"}),
        other_tokenizer(model={"byte_fallback": True}),
        other_tokenizer(model={"dropout": 0.1}),
        other_tokenizer(model={"end_of_word_suffix": "</w>"}),
        other_tokenizer(model={"vocab": {"a": 0, "b": 2}}),
        other_tokenizer(model={"vocab": None}),
        other_tokenizer(added_tokens=[{"id": 400, "content": "<own>", "special": False}]),
        other_tokenizer(added_tokens=[3]),
        {**describe_tokenizer(ALPHABET), "normalizer": {"type": "Lowercase"}},
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(description: dict[str, Any], copy: Callable[[str], Path]) -> None:
    directory = copy("gpt2")
    (directory / "tokenizer.json").write_text(json.dumps(description))
    assert_refused(directory, "neither a tokenizer of single characters nor GPT-2's byte-level BPE")


def test_the_published_tokenizer_is_not_taken_for_another_one(
    tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: TINY_GPT2)
    write_model(tmp_path, "gpt2", TINY_BPE)
    assert_refused(tmp_path, "tokenizer.json is not the published one of GPT-2", tokenizer="gpt2")
    assert_refused(models / "gpt2", "neither a tokenizer of single characters", tokenizer="gpt2")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["init_from=hf:absent"], "error: init_from=hf:absent: there is no directory 'absent': nothing is downloaded"),
        (["init_from=hf:"], "error: init_from=hf:: there is no directory ''"),
        (["init_from=hf:https://example.org/gpt2"], "there is no directory"),
        (["init_from=hf:MODELS/text.txt"], "there is no directory"),
        (["init_from=MODELS/gpt2"], "is no run: use init_from=hf:"),
        (["init_from=hf:MODELS/gpt2", "model.n_embd=64"], "model.n_embd was 32 and is 64): leave these keys out"),
        (["init_from=hf:MODELS/gpt2", "model.block_size=25"], "model.block_size was 24 and is 25"),
        (["init_from=hf:MODELS/gpt2", "model.block_size=0"], "model.block_size"),
        (["init_from=hf:MODELS/gpt2", "model=llama"], "model.positions was True and is False"),
        (["init_from=hf:MODELS/gpt2", "tokenizer=bpe"], "was trained with tokenizer=char"),
        (["init_from=hf:MODELS/gpt2", "model.n_layers=2"], "model.n_layers"),
    ],
    ids=str,
)  # fmt: skip
def test_the_command_refuses_in_one_line_and_leaves_nothing(
    overrides: list[str], words: str, models: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    done = Warm("train.py", *[word.replace("MODELS", str(models)) for word in overrides], *TRAIN, cwd=work)
    assert done.end() == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert not list(work.iterdir())


def test_a_run_is_no_directory_of_hugging_face(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    with pytest.raises(UserError, match=r"this is a run of train\.py: use init_from="):
        describe_directory(f"hf:{tmp_path}")


def test_a_sweep_notices_that_the_weights_have_changed(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models, tmp_path / "models")
    words = ["train.py", "-m", "init_from=hf:models/llama", "seed=1,2", "data=text", "data.path=models/text.txt",
             "sweep=finetuned", *TRAIN]  # fmt: skip
    first = Warm(*words, cwd=tmp_path)
    assert first.end() == 0, first.stderr
    again = Warm(*words, cwd=tmp_path)
    assert again.end() == 0, again.stderr
    change_tensors(tmp_path / "models/llama", lambda tensors: tensors["model.norm.weight"].add_(0.1))
    changed = Warm(*words, cwd=tmp_path)
    assert changed.end() == 2
    assert "init_from=hf:models/llama has other weights now" in changed.stdout + changed.stderr
