"""Claims about the look inside: its figures are those of the net, and its page says no more than it was told."""

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
    entropy,
    error_by_position,
    even_entropy,
    head_entropies,
    inspect,
    loss_by_position,
    surprise,
)
from gptladder.evaluation.attention_maps import draw_layers
from gptladder.evaluation.loss import exact_loss
from gptladder.model.attention import attention_weights
from gptladder.model.gpt import Bigram
from gptladder.report.charts import png
from gptladder.report.inside import SHOWN, write_inspection
from gptladder.report.positions import _stretches, positions
from gptladder.runs.checkpoint import Trained, load_trained, recorded_tokens
from gptladder.system.errors import UserError
from helpers.configs import RUNGS, assert_refused, composed, ran
from helpers.html import Elements

VOCABULARY = CharTokenizer("\n &'()</>abcdeilnprstx")
NASTY = "<script>alert('x')</script> & "
SMALL = ("model.n_layer=2", "model.n_head=2", "model.n_embd=16", "model.block_size=64")


@cache
def untrained(rung: str, *overrides: str) -> Trained:
    """A net of a rung with the weights that it begins with."""
    cfg = composed(f"model={rung}", "run_dir=nowhere", *overrides)
    torch.manual_seed(1)
    net = instantiate(cfg.model, vocab_size=VOCABULARY.vocab_size).eval()
    config: Any = OmegaConf.to_container(cfg, resolve=True)
    return Trained(net, VOCABULARY, config, "")


def random_tokens(n: int) -> torch.Tensor:
    return torch.randint(VOCABULARY.vocab_size, (n,), generator=torch.Generator().manual_seed(n))


# Surprise


def test_the_surprise_of_a_token_is_minus_its_log_softmax() -> None:
    of, tokens = untrained("multihead"), random_tokens(21)
    nats = surprise(of.net, tokens, block_size=8)
    with torch.no_grad():
        for place in range(20):
            begin = place // 8 * 8
            logits = of.net(tokens[None, begin : place + 1])[0, -1]
            assert nats[place].item() == pytest.approx(-logits.log_softmax(-1)[tokens[place + 1]].item(), abs=1e-5)


@settings(deadline=None)
@given(n_tokens=st.integers(2, 60), block_size=st.integers(1, 70))
def test_the_mean_surprise_is_the_exact_loss(n_tokens: int, block_size: int) -> None:
    net, tokens = Bigram(vocab_size=VOCABULARY.vocab_size, block_size=block_size), random_tokens(n_tokens)
    nats = surprise(net, tokens, block_size=block_size)
    assert len(nats) == n_tokens - 1
    assert nats.mean().item() == pytest.approx(exact_loss(net, tokens, block_size=block_size), rel=1e-5)


# Loss by position


@pytest.mark.parametrize("n_blocks", [1, 5])
@pytest.mark.parametrize("rest", [0, 1, 7])
def test_the_loss_by_position_weighted_by_how_often_is_the_exact_loss(n_blocks: int, rest: int) -> None:
    net, tokens = untrained("singlehead").net, random_tokens(n_blocks * 8 + rest + 1)
    places = loss_by_position(surprise(net, tokens, block_size=8), block_size=8)
    often = torch.tensor([n_blocks + (place < rest) for place in range(8)])
    exact = exact_loss(net, tokens, block_size=8)
    assert float((places * often).sum() / often.sum()) == pytest.approx(exact, rel=1e-5)
    if not rest:
        assert float(places.mean()) == pytest.approx(exact, rel=1e-5)


def test_each_place_has_the_mean_of_its_own_predictions() -> None:
    assert loss_by_position(torch.tensor([1.0, 2.0, 3.0, 5.0, 8.0]), block_size=3).tolist() == [3.0, 5.0, 3.0]
    assert loss_by_position(torch.tensor([1.0, 2.0]), block_size=8).tolist() == [1.0, 2.0]


def test_a_net_that_reads_one_token_gains_nothing_from_more() -> None:
    net, tokens = untrained("bigram").net, random_tokens(20_001)
    nats = surprise(net, tokens, block_size=8)
    losses, errors = loss_by_position(nats, block_size=8), error_by_position(nats, block_size=8)
    assert errors[0].item() == pytest.approx(nats[::8].std().item() / 2500**0.5, rel=1e-3)
    assert ((losses - nats.mean()).abs() < 4 * errors).all()


