"""``gptladder.load``, ``Run`` and the tables: the same numbers as the commands, as values and in a notebook."""

import math
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import gptladder
from gptladder.runs.checkpoint import validation_tokens
from helpers import results
from helpers.configs import ran
from helpers.runs import read

pytestmark = pytest.mark.xdist_group("finished_run")  # one process makes the run for all of them


@pytest.fixture(scope="module")
def trained(finished_run: Path) -> gptladder.Trained:
    return gptladder.load(finished_run)


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ladder")
    for rung, seed in (("bigram", 1), ("bigram", 2), ("multihead", 1)):
        path = results.run(directory, rung, seed=seed)
        (path / ".hydra" / "overrides.yaml").write_text(f"- model={rung}\n- optimizer.lr=1e-2\n- seed={seed}\n")
    return directory


def assert_well_formed(html: str) -> None:
    """Every tag that opens is closed, and nothing is loaded from elsewhere."""
    open_tags: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in ("img", "br"):
                open_tags.append(tag)
            assert all(not str(value).startswith(("http", "//", "file:")) for _, value in attrs)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Checker().feed(html)
    assert open_tags == []


def test_generate_gives_the_text_of_the_command(
    trained: gptladder.Trained,
    finished_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("--run", str(finished_run), "--prompt", "ROMEO:", "--tokens", "40", "--seed", "7", "--top-k", "5")
    ran("generate.py", *words, monkeypatch=monkeypatch)
    text = trained.generate("ROMEO:", n_tokens=40, seed=7, top_k=5)
    assert f"{text}\n" == capsys.readouterr().out
    pieces = trained.generate("ROMEO:", n_tokens=40, seed=7, top_k=5, stream=True)
    assert next(pieces) == "ROMEO:"
    assert text == "ROMEO:" + "".join(pieces)


def test_the_options_of_generate_change_the_text(trained: gptladder.Trained) -> None:
    texts = [
        trained.generate(n_tokens=60),
        trained.generate(n_tokens=60, seed=1),
        trained.generate(n_tokens=60, temperature=0.5),
        trained.generate(n_tokens=60, temperature=0),
        trained.generate(n_tokens=60, top_p=0.3),
    ]
    assert len(set(texts)) == len(texts)
    assert trained.generate(n_tokens=60) == texts[0]
    assert trained.generate("a", n_tokens=0) == "a"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "né"}, "character 'é' at position 1"),
        ({"n_tokens": -1}, "tokens=-1"),
        ({"temperature": math.nan}, "temperature=nan"),
        ({"top_k": 0}, "top_k=0"),
        ({"seed": -1}, "seed=-1"),
    ],
    ids=str,
)
def test_a_mistake_in_an_option_is_raised_before_the_first_piece(
    trained: gptladder.Trained, options: dict[str, object], message: str, stream: bool
) -> None:
    with pytest.raises(gptladder.UserError, match=message):
        trained.generate(**options, stream=stream)  # type: ignore[call-overload]


def test_evaluate_gives_the_exact_loss_of_the_run(trained: gptladder.Trained, finished_run: Path) -> None:
    metrics, result = trained.evaluate(), read(finished_run)
    assert metrics["loss"] == pytest.approx(result["val_loss"], abs=1e-6)
    assert metrics["bits_per_char"] == pytest.approx(result["val_bits_per_char"], abs=1e-6)
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["loss"]))
    assert metrics["n_predictions"] == len(validation_tokens(trained).tokens) - 1


def test_surprise_has_the_loss_of_each_token(trained: gptladder.Trained) -> None:
    text = "First Citizen:\nspeak"
    surprise = trained.surprise(text)
    assert "".join(surprise.tokens) == text
    assert surprise.nats.shape == (len(text),)
    assert np.isnan(surprise.nats[0])
    assert np.nanmean(surprise.nats) == pytest.approx(trained.evaluate(text)["loss"], abs=1e-5)
    assert surprise.uniform_loss == pytest.approx(math.log(65))


def test_attention_is_one_array_per_layer_whose_rows_sum_to_one(trained: gptladder.Trained) -> None:
    attention = trained.attention("ROMEO")
    assert [weights.shape for weights in attention] == [(4, 5, 5)]
    assert attention.tokens == list("ROMEO")
    assert np.allclose(attention[0].sum(axis=-1), 1, atol=1e-5)
    assert np.all(np.triu(attention[0], k=1) == 0)
    assert trained.attention("ROMEO: what light").tokens == list("at light")  # the last block


