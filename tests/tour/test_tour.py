"""The tour: every figure is the notebooks', and comes out of the package's own parts."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from gptladder.runs.published import published
from gptladder.system.errors import UserError
from gptladder.tour import Board, averages, batch, bigram, block, chosen, depth, guide, head, ladder, scaling
from gptladder.tour.material import material
from gptladder.tour.outline import CHAPTERS
from helpers.configs import CONF, ROOT, RUNGS, assert_refused, command, ran

pytestmark = pytest.mark.xdist_group("tour")  # one process trains the bigram for all of them

ON_BATCH = [
    [24, 43, 58, 5, 57, 1, 46, 43],
    [44, 53, 56, 1, 58, 46, 39, 58],
    [52, 58, 1, 58, 46, 39, 58, 1],
    [25, 17, 27, 10, 0, 21, 1, 54],
]
MEANS = [
    [0.1808, -0.0700],
    [-0.0894, -0.4926],
    [0.1490, -0.3199],
    [0.3504, -0.2238],
    [0.3525, 0.0545],
    [0.0688, -0.0396],
    [0.0927, -0.0682],
    [-0.0341, 0.1332],
]
HEAD = [
    [1.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000],
    [0.1574, 0.8426, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000],
    [0.2088, 0.1646, 0.6266, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000],
    [0.5792, 0.1187, 0.1889, 0.1131, 0.0000, 0.0000, 0.0000, 0.0000],
    [0.0294, 0.1052, 0.0469, 0.0276, 0.7909, 0.0000, 0.0000, 0.0000],
    [0.0176, 0.2689, 0.0215, 0.0089, 0.6812, 0.0019, 0.0000, 0.0000],
    [0.1691, 0.4066, 0.0438, 0.0416, 0.1048, 0.2012, 0.0329, 0.0000],
    [0.0210, 0.0843, 0.0555, 0.2297, 0.0573, 0.0709, 0.2423, 0.2391],
]
BEFORE_TRAINING = (
    "SKIcLT;AcELMoTbvZv C?nq-QE33:CJqkOKH-q;:la!oiywkHjgChzbQ?u!3bLIgwevmyFJGUGp\nwnYWmnxKWWev-tDqXErVKLgJ"
)
AFTER_TRAINING = (
    "lso br. ave aviasurf my, yxMPZI ivee iuedrd whar ksth y h bora s be hese, woweee; the! KI 'de, ulseecherd d o "
    "blllando;LUCEO, oraingofof win!\nRIfans picspeserer hee tha,\nTOFonk? me ain ckntoty ded. bo'llll st ta d:\n"
)
LOSSES = {0: 4.6924, 1000: 3.7638, 2000: 3.2342, 5000: 2.5153, 9000: 2.3976}


def told(number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What the plain tour prints of a chapter."""
    ran("tour.py", "--plain", "--chapter", str(number), monkeypatch=monkeypatch)
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


