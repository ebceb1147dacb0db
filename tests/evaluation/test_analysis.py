"""The analysis of a trained net, and its page."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image

from gptladder.data.tokenizer import CharTokenizer
from gptladder.evaluation.analysis import (
    analyze,
    attention_entropy,
    head_entropies,
    loss_by_position,
    standard_errors,
    token_losses,
    uniform_entropy,
)
from gptladder.evaluation.attention_maps import draw_layers
from gptladder.evaluation.loss import exact_loss
from gptladder.model.attention import attention_weights
from gptladder.model.gpt import Bigram
from gptladder.report.analysis_page import MAX_TEXT_TOKENS, write_analysis
from gptladder.report.charts import to_png
from gptladder.report.loss_by_position import _range_means, plot_loss_by_position
from gptladder.runs.checkpoint import Trained, load_trained, recorded_tokens
from gptladder.system.errors import UserError
from helpers.configs import RUNGS, assert_refused, composed, ran
from helpers.html import Elements

VOCABULARY = CharTokenizer("\n &'()</>abcdeilnprstx")
V = VOCABULARY.vocab_size
NASTY = "<script>alert('x')</script> & "
SMALL = ("model.n_layer=2", "model.n_head=2", "model.n_embd=16", "model.block_size=64")


@cache
def untrained(rung: str, *overrides: str) -> Trained:
    """A rung with its initial weights."""
    cfg = composed(f"model={rung}", "run_dir=nowhere", *overrides)
    torch.manual_seed(1)
    net = instantiate(cfg.model, vocab_size=V).eval()
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    return Trained(net, VOCABULARY, config, "")


def random_tokens(n: int) -> torch.Tensor:
    return torch.randint(V, (n,), generator=torch.Generator().manual_seed(n))


# Loss per token


def test_the_loss_of_a_token_is_its_negative_log_probability() -> None:
    trained, tokens = untrained("multihead"), random_tokens(21)
    nats = token_losses(trained.net, tokens, block_size=8, vocab_size=V)
    with torch.no_grad():
        for index in range(20):
            begin = index // 8 * 8
            logits = trained.net(tokens[None, begin : index + 1])[0, -1]
            assert nats[index].item() == pytest.approx(-logits.log_softmax(-1)[tokens[index + 1]].item(), abs=1e-5)


@settings(deadline=None)
@given(n_tokens=st.integers(2, 60), block_size=st.integers(1, 70))
def test_the_mean_token_loss_is_the_exact_loss(n_tokens: int, block_size: int) -> None:
    net, tokens = Bigram(vocab_size=V, block_size=block_size), random_tokens(n_tokens)
    nats = token_losses(net, tokens, block_size=block_size, vocab_size=V)
    assert len(nats) == n_tokens - 1
    assert nats.mean().item() == pytest.approx(exact_loss(net, tokens, block_size=block_size, vocab_size=V), rel=1e-5)


# Loss by position


@pytest.mark.parametrize("n_blocks", [1, 5])
@pytest.mark.parametrize("rest", [0, 1, 7])
def test_the_weighted_mean_of_the_losses_by_position_is_the_exact_loss(n_blocks: int, rest: int) -> None:
    net, tokens = untrained("singlehead").net, random_tokens(n_blocks * 8 + rest + 1)
    losses = loss_by_position(token_losses(net, tokens, block_size=8, vocab_size=V), block_size=8)
    counts = torch.tensor([n_blocks + (position < rest) for position in range(8)])
    exact = exact_loss(net, tokens, block_size=8, vocab_size=V)
    assert float((losses * counts).sum() / counts.sum()) == pytest.approx(exact, rel=1e-5)
    if not rest:
        assert float(losses.mean()) == pytest.approx(exact, rel=1e-5)


def test_each_position_has_the_mean_of_its_predictions() -> None:
    assert loss_by_position(torch.tensor([1.0, 2.0, 3.0, 5.0, 8.0]), block_size=3).tolist() == [3.0, 5.0, 3.0]
    assert loss_by_position(torch.tensor([1.0, 2.0]), block_size=8).tolist() == [1.0, 2.0]


def test_the_loss_of_a_bigram_is_the_same_at_every_position() -> None:
    net, tokens = untrained("bigram").net, random_tokens(20_001)
    nats = token_losses(net, tokens, block_size=8, vocab_size=V)
    losses, errors = loss_by_position(nats, block_size=8), standard_errors(nats, block_size=8)
    assert errors[0].item() == pytest.approx(nats[::8].std().item() / 2500**0.5, rel=1e-3)
    assert ((losses - nats.mean()).abs() < 4 * errors).all()


@settings(deadline=None)
@given(st.integers(17, 600))
def test_the_ranges_of_a_long_context_cover_every_position(n: int) -> None:
    middles, means = _range_means([float(position) for position in range(1, n + 1)])
    assert means == pytest.approx(middles)  # the means of a straight line lie on it
    assert middles[0] == 1
    assert middles == sorted(set(middles))
    assert middles[-1] + (middles[-1] - middles[-2]) > 0.8 * n


@pytest.mark.parametrize("n", [1, 2, 8, 17, 256])
def test_a_context_of_any_length_can_be_plotted(n: int) -> None:
    assert to_png(plot_loss_by_position([2.0 + 1 / context for context in range(1, n + 1)], [0.01] * n)).startswith(
        b"\x89PNG"
    )


# Heads


def test_the_entropy_of_a_head_is_zero_for_one_token_and_largest_for_uniform_weights() -> None:
    n = 8
    last, uniform = torch.eye(n), torch.ones(n, n).tril() / torch.arange(1, n + 1)[:, None]
    entropy_of_last, entropy_of_uniform = attention_entropy(torch.stack([last, uniform])).tolist()
    assert entropy_of_last == 0
    assert entropy_of_uniform == pytest.approx(uniform_entropy(n))


def test_average_has_the_uniform_entropy_and_attention_less() -> None:
    tokens = random_tokens(100)
    (average,) = head_entropies(untrained("average").net, tokens, block_size=8)
    (attention,) = head_entropies(untrained("multihead").net, tokens, block_size=8)
    assert average.tolist() == pytest.approx([uniform_entropy(8)])
    assert len(attention) == 4
    assert (attention < uniform_entropy(8)).all()


def test_a_text_shorter_than_a_block_has_the_entropy_of_its_only_block() -> None:
    net, tokens = untrained("multihead").net, random_tokens(5)
    (weights,) = attention_weights(net, tokens)
    (heads,) = head_entropies(net, tokens, block_size=8)
    assert heads.tolist() == pytest.approx(attention_entropy(weights).tolist())


@pytest.mark.parametrize("n_tokens", [1, 8, 33, 600])
def test_maps_of_any_length_are_drawn_one_row_per_layer(n_tokens: int) -> None:
    uniform = (torch.ones(n_tokens, n_tokens).tril() / torch.arange(1, n_tokens + 1)[:, None]).expand(2, -1, -1)
    one, two = (draw_layers([uniform] * n, ["a"] * n_tokens).size for n in (1, 2))
    assert two[0] == one[0]
    assert two[1] > 1.5 * one[1]
    assert max(two) < 3000


def test_the_future_is_white_in_maps_without_labels() -> None:
    weights = torch.ones(1, 64, 64).tril() / torch.arange(1, 65)[:, None]
    image = draw_layers([weights], ["a"] * 64).convert("L")
    width, height = image.size
    assert image.getpixel((width - 60, height // 4)) == 255
    assert image.getpixel((60, height - 60)) < 255  # type: ignore[operator]


# The whole analysis


@pytest.mark.parametrize("rung", RUNGS)
def test_every_rung_can_be_analyzed(rung: str, tmp_path: Path) -> None:
    trained = untrained(rung, *(SMALL if rung == "gpt" else ()))
    analysis = analyze(
        trained.net, random_tokens(300), block_size=trained.block_size, vocab_size=V, prompt=random_tokens(100)
    )
    files = write_analysis(analysis, trained, title=rung, out=tmp_path)
    values = json.loads((tmp_path / "analysis.json").read_text())
    assert values["loss"] == pytest.approx(
        exact_loss(trained.net, random_tokens(300), block_size=trained.block_size, vocab_size=V), rel=1e-5
    )
    assert len(values["loss_by_position"]) == trained.block_size
    attends = trained.config["model"].get("n_layer", 0) > 0
    assert ((tmp_path / "attention.png") in files) == bool(values["head_entropy"]) == attends
    assert [heads.shape[1] for heads in analysis.attention] == [trained.block_size] * trained.config["model"].get(
        "n_layer", 0
    )


def test_a_prompt_longer_than_a_block_has_the_attention_of_its_last_block() -> None:
    trained, prompt = untrained("multihead"), random_tokens(20)
    (maps,) = analyze(
        trained.net, random_tokens(50), block_size=trained.block_size, vocab_size=V, prompt=prompt
    ).attention
    (expected,) = attention_weights(trained.net, prompt[-8:])
    assert torch.equal(maps, expected)


def test_an_empty_prompt_and_a_text_of_one_token_are_user_errors() -> None:
    trained = untrained("multihead")
    with pytest.raises(UserError, match="prompt= is empty"):
        analyze(trained.net, random_tokens(50), block_size=trained.block_size, vocab_size=V, prompt=random_tokens(0))
    with pytest.raises(UserError, match="at least two"):
        analyze(trained.net, random_tokens(1), block_size=trained.block_size, vocab_size=V, prompt=random_tokens(3))


# The page


def page(tmp_path: Path, *, text: str, prompt: str, title: str = "run") -> str:
    trained = untrained("multihead")
    analysis = analyze(
        trained.net,
        VOCABULARY.encode(text),
        block_size=trained.block_size,
        vocab_size=V,
        prompt=VOCABULARY.encode(prompt),
    )
    write_analysis(analysis, trained, title=title, out=tmp_path)
    return (tmp_path / "analysis.html").read_text()


def test_text_prompt_and_title_are_escaped(tmp_path: Path) -> None:
    html = page(tmp_path, text=NASTY * 9, prompt=NASTY, title="<script>alert('x')</script>")
    elements = Elements(html).elements
    assert not [tag for tag, _ in elements if tag == "script"]
    assert html.count("&lt;</i>") == 10 * NASTY.count("<")
    spans = [attributes for tag, attributes in elements if tag == "i"]
    assert len(spans) == 10 * len(NASTY)


def test_the_page_forbids_and_needs_no_network(tmp_path: Path) -> None:
    elements = Elements(page(tmp_path, text="a <b> " * 9, prompt="a b")).elements
    assert any("default-src 'none'" in (attributes.get("content") or "") for _, attributes in elements)
    addresses = [
        value or "" for _, attributes in elements for key, value in attributes.items() if key in ("src", "href")
    ]
    assert len(addresses) == 2
    assert all(address.startswith("data:image/png;base64,") for address in addresses)


def test_every_token_has_its_loss_as_title_and_color(tmp_path: Path) -> None:
    html = page(tmp_path, text="a <b> " * 9, prompt="silent cat")
    nats = [span["nats"] for span in json.loads((tmp_path / "analysis.json").read_text())["prompt"]]
    spans = [attributes for tag, attributes in Elements(html).elements if tag == "i"][: len(nats)]
    assert nats[0] is None
    assert "not predicted" in (spans[0]["title"] or "")
    uniform_loss = math.log(V)
    for index, (loss, span) in enumerate(zip(nats[1:], spans[1:], strict=True)):
        assert span["title"] == f"{loss:.3f} nats after {index % 8 + 1} tokens of context"
        assert span["style"] == f"--intensity: {min(loss / uniform_loss, 1):.3f}"


def test_the_page_shows_the_start_of_a_long_text_and_says_so(tmp_path: Path) -> None:
    html = page(tmp_path, text="a <b> " * 1000, prompt="a")
    assert f"The first {MAX_TEXT_TOKENS:,} of 6,000 tokens" in html
    assert html.count("<i ") == MAX_TEXT_TOKENS + 1


# The command


@pytest.mark.xdist_group("finished_run")
def test_the_command_writes_the_files_that_it_names_and_the_recorded_loss(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(
        "inspect_run.py",
        "--run",
        str(finished_run),
        "--prompt",
        "ROMEO: What",
        "--out",
        str(tmp_path),
        monkeypatch=monkeypatch,
    )
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(files) == sorted(tmp_path.iterdir())
    with Image.open(tmp_path / "attention.png") as image:
        assert image.width > 4 * 200
    values = json.loads((tmp_path / "analysis.json").read_text())
    recorded = json.loads((finished_run / "result.json").read_text())
    assert values["loss"] == pytest.approx(recorded["val_loss"], abs=1e-5)
    assert "".join(span["token"] for span in values["prompt"]) == "ROMEO: What"


@pytest.mark.xdist_group("finished_run")
def test_the_default_prompt_is_the_start_of_the_text(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran("inspect_run.py", "--run", str(finished_run), "--out", str(tmp_path), monkeypatch=monkeypatch)
    trained = load_trained(finished_run / "checkpoints" / "last.ckpt")
    prompt = json.loads((tmp_path / "analysis.json").read_text())["prompt"]
    assert "".join(span["token"] for span in prompt) == trained.tokenizer.decode(recorded_tokens(trained)[1][:8])


@pytest.mark.xdist_group("finished_run")
@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--prompt a", "--run"),
        ("--run . --prompt a", "there is no checkpoint checkpoints/last.ckpt"),
        ("--run RUN --prompt né", "character 'é' at position 1"),
        ("--run RUN --prompt=", "prompt= is empty"),
        ("--run RUN --text absent.txt", "--text=absent.txt"),
        ("--run RUN --text letter.txt", "at least two"),
        ("--run RUN --text text.txt --out file", "name another directory with --out"),
    ],
)
def test_a_user_error_is_one_line_on_stderr_and_leaves_no_files(
    words: str,
    named: str,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {"letter.txt": "a", "text.txt": "to be or not", "file": ""}.items():
        Path(name).write_text(text)
    words = words.replace("RUN", str(finished_run))
    assert_refused("inspect_run.py", words, named=named, monkeypatch=monkeypatch, capsys=capsys)
    assert len(list(tmp_path.iterdir())) == 3
    assert not (finished_run / "analysis").exists()