@pytest.mark.parametrize("text", ["", "é", "a"])
def test_a_text_that_cannot_be_used_is_a_user_error(trained: gptladder.Trained, text: str) -> None:
    calls = [trained.evaluate, trained.surprise, *([] if text == "a" else [trained.attention])]
    for call in calls:
        with pytest.raises(gptladder.UserError):
            call(text)


def test_a_run_is_its_result_its_curve_and_its_network(finished_run: Path) -> None:
    run = gptladder.Run(finished_run)
    assert run.result == read(finished_run)
    assert list(run.curve.columns) == ["step", "train_estimate", "val_estimate", "val_loss"]
    assert run.curve.to_dict("records") == run.result["curve"]
    last, best = run.load().evaluate("speak"), run.load("best").evaluate("speak")
    assert last == best  # the loss only falls in so few steps
    assert repr(run) == (
        f"Run('{finished_run}': multihead, finished, step 20, exact val loss {run.result['val_loss']:.4f})"
    )


def test_a_directory_without_a_run_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(gptladder.UserError, match="there is no run in"):
        gptladder.Run(tmp_path)
    with pytest.raises(gptladder.UserError, match="there is no checkpoint"):
        gptladder.load(tmp_path)


def test_runs_is_a_table_with_a_column_per_override(ladder: Path) -> None:
    table = gptladder.runs(ladder)
    assert table[["model", "seed"]].to_numpy().tolist() == [["bigram", 1], ["bigram", 2], ["multihead", 1]]
    assert table["optimizer.lr"].tolist() == [0.01] * 3
    assert table.groupby("model")["val_loss"].mean()["bigram"] == pytest.approx(2.4919)
    assert set(table["verdict"]) == {"MATCH"}
    assert [Path(path).parent for path in table["path"]] == [ladder] * 3


def test_runs_and_report_are_also_the_packages_of_their_name(ladder: Path) -> None:
    import gptladder.report.charts
    import gptladder.runs.run

    assert gptladder.runs.run.Run(ladder / "bigram-seed1").finished  # type: ignore[attr-defined]
    assert len(gptladder.runs(ladder)) == 3


@pytest.mark.parametrize("function", ["runs", "report"])
def test_a_directory_without_runs_is_a_user_error(function: str, tmp_path: Path) -> None:
    for directory, message in ((tmp_path / "absent", "is not a directory"), (tmp_path, "no runs found")):
        with pytest.raises(gptladder.UserError, match=message):
            getattr(gptladder, function)(directory)


def test_a_table_without_pandas_is_one_line_with_the_remedy(
    finished_run: Path, ladder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    for table in (lambda: gptladder.Run(finished_run).curve, lambda: gptladder.runs(ladder)):
        with pytest.raises(gptladder.UserError, match=r"^a table needs pandas, .*: pip install pandas$"):
            table()


def test_a_report_writes_its_files_and_shows_its_table(ladder: Path, tmp_path: Path) -> None:
    report = gptladder.report(ladder, tmp_path / "out")
    assert report.page == tmp_path / "out" / "report.html"
    assert {path.name for path in report.page.parent.iterdir()} >= {"report.html", "table.csv", "curves.png"}
    html = report._repr_html_()
    assert_well_formed(html)
    assert all(part in html for part in ("multihead", "2.4919", "MATCH"))


def test_a_notebook_shows_the_summary_of_a_run(finished_run: Path) -> None:
    html = gptladder.Run(finished_run)._repr_html_()
    assert_well_formed(html)
    result = read(finished_run)
    for part in ("7,553", f"{result['val_loss']:.4f}", "matches so far", "tensorboard --logdir"):
        assert part in html


def test_a_notebook_shows_a_failed_run_with_its_error(tmp_path: Path) -> None:
    path = results.run(tmp_path, "bigram", status="failed", error="Traceback\nValueError: <b>bad</b>")
    html = gptladder.Run(path)._repr_html_()
    assert_well_formed(html)
    assert "ValueError: &lt;b&gt;bad&lt;/b&gt;" in html


def test_a_notebook_draws_attention_and_shades_text(trained: gptladder.Trained) -> None:
    assert 'src="data:image/png;base64,' in trained.attention("ROMEO")._repr_html_()
    html = trained.surprise("a & b\nc")._repr_html_()
    assert_well_formed(html)
    assert "&amp;" in html
    assert html.count("<i ") == 7


def test_a_rung_without_attention_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = gptladder.train("model=bigram", "trainer.max_steps=1", "data.estimate_batches=2", "logger=none")
    attention = run.load().attention("a")
    assert len(attention) == 0
    assert "no attention" in attention._repr_html_()