@settings(deadline=None)
@given(st.integers(17, 600))
def test_the_stretches_of_a_long_context_leave_out_no_place(n: int) -> None:
    middles, means = _stretches([float(place) for place in range(1, n + 1)])
    assert means == pytest.approx(middles)  # of a straight line they lie on it
    assert middles[0] == 1
    assert middles == sorted(set(middles))
    assert middles[-1] + (middles[-1] - middles[-2]) > 0.8 * n


@pytest.mark.parametrize("n", [1, 2, 8, 17, 256])
def test_a_context_of_any_length_can_be_drawn(n: int) -> None:
    assert png(positions([2.0 + 1 / place for place in range(1, n + 1)], [0.01] * n)).startswith(b"\x89PNG")


# Heads


def test_the_entropy_of_a_head_is_zero_for_one_token_and_largest_for_an_even_look() -> None:
    n = 8
    last, even = torch.eye(n), torch.ones(n, n).tril() / torch.arange(1, n + 1)[:, None]
    one, all_of_them = entropy(torch.stack([last, even])).tolist()
    assert one == 0
    assert all_of_them == pytest.approx(even_entropy(n))


def test_the_average_reads_evenly_and_attention_does_not() -> None:
    tokens = random_tokens(100)
    (average,) = head_entropies(untrained("average").net, tokens, block_size=8)
    (attention,) = head_entropies(untrained("multihead").net, tokens, block_size=8)
    assert average.tolist() == pytest.approx([even_entropy(8)])
    assert len(attention) == 4
    assert (attention < even_entropy(8)).all()


def test_the_entropy_of_a_text_shorter_than_a_block_is_that_of_its_only_block() -> None:
    net, tokens = untrained("multihead").net, random_tokens(5)
    (weights,) = attention_weights(net, tokens)
    (heads,) = head_entropies(net, tokens, block_size=8)
    assert heads.tolist() == pytest.approx(entropy(weights).tolist())


@pytest.mark.parametrize("n_tokens", [1, 8, 33, 600])
def test_maps_of_any_length_can_be_drawn_a_row_a_layer(n_tokens: int) -> None:
    even = (torch.ones(n_tokens, n_tokens).tril() / torch.arange(1, n_tokens + 1)[:, None]).expand(2, -1, -1)
    one, two = (draw_layers([even] * n, ["a"] * n_tokens).size for n in (1, 2))
    assert two[0] == one[0]
    assert two[1] > 1.5 * one[1]
    assert max(two) < 3000


