"""Exports for ``transformers``: the same logits and the same greedy text there, or one line that says why not."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gptladder.data.text import tiny_shakespeare
from gptladder.data.tokenizer import CharTokenizer
from gptladder.generation.sampling import generate_text
from gptladder.model import GPT
from gptladder.model.gpt import describe_net
from gptladder.runs.checkpoint import Trained, load_trained
from gptladder.runs.hugging_face.architectures import architecture_of_network
from gptladder.runs.hugging_face.export import export_to_hugging_face
from gptladder.system.errors import UserError
from helpers.configs import RUNGS, assert_refused, command, ran, trained
from helpers.hugging_face import ALPHABET, GPT2, build_trained, logits_of, random_tokens, transformers
from helpers.networks import LLAMA, build_rung
from helpers.tokenizers import TINY_BPE

pytestmark = pytest.mark.xdist_group("hugging_face")  # one process imports transformers

GPT2_SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,
    "without biases": {"bias": False, "activation": "gelu", "tie_weights": True},
    "without gains": {"norm_affine": False, "head_bias": False},
    "relu, a head of its own": {"activation": "relu", "head_bias": False, "n_layer": 1, "n_head": 1},
    "squared relu, narrow": {"activation": "relu2", "head_bias": False, "hidden_size": 20, "n_embd": 48, "n_head": 6},
    "no scale, other epsilon": {"scale": False, "head_bias": False, "norm_eps": 1e-3, "expansion": 2},
    "dropout": {**GPT2, "dropout": 0.3},
    "short context": {**GPT2, "block_size": 8},
}
LLAMA_SHAPES: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "tied": {**LLAMA, "tie_weights": True},
    "as many key heads": {**LLAMA, "n_kv_head": None},
    "one key head": {**LLAMA, "n_kv_head": 1},
    "three query heads a key head": {**LLAMA, "n_head": 6, "n_kv_head": 2, "n_embd": 48, "n_layer": 1},
    "wide heads": {**LLAMA, "head_size": 12, "hidden_size": 30},
    "biases": {**LLAMA, "bias": True, "head_bias": False},
    "biases of queries alone": {**LLAMA, "qkv_bias": True},
    "another base": {**LLAMA, "rope_theta": 500.0, "norm_eps": 1e-6, "norm_affine": False},
    "short context": {**LLAMA, "block_size": 8},
}
SHAPES = {f"{kind}: {name}": shape for kind, shapes in (("gpt2", GPT2_SHAPES), ("llama", LLAMA_SHAPES))
          for name, shape in shapes.items()}  # fmt: skip


@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
def test_transformers_computes_the_same_logits(options: dict[str, Any], tmp_path: Path) -> None:
    ours = build_trained({"block_size": 24, **options})
    class_name = export_to_hugging_face(ours, tmp_path)
    model, info = transformers().AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert type(model).__name__ == class_name
    assert not any(info.values())  # nothing was missing, left over, or of another shape
    for length in (1, 2, 7, ours.block_size):
        idx = random_tokens(ALPHABET.vocab_size, length)
        assert torch.allclose(logits_of(model, idx), logits_of(ours.net, idx), rtol=0, atol=1e-5)


@pytest.fixture(scope="module", params=["nanogpt", "llama"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run whose context holds 200 tokens and a prompt."""
    directory: Path = tmp_path_factory.mktemp("export") / request.param
    text = directory.with_name("text.txt")
    text.write_text(tiny_shakespeare()[:20_000])
    small = ["model.n_layer=2", "model.n_embd=32", "model.block_size=220", "data.batch_size=8", "optimizer.lr=1e-2"]
    small += ["data=text", f"data.path={text}"]
    few = ["trainer.max_steps=60", "scheduler=constant", "trainer.val_check_interval=60", "data.estimate_batches=1"]
    trained(directory, f"model={request.param}", *small, *few, "logger=none", "~callbacks.samples")
    return directory


