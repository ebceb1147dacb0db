"""The tour prints the numbers of the notebooks, computed with the package's own parts."""

import inspect
import io
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from torch import nn

from gptladder.runs.published import published
from gptladder.system.errors import UserError
from gptladder.tour import (
    TourConsole,
    averages,
    batch,
    bigram,
    context,
    depth,
    head,
    ladder,
    modern,
    run_tour,
    scaling,
    select_chapters,
)
from gptladder.tour.chapters import CHAPTERS, Chapter
from gptladder.tour.dataset import load_dataset
from helpers.configs import CONF, ROOT, RUNGS, assert_refused, command, ran

pytestmark = pytest.mark.xdist_group("tour")  # one process trains the bigram for all of them

FIRST_BATCH = [
    [24, 43, 58, 5, 57, 1, 46, 43],
    [44, 53, 56, 1, 58, 46, 39, 58],
    [52, 58, 1, 58, 46, 39, 58, 1],
    [25, 17, 27, 10, 0, 21, 1, 54],
]
PAST_MEANS = [
    [0.1808, -0.0700],
    [-0.0894, -0.4926],
    [0.1490, -0.3199],
    [0.3504, -0.2238],
    [0.3525, 0.0545],
    [0.0688, -0.0396],
    [0.0927, -0.0682],
    [-0.0341, 0.1332],
]
HEAD_WEIGHTS = [
    [1.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000],
    [0.1574, 0.8426, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000],
    [0.2088, 0.1646, 0.6266, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000],
    [0.5792, 0.1187, 0.1889, 0.1131, 0.0000, 0.0000, 0.0000, 0.0000],
    [0.0294, 0.1052, 0.0469, 0.0276, 0.7909, 0.0000, 0.0000, 0.0000],
    [0.0176, 0.2689, 0.0215, 0.0089, 0.6812, 0.0019, 0.0000, 0.0000],
    [0.1691, 0.4066, 0.0438, 0.0416, 0.1048, 0.2012, 0.0329, 0.0000],
    [0.0210, 0.0843, 0.0555, 0.2297, 0.0573, 0.0709, 0.2423, 0.2391],
]
SAMPLE_BEFORE = "SKIcLT;AcELMoTbvZv C?nq-QE33:CJqkOKH-q;:la!oiywkHjgChzbQ?u!3bLIgwevmyFJGUGp\nwnYWmnxKWWev-tDqXErVKLgJ"
SAMPLE_AFTER = (
    "lso br. ave aviasurf my, yxMPZI ivee iuedrd whar ksth y h bora s be hese, woweee; the! KI 'de, ulseecherd d o "
    "blllando;LUCEO, oraingofof win!\nRIfans picspeserer hee tha,\nTOFonk? me ain ckntoty ded. bo'llll st ta d:\n"
)
LOSSES = {0: 4.6924, 1000: 3.7638, 2000: 3.2342, 5000: 2.5153, 9000: 2.3976}