def close(tensor: torch.Tensor, figures: list[list[float]]) -> bool:
    """Whether a tensor would be printed with these four decimals."""
    return bool((tensor - torch.tensor(figures)).abs().max() < 0.5e-4 + 1e-6)


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The whole tour by its command, plain, with its pictures: their directory and what was printed."""
    directory = tmp_path_factory.mktemp("tour")
    done = command("scripts/tour.py", "--plain", "--save", "pictures", cwd=directory)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return directory / "pictures", done.stdout


def test_the_first_chapter_tells_the_text_and_its_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = told(1, monkeypatch, capsys)
    for line in (
        r"characters +1,115,394",
        r"    First Citizen:\n    Before we proceed any further, hear me speak\.",
        r"vocabulary size +65",
        r"encoded +\[46, 47, 47, 1, 58, 46, 43, 56, 43\]",
        r"decoded +'hii there'",
    ):
        assert re.search(line, out), line


def test_the_second_chapter_tells_the_split_and_the_eight_pairs_of_a_block(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = material().train[:9]
    lesson = list(block.pairs(first[:-1], first[1:]))
    assert lesson == [([18, 47, 56, 57, 58, 1, 15, 47][:n], follows) for n, follows in enumerate(first[1:].tolist(), 1)]
    out = told(2, monkeypatch, capsys)
    assert re.search(r"training split +1,003,854\nvalidation split +111,540\n", out)
    for context, target in lesson:
        assert re.search(rf"^{re.escape(str(context))} +{target} ", out, re.MULTILINE)


def test_the_third_chapter_tells_the_batch_of_seed_1337_and_its_32_pairs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = batch.first_batch()
    assert x.tolist() == ON_BATCH
    assert torch.equal(x[:, 1:], y[:, :-1])
    assert y[:, -1].tolist() == [39, 1, 46, 39]
    out = told(3, monkeypatch, capsys)
    pairs = re.findall(r"^\[([\d, ]+)\] +(\d+)$", out, re.MULTILINE)
    assert [[int(token) for token in context.split(", ")] for context, _ in pairs] == [
        row[: time + 1] for row in ON_BATCH for time in range(8)
    ]
    assert [int(target) for _, target in pairs] == y.flatten().tolist()


def test_the_untrained_bigram_has_the_notebooks_logits_loss_and_sample() -> None:
    start = bigram.untrained()
    assert start.logits.shape == (32, 65)
    assert round(start.loss, 4) == 4.8786
    assert start.sample == BEFORE_TRAINING


def test_the_bigram_trains_along_the_notebooks_losses() -> None:
    losses = bigram.train(bigram.untrained().net, steps=101)
    assert [round(losses[step], 4) for step in (0, 100)] == [4.6924, 4.6211]


def test_the_fourth_chapter_tells_the_bigram_before_and_after_training(pictured: tuple[Path, str]) -> None:
    out = pictured[1]
    assert re.search(r"^logits +\[32, 65\]\nloss +4\.8786$", out, re.MULTILINE)
    plain = out.replace("\n    ", "\n")
    assert f"before training\n{BEFORE_TRAINING}\n" in plain
    assert f"after training\n{AFTER_TRAINING}" in plain
    losses = {int(step.replace(",", "")): loss for step, loss in re.findall(r"^ *([\d,]+) +(\d\.\d{4})$", out, re.M)}
    assert {step: float(losses[step]) for step in LOSSES} == LOSSES
    assert re.search(r"loss of the last batch +2\.3824$", out, re.MULTILINE)


def test_all_ways_of_averaging_are_equal() -> None:
    x = averages.example()
    means = [way(x) for way in averages.WAYS.values()]
    assert len(means) == 4
    for mean in (*means, averages.rung(x)):
        assert close(mean[0], MEANS)
        torch.testing.assert_close(mean, means[0], atol=1e-6, rtol=0)
    assert torch.equal(averages.weights(8), averages.softmax_weights(8))


def test_the_fifth_chapter_tells_the_mean_and_times_the_ways(pictured: tuple[Path, str]) -> None:
    out = pictured[1]
    mean = out.partition("its mean of the past\n")[2].splitlines()[:8]
    assert [[float(value) for value in line.split()] for line in mean] == MEANS
    assert len(re.findall(r"e-\d\d +True$|0\.0e\+00 +True$", out, re.MULTILINE)) == 5
    slow, fast = (float(re.search(rf"^{name} +(\S+) s$", out, re.MULTILINE)[1]) for name in ("loops", "matrix product"))
    assert slow > fast > 0


def test_a_stopwatch_keeps_the_shortest_run() -> None:
    naps = iter([0.05, 0.0, 0.05])
    assert averages.seconds(lambda x: (time.sleep(next(naps)), x)[1], torch.zeros(1), repeats=3) < 0.05


def test_the_sixth_chapter_tells_the_weights_of_the_notebooks_head(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = head.head()
    assert found.weights.shape == (4, 8, 8)
    assert found.out.shape == (4, 8, 16)
    assert close(found.weights[0], HEAD)
    out = told(6, monkeypatch, capsys)
    rows = out.partition("row looks at column\n")[2].splitlines()[:8]
    assert [[float(value) for value in line.split()] for line in rows] == HEAD


def test_the_head_equals_the_lectures_layers() -> None:
    torch.manual_seed(1337)
    x = torch.randn(4, 8, 32)
    key, query, value = (nn.Linear(32, 16, bias=False) for _ in range(3))
    scores = (query(x) @ key(x).transpose(-2, -1)).masked_fill(torch.ones(8, 8).tril() == 0, float("-inf"))
    torch.testing.assert_close(head.head().out, scores.softmax(dim=-1) @ value(x))


def test_division_brings_the_variance_of_scores_back_to_one() -> None:
    torch.manual_seed(1337)
    found = scaling.spread((32, 8, 16))
    assert 0.9 < found.key < 1.1
    assert 0.9 < found.query < 1.1
    assert found.scores == pytest.approx(16 * found.scaled, rel=1e-5)
    assert 0.85 < found.scaled < 1.15
    assert found.sharpness > 0.7 > 0.4 > found.scaled_sharpness


def test_growing_scores_sharpen_the_softmax_to_one_position() -> None:
    torch.testing.assert_close(
        scaling.sharpened(1), torch.tensor([0.1925, 0.1426, 0.2351, 0.1426, 0.2872]), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        scaling.sharpened(8), torch.tensor([0.0326, 0.0030, 0.1615, 0.0030, 0.8000]), atol=1e-4, rtol=0
    )
    assert scaling.sharpened(1000).tolist() == [0, 0, 0, 0, 1]


def test_the_seventh_chapter_tells_the_notebooks_variances_and_draws_bars(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = told(7, monkeypatch, capsys)
    for name, figure in {"keys": "1.0449", "queries": "1.0700", r"scores / sqrt\(head_size\)": "1.0918"}.items():
        assert re.search(rf"variance of {name} +{re.escape(figure)} ", out), name
    top = re.search(r"^\+0\.5 +(#+) +0\.2872 +(#+) +0\.8000 +(#+) +0\.\d+$", out, re.MULTILINE)
    assert top is not None
    assert len(top[1]) < len(top[2]) < len(top[3])


def test_heads_side_by_side_equal_heads_one_after_another() -> None:
    together, one_by_one, weights = depth.heads()
    assert together.shape == (4, 8, 32)
    torch.testing.assert_close(together, one_by_one)
    assert len({tuple(one.flatten().tolist()) for one in weights}) == 4


def test_residual_paths_carry_input_and_gradient_through_fresh_layers() -> None:
    (input_lost, gradient_lost), (input_kept, gradient_kept) = (
        depth.through_layers(residual=residual) for residual in (False, True)
    )
    assert abs(input_lost[-1]) < 0.1 < 0.6 < input_kept[-1]
    assert gradient_lost[0] < 1e-4 < 0.5 < gradient_kept[0]
    assert all(len(values) == depth.N_LAYER + 1 for values in (input_lost, gradient_lost, input_kept, gradient_kept))


def test_normalising_by_hand_gives_torchs_layers_and_the_notebooks_figures() -> None:
    x = depth.normed_input()
    torch.testing.assert_close(depth.normalised(x, dim=1, correction=0), nn.LayerNorm(100)(x), atol=1e-5, rtol=0)
    torch.testing.assert_close(depth.normalised(x, dim=0, correction=0), nn.BatchNorm1d(100)(x), atol=1e-5, rtol=0)
    rows, columns = (depth.normalised(x, dim=dim, correction=1) for dim in (1, 0))
    assert close(rows[:1, :5], [[0.1335, -0.1059, -0.3824, -0.9127, 0.5583]])
    assert close(columns[None, :5, 0], [[0.0468, -0.1209, -0.1358, 0.6035, -0.0515]])


def test_the_eighth_chapter_tells_heads_residual_paths_and_norms(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = told(8, monkeypatch, capsys)
    for line in (
        r"^equal +True$",
        r"^one example +0\.0409 +1\.0476 ",
        r"^one feature +0\.1392 +0\.8899 ",
        r"^by hand, n - 1 +0\.0000 +1\.0000 +0\.1335 -0\.1059 -0\.3824 -0\.9127 +0\.5583$",
        r"^by hand, n - 1 +0\.0000 +1\.0000 +0\.0468 -0\.1209 -0\.1358 +0\.6035 -0\.0515$",
        r"^by hand with divisor n +largest difference to torch's \d\.\de-0[67]$",
    ):
        assert re.search(line, out, re.MULTILINE), line


def test_the_ninth_chapter_tells_every_rung_with_its_change_number_and_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rungs = {rung.name: rung for rung in ladder.rungs(CONF)}
    assert sorted(rungs) == RUNGS
    assert rungs["multihead"].keys == "n_head 1 → 4, head_size 16 → null"
    out = told(9, monkeypatch, capsys)
    for name, rung in rungs.items():
        number = f"{published()[name]['curve'][-1][2]:.4f}" if name in published() else "—"
        assert re.search(rf"^{name} +{re.escape(rung.idea)} +{re.escape(number)}$", out, re.MULTILINE), name
        assert rung.keys in out
        assert re.search(rf"^ +python train\.py model={name}$", out, re.MULTILINE), name
    assert "look at embedding, blocks." in " ".join(out.split())


def test_the_whole_tour_is_told_in_order_without_colours_or_boxes(pictured: tuple[Path, str]) -> None:
    out = pictured[1]
    assert re.findall(r"^(\d)\. (.+)$", out, re.MULTILINE) == [(str(n), title) for n, _, title in CHAPTERS]
    assert not set(out) & set("\x1b─━│╭█")
    assert not re.search(r" +$", out.replace("\n    \n", "\n"), re.MULTILINE)


def test_every_chapter_saves_pictures_that_open_and_names_them(pictured: tuple[Path, str]) -> None:
    directory, out = pictured
    saved = sorted(path.name for path in directory.iterdir())
    assert {name[0] for name in saved} == {str(chapter.number) for chapter in CHAPTERS}
    assert sorted(re.findall(r"^picture: pictures/(\S+)$", out, re.MULTILINE)) == saved
    for name in saved:
        with Image.open(directory / name) as image:
            image.load()
            assert image.format == "PNG"
            assert (
                len(image.convert("RGB").getcolors(image.width * image.height) or []) > 10
            )  # there is something on it


def test_without_save_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "picture" not in told(6, monkeypatch, capsys)
    assert list(tmp_path.iterdir()) == []


def test_the_list_names_every_chapter(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ran("tour.py", "--list", "--plain", monkeypatch=monkeypatch)
    lines = capsys.readouterr().out.splitlines()
    assert [tuple(re.split(r"\s{2,}", line)) for line in lines[1:] if line] == [
        (str(number), name, title) for number, name, title in CHAPTERS
    ]


def test_the_list_does_not_wait_for_torch() -> None:
    tour = str(ROOT / "scripts" / "tour.py")
    code = f"import runpy, sys; sys.argv[1:] = ['--list']; runpy.run_path({tour!r}, run_name='__main__')"
    listed = subprocess.run(
        [sys.executable, "-c", f"{code}; print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert listed.stdout.splitlines()[-1] == "False"
    assert CHAPTERS[-1].title in listed.stdout


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        ([], [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (["3"], [3]),
        (["7", "2"], [7, 2]),
        (["2-4"], [2, 3, 4]),
        (["head", "1,6"], [6, 1]),
    ],
)
def test_chapters_are_chosen_by_number_range_or_name(words: list[str], numbers: list[int]) -> None:
    assert [chapter.number for chapter in chosen(words)] == numbers


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--chapter 12", "--chapter=12 does not exist: chapters go from 1 to 9, take --chapter 9"),
        ("--chapter 0", "take --chapter 1"),
        ("--chapter 4-2", "--chapter=4-2"),
        ("--chapter 1-10", "--chapter=1-10"),
        ("--chapter bigrm", "did you mean bigram?"),
        ("--chapter -1", "--chapter"),
        ("--chapter 6 --save file", "--save=file cannot be written"),
        ("--chapter 6 --save file/below", "--save=file/below cannot be written"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_shown(
    arguments: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("not a directory")
    assert_refused("tour.py", arguments, named=named, monkeypatch=monkeypatch, capsys=capsys)


def test_a_picture_that_cannot_be_written_is_the_users_mistake(tmp_path: Path) -> None:
    board = Board(conf=CONF, plain=True, save=tmp_path / "pictures")
    board.prepare()
    (chapter,) = chosen(["head"])
    (tmp_path / "pictures" / "6-weights.png").mkdir()  # stands where the picture should
    with pytest.raises(UserError, match="cannot be written"):
        guide([chapter], board)
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["6-weights.png"]


def test_the_tour_leaves_random_numbers_and_threads_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    guide(chosen(["3", "6"]), Board(conf=CONF, plain=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