def test_the_future_is_white_in_maps_too_long_for_names() -> None:
    weights = torch.ones(1, 64, 64).tril() / torch.arange(1, 65)[:, None]
    image = draw_layers([weights], ["a"] * 64).convert("L")
    width, height = image.size
    assert image.getpixel((width - 60, height // 4)) == 255
    assert image.getpixel((60, height - 60)) < 255  # type: ignore[operator]


# The whole look


@pytest.mark.parametrize("rung", RUNGS)
def test_every_rung_shows_what_it_can(rung: str, tmp_path: Path) -> None:
    of = untrained(rung, *(SMALL if rung == "gpt" else ()))
    seen = inspect(of, random_tokens(300), prompt=random_tokens(100))
    files = write_inspection(seen, of, title=rung, out=tmp_path)
    figures = json.loads((tmp_path / "inspection.json").read_text())
    assert figures["loss"] == pytest.approx(exact_loss(of.net, random_tokens(300), block_size=of.block_size), rel=1e-5)
    assert len(figures["loss_by_position"]) == of.block_size
    attends = of.config["model"].get("n_layer", 0) > 0
    assert ((tmp_path / "attention.png") in files) == bool(figures["head_entropy"]) == attends
    assert [heads.shape[1] for heads in seen.maps] == [of.block_size] * of.config["model"].get("n_layer", 0)


def test_the_maps_of_a_prompt_longer_than_a_block_are_those_of_its_last_block() -> None:
    of, prompt = untrained("multihead"), random_tokens(20)
    (maps,) = inspect(of, random_tokens(50), prompt=prompt).maps
    (expected,) = attention_weights(of.net, prompt[-8:])
    assert torch.equal(maps, expected)


def test_an_empty_prompt_and_a_text_with_nothing_to_predict_are_mistakes() -> None:
    of = untrained("multihead")
    with pytest.raises(UserError, match="prompt= is empty"):
        inspect(of, random_tokens(50), prompt=random_tokens(0))
    with pytest.raises(UserError, match="at least two"):
        inspect(of, random_tokens(1), prompt=random_tokens(3))


# The page


def page(tmp_path: Path, *, text: str, prompt: str, title: str = "run") -> str:
    of = untrained("multihead")
    seen = inspect(of, VOCABULARY.encode(text), prompt=VOCABULARY.encode(prompt))
    write_inspection(seen, of, title=title, out=tmp_path)
    return (tmp_path / "inspection.html").read_text()


def test_nothing_that_a_text_or_a_prompt_says_becomes_markup(tmp_path: Path) -> None:
    written = page(tmp_path, text=NASTY * 9, prompt=NASTY, title="<script>alert('x')</script>")
    seen = Elements(written).seen
    assert not [tag for tag, _ in seen if tag == "script"]
    assert written.count("&lt;</i>") == 10 * NASTY.count("<")
    pieces = [attributes for tag, attributes in seen if tag == "i"]
    assert len(pieces) == 10 * len(NASTY)


def test_a_browser_may_fetch_nothing(tmp_path: Path) -> None:
    elements = Elements(page(tmp_path, text="a <b> " * 9, prompt="a b")).seen
    assert any("default-src 'none'" in (attributes.get("content") or "") for _, attributes in elements)
    addresses = [
        value or "" for _, attributes in elements for key, value in attributes.items() if key in ("src", "href")
    ]
    assert len(addresses) == 2
    assert all(address.startswith("data:image/png;base64,") for address in addresses)


def test_every_token_says_its_surprise_and_is_the_warmer_the_larger_it_is(tmp_path: Path) -> None:
    written = page(tmp_path, text="a <b> " * 9, prompt="silent cat")
    nats = [piece["nats"] for piece in json.loads((tmp_path / "inspection.json").read_text())["prompt"]]
    pieces = [attributes for tag, attributes in Elements(written).seen if tag == "i"][: len(nats)]
    assert nats[0] is None
    assert "nothing before it" in (pieces[0]["title"] or "")
    blind = math.log(VOCABULARY.vocab_size)
    for place, (cost, piece) in enumerate(zip(nats[1:], pieces[1:], strict=True)):
        assert piece["title"] == f"{cost:.3f} nats after {place % 8 + 1} of context"
        assert piece["style"] == f"--heat: {min(cost / blind, 1):.3f}"


def test_of_a_long_text_the_page_shows_the_start_and_says_so(tmp_path: Path) -> None:
    written = page(tmp_path, text="a <b> " * 1000, prompt="a")
    assert f"The first {SHOWN:,} of 6,000 tokens" in written
    assert written.count("<i ") == SHOWN + 1


# The command


@pytest.mark.xdist_group("finished_run")
def test_the_command_writes_what_it_names_and_the_loss_is_the_recorded_one(
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
    figures = json.loads((tmp_path / "inspection.json").read_text())
    recorded = json.loads((finished_run / "result.json").read_text())
    assert figures["loss"] == pytest.approx(recorded["val_loss"], abs=1e-5)
    assert "".join(piece["token"] for piece in figures["prompt"]) == "ROMEO: What"


@pytest.mark.xdist_group("finished_run")
def test_without_a_prompt_the_start_of_the_text_is_looked_at(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran("inspect_run.py", "--run", str(finished_run), "--out", str(tmp_path), monkeypatch=monkeypatch)
    of = load_trained(finished_run / "checkpoints" / "last.ckpt")
    prompt = json.loads((tmp_path / "inspection.json").read_text())["prompt"]
    assert "".join(piece["token"] for piece in prompt) == of.tokenizer.decode(recorded_tokens(of)[1][:8])


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
def test_a_mistake_is_one_line_on_stderr_and_leaves_nothing(
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
    assert not (finished_run / "inspection").exists()