def test_a_pipeline_generates_the_greedy_text_of_generate(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran("export.py", "--run", str(run), "--format", "hf", monkeypatch=monkeypatch)
    assert capsys.readouterr().out.startswith(f"{run}/hf: ")
    pipeline = transformers().pipeline("text-generation", model=str(run / "hf"))
    for prompt in ("ROMEO:\n", " \n", "a"):
        words = ["--greedy", "--tokens", "200", "--prompt", prompt]
        ran("generate.py", "--run", str(run), *words, monkeypatch=monkeypatch)
        (theirs,) = pipeline(prompt, max_new_tokens=200, do_sample=False)
        assert theirs["generated_text"] + "\n" == capsys.readouterr().out
        assert len(theirs["generated_text"]) == len(prompt) + 200


def test_trained_weights_give_the_same_logits(run: Path, tmp_path: Path) -> None:
    ours = load_trained(run)
    export_to_hugging_face(ours, tmp_path)
    model = transformers().AutoModelForCausalLM.from_pretrained(tmp_path)
    for length in (1, 64, 220):
        idx = random_tokens(ours.tokenizer.vocab_size, length)
        assert torch.allclose(logits_of(model, idx), logits_of(ours.net, idx), rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_greedy_texts_of_random_weights_are_equal(options: dict[str, Any], tmp_path: Path) -> None:
    ours = build_trained({**options, "block_size": 210}, TINY_BPE)
    export_to_hugging_face(ours, tmp_path)
    (theirs,) = transformers().pipeline("text-generation", model=str(tmp_path))(
        "First Citizen:", max_new_tokens=200, do_sample=False
    )
    text = generate_text(
        ours.net, TINY_BPE, "First Citizen:", n_samples=1, n_tokens=200, seed=1, block_size=210, temperature=0.0
    )
    assert theirs["generated_text"].rstrip("\ufffd") == "".join(text).rstrip("\ufffd")


def test_the_rungs_with_the_shape_of_a_model_of_transformers_are_known() -> None:
    fits = {}
    for rung in RUNGS:
        network = describe_net(build_rung(rung))
        assert network is not None
        try:
            fits[rung] = architecture_of_network(network.pop("kind"), network).CLASS_NAME
        except UserError:
            continue
    assert {"nanogpt": "GPT2LMHeadModel", "llama": "LlamaForCausalLM"}.items() <= fits.items()
    assert not {"bigram", "multihead", "residual", "rope", "rmsnorm"} & fits.keys()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "of a run with model.head_bias=false"),
        ({"bias": True, **GPT2, "positions": False}, "GPT2LMHeadModel, of a run with model.positions=true"),
        ({**GPT2, "qk_norm": True}, "GPT2LMHeadModel, of a run with model.qk_norm=false"),
        ({**GPT2, "n_kv_head": 2}, "model.n_kv_head=null"),
        ({**GPT2, "head_size": 4}, "model.head_size=null"),
        ({**GPT2, "expansion": 1}, "model.expansion=4"),
        ({**GPT2, "expansion": 0}, "model.expansion=4"),
        ({**GPT2, "norm_position": "post"}, "model.norm_position=pre"),
        ({**GPT2, "residual": False}, "model.residual=true"),
        ({**GPT2, "n_prev_tokens": 2, "bigram_embedding": True}, "model.n_prev_tokens=0 model.bigram_embedding=false"),
        ({**GPT2, "attention": "mean"}, "model.attention=softmax"),
        ({**GPT2, "n_layer": 0}, "model.n_layer=1"),
        ({**LLAMA, "activation": "gelu"}, "LlamaForCausalLM, of a run with model.activation=swiglu"),
        ({**LLAMA, "norm": "layernorm"}, "model.norm=rmsnorm"),
        ({**LLAMA, "scale": False}, "model.scale=true"),
        ({**LLAMA, "bias": True}, "model.head_bias=false"),
        ({**LLAMA, "n_head": 6, "n_embd": 32, "head_size": 8}, "model.n_embd=30"),
    ],
    ids=str,
)  # fmt: skip
def test_a_shape_that_transformers_lacks_is_refused_with_the_nearest_change(
    options: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        export_to_hugging_face(build_trained(options), tmp_path / "out")
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_the_nearest_change_makes_it_fit(tmp_path: Path) -> None:
    for options in ({}, {**GPT2, "expansion": 0, "qk_norm": True}, {**LLAMA, "norm": "layernorm", "scale": False}):
        kind, arguments = "gpt", {**GPT(**options).arguments}
        with pytest.raises(UserError) as error:
            architecture_of_network(kind, arguments)
        words = str(error.value).rpartition(" of a run with ")[2].split()
        values = {"true": True, "false": False, "null": None}
        for word in words:
            key, _, value = word.removeprefix("model.").partition("=")
            arguments[key] = values[value] if value in values else int(value) if value.isdecimal() else value
        assert architecture_of_network(kind, arguments).CLASS_NAME in str(error.value)


def test_a_bigram_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(tmp_path / "run", "model=bigram", "trainer.max_steps=1", "logger=none", "~callbacks.samples")
    capsys.readouterr()
    words = f"--run {tmp_path}/run --format hf --out {tmp_path}/out"
    assert_refused("export.py", words, named="bigram", monkeypatch=monkeypatch, capsys=capsys)
    assert not (tmp_path / "out").exists()


def test_an_export_replaces_its_own_files_and_no_others(tmp_path: Path) -> None:
    export_to_hugging_face(build_trained(LLAMA), tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    export_to_hugging_face(build_trained(GPT2), tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() != before
    (tmp_path / "special_tokens_map.json").write_text("{}")
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(UserError, match=r"holds another model \(special_tokens_map.json\)"):
        export_to_hugging_face(build_trained(LLAMA), tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_generate_refuses_an_export_for_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export_to_hugging_face(build_trained(LLAMA), tmp_path)
    words = f"--checkpoint {tmp_path}/model.safetensors"
    assert_refused("generate.py", words, named="name the run itself", monkeypatch=monkeypatch, capsys=capsys)


def test_an_export_needs_neither_transformers_nor_tokenizers(tmp_path: Path) -> None:
    """In an environment without them, where importing one fails."""
    trained(tmp_path / "run", "model=llama", "model.n_embd=16", "trainer.max_steps=1", "scheduler=constant",
            "data.estimate_batches=1", "logger=none", "~callbacks.samples")  # fmt: skip
    (tmp_path / "absent").mkdir()
    for name in ("transformers", "tokenizers"):
        (tmp_path / "absent" / f"{name}.py").write_text(f"raise ModuleNotFoundError('No module named {name!r}')")
    path = {"PYTHONPATH": str(tmp_path / "absent")}
    words = ["--run", "run", "--format", "hf", "--out", "a directory"]
    done = command("scripts/export.py", *words, cwd=tmp_path, **path)
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (tmp_path / "a directory").iterdir()) == [
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


def test_the_config_names_the_context_length(tmp_path: Path) -> None:
    for options, key in ((GPT2, "n_positions"), (LLAMA, "max_position_embeddings")):
        export_to_hugging_face(build_trained({**options, "block_size": 12}), tmp_path / key)
        config = json.loads((tmp_path / key / "config.json").read_text())
        assert config[key] == 12
        assert transformers().AutoTokenizer.from_pretrained(tmp_path / key).model_max_length == 12


def test_a_tokenizer_of_the_users_own_is_refused(tmp_path: Path) -> None:
    class Words:
        vocab_size = 3

        def state_dict(self) -> dict[str, Any]:
            return {"kind": "words"}

    ours = build_trained(LLAMA)
    with pytest.raises(UserError, match="not Words"):
        export_to_hugging_face(Trained(ours.net, Words(), ours.config, ""), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_text_of_the_package_survives_the_exported_tokenizer(tmp_path: Path) -> None:
    tokenizer = CharTokenizer.from_text(tiny_shakespeare())
    export_to_hugging_face(build_trained(LLAMA, tokenizer), tmp_path)
    theirs = transformers().AutoTokenizer.from_pretrained(tmp_path)
    text = tiny_shakespeare()[:20_000]
    ids = theirs(text)["input_ids"]
    assert ids == tokenizer.encode(text).tolist()
    assert theirs.decode(ids) == text