def print_chapter(number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Run one chapter with --plain and return what it prints."""
    ran("tour.py", "--plain", "--chapter", str(number), monkeypatch=monkeypatch)
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


def prints_as(tensor: torch.Tensor, decimals: list[list[float]]) -> bool:
    """Whether a tensor rounds to these four decimals."""
    return bool((tensor - torch.tensor(decimals)).abs().max() < 0.5e-4 + 1e-6)


@pytest.fixture(scope="module")
def full_tour(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The whole tour as a command with --plain and --save: the directory of the plots, and what was printed."""
    directory = tmp_path_factory.mktemp("tour")
    done = command("scripts/tour.py", "--plain", "--save", "plots", cwd=directory)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return directory / "plots", done.stdout


def test_chapter_1_prints_the_text_and_its_tokens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = print_chapter(1, monkeypatch, capsys)
    for line in (
        r"characters +1,115,394",
        r"    First Citizen:\n    Before we proceed any further, hear me speak\.",
        r"vocabulary size +65",
        r"encoded +\[46, 47, 47, 1, 58, 46, 43, 56, 43\]",
        r"decoded +'hii there'",
    ):
        assert re.search(line, out), line


def test_chapter_2_prints_the_splits_and_the_eight_examples_of_a_block(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = load_dataset().train[:9]
    examples = list(context.iterate_examples(first[:-1], first[1:]))
    assert examples == [
        ([18, 47, 56, 57, 58, 1, 15, 47][:n], follows) for n, follows in enumerate(first[1:].tolist(), 1)
    ]
    out = print_chapter(2, monkeypatch, capsys)
    assert re.search(r"training split +1,003,854\nvalidation split +111,540\n", out)
    for tokens, target in examples:
        assert re.search(rf"^{re.escape(str(tokens))} +{target} ", out, re.MULTILINE)


def test_chapter_3_prints_the_batch_of_seed_1337_and_its_32_examples(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = batch.sample_first_batch()
    assert x.tolist() == FIRST_BATCH
    assert torch.equal(x[:, 1:], y[:, :-1])
    assert y[:, -1].tolist() == [39, 1, 46, 39]
    out = print_chapter(3, monkeypatch, capsys)
    examples = re.findall(r"^\[([\d, ]+)\] +(\d+)$", out, re.MULTILINE)
    assert [[int(token) for token in tokens.split(", ")] for tokens, _ in examples] == [
        row[: time + 1] for row in FIRST_BATCH for time in range(8)
    ]
    assert [int(target) for _, target in examples] == y.flatten().tolist()


def test_the_untrained_bigram_has_the_notebooks_logits_loss_and_sample() -> None:
    untrained = bigram.build_untrained()
    assert untrained.logits.shape == (32, 65)
    assert round(untrained.loss, 4) == 4.8786
    assert untrained.sample == SAMPLE_BEFORE


def test_the_bigram_reproduces_the_notebooks_losses() -> None:
    losses = bigram.train(bigram.build_untrained().net, steps=101)
    assert [round(losses[step], 4) for step in (0, 100)] == [4.6924, 4.6211]


def test_chapter_4_prints_the_bigram_before_and_after_training(full_tour: tuple[Path, str]) -> None:
    out = full_tour[1]
    assert re.search(r"^logits +\[32, 65\]\nloss +4\.8786$", out, re.MULTILINE)
    plain = out.replace("\n    ", "\n")
    assert f"before training\n{SAMPLE_BEFORE}\n" in plain
    assert f"after training\n{SAMPLE_AFTER}" in plain
    losses = {int(step.replace(",", "")): loss for step, loss in re.findall(r"^ *([\d,]+) +(\d\.\d{4})$", out, re.M)}
    assert {step: float(losses[step]) for step in LOSSES} == LOSSES
    assert re.search(r"loss of the last batch +2\.3824$", out, re.MULTILINE)


def test_all_methods_of_averaging_are_equal() -> None:
    x = averages.example_input()
    means = [average(x) for average in averages.METHODS.values()]
    assert len(means) == 4
    for mean in (*means, averages.average_with_module(x)):
        assert prints_as(mean[0], PAST_MEANS)
        torch.testing.assert_close(mean, means[0], atol=1e-6, rtol=0)
    assert torch.equal(averages.uniform_weights(8), averages.softmax_weights(8))


def test_chapter_5_prints_the_mean_and_times_the_methods(full_tour: tuple[Path, str]) -> None:
    out = full_tour[1]
    mean = out.partition("mean of the past\n")[2].splitlines()[:8]
    assert [[float(value) for value in line.split()] for line in mean] == PAST_MEANS
    assert len(re.findall(r"e-\d\d +True$|0\.0e\+00 +True$", out, re.MULTILINE)) == 5
    slow, fast = (float(re.search(rf"^{name} +(\S+) s$", out, re.MULTILINE)[1]) for name in ("loops", "matrix product"))
    assert slow > fast > 0


def test_the_fastest_of_several_calls_is_reported() -> None:
    naps = iter([0.05, 0.0, 0.05])
    assert averages.time_fastest(lambda x: (time.sleep(next(naps)), x)[1], torch.zeros(1), repeats=3) < 0.05


def test_chapter_6_prints_the_weights_of_the_notebooks_head(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = head.run_head()
    assert output.weights.shape == (4, 8, 8)
    assert output.out.shape == (4, 8, 16)
    assert prints_as(output.weights[0], HEAD_WEIGHTS)
    out = print_chapter(6, monkeypatch, capsys)
    rows = out.partition("columns are keys\n")[2].splitlines()[:8]
    assert [[float(value) for value in line.split()] for line in rows] == HEAD_WEIGHTS


def test_the_head_equals_separate_key_query_and_value_layers() -> None:
    torch.manual_seed(1337)
    x = torch.randn(4, 8, 32)
    key, query, value = (nn.Linear(32, 16, bias=False) for _ in range(3))
    scores = (query(x) @ key(x).transpose(-2, -1)).masked_fill(torch.ones(8, 8).tril() == 0, float("-inf"))
    torch.testing.assert_close(head.run_head().out, scores.softmax(dim=-1) @ value(x))


def test_scaling_brings_the_variance_of_scores_back_to_one() -> None:
    torch.manual_seed(1337)
    stats = scaling.measure_variances((32, 8, 16))
    assert 0.9 < stats.key < 1.1
    assert 0.9 < stats.query < 1.1
    assert stats.scores == pytest.approx(16 * stats.scaled_scores, rel=1e-5)
    assert 0.85 < stats.scaled_scores < 1.15
    assert stats.max_weight > 0.7 > 0.4 > stats.scaled_max_weight


def test_larger_scores_sharpen_the_softmax_to_one_position() -> None:
    torch.testing.assert_close(
        scaling.sharpen(1), torch.tensor([0.1925, 0.1426, 0.2351, 0.1426, 0.2872]), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        scaling.sharpen(8), torch.tensor([0.0326, 0.0030, 0.1615, 0.0030, 0.8000]), atol=1e-4, rtol=0
    )
    assert scaling.sharpen(1000).tolist() == [0, 0, 0, 0, 1]


def test_chapter_7_prints_the_notebooks_variances_and_bars(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = print_chapter(7, monkeypatch, capsys)
    for name, variance in {"keys": "1.0449", "queries": "1.0700", r"scores / sqrt\(head_size\)": "1.0918"}.items():
        assert re.search(rf"variance of {name} +{re.escape(variance)} ", out), name
    top = re.search(r"^\+0\.5 +(#+) +0\.2872 +(#+) +0\.8000 +(#+) +0\.\d+$", out, re.MULTILINE)
    assert top is not None
    assert len(top[1]) < len(top[2]) < len(top[3])


def test_parallel_heads_equal_single_heads() -> None:
    parallel, one_by_one, weights = depth.compare_heads()
    assert parallel.shape == (4, 8, 32)
    torch.testing.assert_close(parallel, one_by_one)
    assert len({tuple(one.flatten().tolist()) for one in weights}) == 4


def test_residual_connections_carry_input_and_gradient_through_untrained_blocks() -> None:
    (input_lost, gradient_lost), (input_kept, gradient_kept) = (
        depth.probe_depth(residual=residual) for residual in (False, True)
    )
    assert abs(input_lost[-1]) < 0.1 < 0.6 < input_kept[-1]
    assert gradient_lost[0] < 1e-4 < 0.5 < gradient_kept[0]
    assert all(len(values) == depth.N_LAYER + 1 for values in (input_lost, gradient_lost, input_kept, gradient_kept))


def test_normalization_by_hand_equals_torch_and_the_notebook() -> None:
    x = depth.example_features()
    torch.testing.assert_close(depth.normalize(x, dim=1, correction=0), nn.LayerNorm(100)(x), atol=1e-5, rtol=0)
    torch.testing.assert_close(depth.normalize(x, dim=0, correction=0), nn.BatchNorm1d(100)(x), atol=1e-5, rtol=0)
    rows, columns = (depth.normalize(x, dim=dim, correction=1) for dim in (1, 0))
    assert prints_as(rows[:1, :5], [[0.1335, -0.1059, -0.3824, -0.9127, 0.5583]])
    assert prints_as(columns[None, :5, 0], [[0.0468, -0.1209, -0.1358, 0.6035, -0.0515]])


def test_chapter_8_prints_heads_residual_connections_and_norms(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = print_chapter(8, monkeypatch, capsys)
    for line in (
        r"^equal +True$",
        r"^one example +0\.0409 +1\.0476 ",
        r"^one feature +0\.1392 +0\.8899 ",
        r"^by hand, n - 1 +0\.0000 +1\.0000 +0\.1335 -0\.1059 -0\.3824 -0\.9127 +0\.5583$",
        r"^by hand, n - 1 +0\.0000 +1\.0000 +0\.0468 -0\.1209 -0\.1358 +0\.6035 -0\.0515$",
        r"^by hand with n +largest difference from torch \d\.\de-0[67]$",
    ):
        assert re.search(line, out, re.MULTILINE), line


def test_chapter_9_prints_every_rung_with_its_changes_loss_and_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rungs = {rung.name: rung for rung in ladder.load_rungs(CONF)}
    assert sorted(rungs) == RUNGS
    assert rungs["multihead"].changes == "n_head 1 → 4, head_size 16 → null"
    out = print_chapter(9, monkeypatch, capsys)
    for name, rung in rungs.items():
        number = f"{published()[name]['curve'][-1][2]:.4f}" if name in published() else "—"
        assert re.search(rf"^{name} +{re.escape(rung.idea)} +{re.escape(number)}$", out, re.MULTILINE), name
        assert rung.changes in out
        assert re.search(rf"^ +python train\.py model={name}$", out, re.MULTILINE), name
    assert "embedding and blocks are worse" in " ".join(out.split())


def test_chapter_10_shows_the_parts_of_llama(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = print_chapter(10, monkeypatch, capsys)
    numbers = [
        float(n) for line in re.findall(r"^largest .+$", out, re.MULTILINE) for n in re.findall(r"\d\.\de-\d+", line)
    ]
    assert len(numbers) == 3  # of the rotation and of both norms
    assert max(numbers) < 1e-5
    assert re.search(r"^query head 2 +changes$", out, re.MULTILINE)


def test_rotated_pairs_keep_their_length_and_turn_at_their_own_speed() -> None:
    pairs = modern.rotate_pairs()
    assert torch.allclose(pairs.norm(dim=-1), torch.ones(8, 2))
    angles = torch.atan2(pairs[..., 1], pairs[..., 0])
    assert torch.allclose(angles[1], torch.tensor([1.0, 0.1]))  # 100 ** 0 and 100 ** -1/2 radians per position


def test_rotated_scores_depend_on_the_distance_only() -> None:
    scores = modern.score_by_position()
    assert torch.allclose(scores[1:, 1:], scores[:-1, :-1], atol=1e-5)
    assert scores[0, 0] != scores[0, 1]


def test_the_norms_by_hand_equal_those_of_torch() -> None:
    x = modern.example_features()
    assert torch.allclose(modern.layer_norm(x), nn.LayerNorm(len(x))(x), atol=1e-6)
    assert torch.allclose(modern.rms_norm(x), nn.RMSNorm(len(x), eps=1e-5)(x), atol=1e-6)


def test_neighbouring_query_heads_share_keys() -> None:
    assert modern.find_shared_heads().tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]


def test_the_plain_tour_is_in_order_and_without_colors_or_boxes(full_tour: tuple[Path, str]) -> None:
    out = full_tour[1]
    assert re.findall(r"^(\d+)\. (.+)$", out, re.MULTILINE) == [(str(n), title) for n, _, title in CHAPTERS]
    assert not set(out) & set("\x1b─━│╭█")
    assert not re.search(r" +$", out.replace("\n    \n", "\n"), re.MULTILINE)


def test_every_chapter_saves_valid_plots_and_names_them(full_tour: tuple[Path, str]) -> None:
    directory, out = full_tour
    saved = sorted(path.name for path in directory.iterdir())
    assert {name.split("-")[0] for name in saved} == {str(chapter.number) for chapter in CHAPTERS}
    assert sorted(re.findall(r"^plot: plots/(\S+)$", out, re.MULTILINE)) == saved
    for name in saved:
        with Image.open(directory / name) as image:
            image.load()
            assert image.format == "PNG"
            assert len(image.convert("RGB").getcolors(image.width * image.height) or []) > 10  # it is not blank


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_a_chapter_shows_code_that_it_ran_and_names_the_axes_of_its_plots(
    chapter: Chapter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bigram, "STEPS", 2 * bigram.PRINT_INTERVAL // 1_000)
    monkeypatch.setattr(bigram, "PRINT_INTERVAL", 1)
    ran_code, shown, figures = set(), [], []
    printed = io.StringIO()
    console = TourConsole(conf=CONF, save=tmp_path, console=Console(file=printed, width=200))
    print_code = console.code
    monkeypatch.setattr(console, "code", lambda *functions: (shown.extend(functions), print_code(*functions)))
    monkeypatch.setattr(console, "save_plot", lambda name, draw: figures.append(draw()))
    sys.setprofile(lambda frame, event, argument: ran_code.add(frame.f_code) if event == "call" else None)
    try:
        run_tour([chapter], console)
    finally:
        sys.setprofile(None)
    assert shown
    for function in shown:
        code = inspect.unwrap(function).__code__
        assert code in ran_code, function
        place = f"{Path(code.co_filename).relative_to(ROOT)}:{code.co_firstlineno}  {function.__qualname__}"
        assert place in printed.getvalue()
        last_line = inspect.getsource(function).rstrip().splitlines()[-1]
        assert last_line.strip() in printed.getvalue()
        docstring = inspect.getdoc(function)
        assert docstring is None or docstring.splitlines()[0] not in printed.getvalue()
    assert figures
    for axes in (axes for figure in figures for axes in figure.axes):
        assert axes.get_xlabel()
        assert axes.get_ylabel()


def test_without_save_no_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "plot" not in print_chapter(6, monkeypatch, capsys)
    assert list(tmp_path.iterdir()) == []


def test_list_prints_every_chapter(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ran("tour.py", "--list", "--plain", monkeypatch=monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert [tuple(re.split(r"\s{2,}", line)) for line in lines[1:] if line] == [
        (str(number), name, title) for number, name, title in CHAPTERS
    ]


def test_list_does_not_import_torch() -> None:
    tour = str(ROOT / "scripts" / "tour.py")
    code = f"import runpy, sys; sys.argv[1:] = ['--list']; runpy.run_path({tour!r}, run_name='__main__')"
    listed = subprocess.run(
        [sys.executable, "-c", f"{code}; print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert listed.stdout.splitlines()[-1] == "False"
    assert CHAPTERS[-1].title in listed.stdout


@pytest.mark.parametrize(
    ("selectors", "numbers"),
    [
        ([], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        (["3"], [3]),
        (["7", "2"], [7, 2]),
        (["2-4"], [2, 3, 4]),
        (["head", "1,6"], [6, 1]),
    ],
)
def test_chapters_are_selected_by_number_range_or_name(selectors: list[str], numbers: list[int]) -> None:
    assert [chapter.number for chapter in select_chapters(selectors)] == numbers


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--chapter 12", "--chapter=12 does not exist: chapters go from 1 to 11, take --chapter 11"),
        ("--chapter 0", "take --chapter 1"),
        ("--chapter 4-2", "--chapter=4-2"),
        ("--chapter 1-12", "--chapter=1-12"),
        ("--chapter bigrm", "did you mean bigram?"),
        ("--chapter -1", "--chapter"),
        ("--chapter 6 --save file", "--save=file cannot be written"),
        ("--chapter 6 --save file/below", "--save=file/below cannot be written"),
    ],
)
def test_a_user_error_is_one_line_and_prints_nothing(
    arguments: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("not a directory")
    assert_refused("tour.py", arguments, named=named, monkeypatch=monkeypatch, capsys=capsys)


def test_an_unwritable_plot_is_a_user_error(tmp_path: Path) -> None:
    console = TourConsole(conf=CONF, plain=True, save=tmp_path / "plots")
    console.create_save_directory()
    (chapter,) = select_chapters(["head"])
    (tmp_path / "plots" / "6-weights.png").mkdir()  # a directory in its place
    with pytest.raises(UserError, match="cannot be written"):
        run_tour([chapter], console)
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["6-weights.png"]


def test_the_tour_restores_the_random_state_and_the_number_of_threads(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    run_tour(select_chapters(["3", "6"]), TourConsole(conf=CONF, plain=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
