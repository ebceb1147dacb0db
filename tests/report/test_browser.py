"""Claims about what a reader sees: TensorBoard and the report of a sweep, opened in Chromium.

What must be on the screen is read from the records of the runs, never typed.
"""

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from io import BytesIO
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.request import ProxyHandler, build_opener

import pytest
from omegaconf import OmegaConf
from PIL import Image, ImageChops
from selenium.common.exceptions import TimeoutException
from selenium.webdriver import ActionChains, Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from gptladder.report.collect import collect
from gptladder.report.counting import yardstick
from gptladder.report.rows import arranged
from helpers.configs import command

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
PATIENCE = 60  # seconds

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),  # one sweep, one server and one Chromium for all
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="needs Chromium and its driver: apt install chromium chromium-driver"
    ),
]

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1500,1100",
]

# TensorBoard's dashboards hide in shadow roots, where no selector looks.
WITHIN = """
const all = (selector, root = document) => [...root.querySelectorAll(selector),
  ...[...root.querySelectorAll("*")].filter(e => e.shadowRoot).flatMap(e => all(selector, e.shadowRoot))];
"""

# The rows of a table of which the text hangs in slots.
SLOTTED = """
const text = cell => [...cell.querySelectorAll("slot")].flatMap(slot => slot.assignedNodes())
  .map(node => node.textContent.trim()).join("");
return all("tr").map(row => [...row.children].map(text));
"""

# The attention maps that have arrived and can be seen.
MAPS = """
const isSeen = image => image.complete && image.naturalWidth > 100 && image.offsetWidth > 100;
return all("tf-image-loader").filter(card => all("img", card.shadowRoot ?? card).some(isSeen))
  .map(card => [card.run, card.tag]);
"""

# The rungs in the report's legend of which a curve is on the chart.
DRAWN = """
const stroke = path => path.style.stroke;
const curves = [...document.querySelectorAll("#chart .scatterlayer .trace path.js-line")]
  .filter(path => path.getTotalLength() > 100).map(stroke);
return [...document.querySelectorAll("#chart .legend .traces")]
  .filter(entry => curves.includes(stroke(entry.querySelector(".legendlines path"))))
  .map(entry => entry.querySelector(".legendtext").textContent).sort();
"""

CELLS = (
    "return [...document.querySelectorAll('#table tbody tr')].map(row => [...row.cells].map(cell => cell.innerText))"
)
SOURCES = "return ['src', 'href'].flatMap(k => [...document.querySelectorAll(`[${k}]`)].map(e => e.getAttribute(k)))"


@dataclass(frozen=True)
class Ladder:
    """Three rungs, trained for a moment: of each its record and its config, by the name of its directory."""

    path: Path
    results: dict[str, dict[str, Any]]
    configs: dict[str, Any]

    @cached_property
    def labels(self) -> dict[str, str]:
        """What the report calls each rung, by directory."""
        with (self.path / "table.csv").open() as file:
            called = {row["rung"]: row["label"] for row in csv.DictReader(file)}
        return {name: called[result["model"]] for name, result in self.results.items()}

    @property
    def layers(self) -> set[tuple[str, str]]:
        """Run and tag of every map that must have been drawn."""
        return {
            (run_name(name), f"attention/layer {number}")
            for name, config in self.configs.items()
            for number in range(1, config.model.get("n_layer", 0) + 1)
        }

    def at(self, step: int, quantity: str) -> dict[str, float]:
        """What each rung measured at a step, by directory."""
        return {
            name: next(point[quantity] for point in result["curve"] if point["step"] == step)
            for name, result in self.results.items()
        }

    def reported(self, step: int, quantity: str) -> dict[str, str]:
        """The same as the report has to say it."""
        return {self.labels[name]: f"{loss:.4f}" for name, loss in self.at(step, quantity).items()}


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Ladder:
    directory = tmp_path_factory.mktemp("browsed")
    short = ("trainer.max_steps=20", "trainer.val_check_interval=10")
    done = command("train.py", "-m", "model=bigram,multihead,layernorm", *short, "sweep=browsed", cwd=directory)
    assert done.returncode == 0, done.stderr
    path = directory / "outputs" / "browsed"
    results = {run.parent.name: json.loads(run.read_text()) for run in sorted(path.glob("*/result.json"))}
    assert sorted(result["model"] for result in results.values()) == ["bigram", "layernorm", "multihead"]
    return Ladder(path, results, {name: OmegaConf.load(path / name / ".hydra" / "config.yaml") for name in results})


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = CHROMIUM or ""
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    browser = Chrome(options, ChromeService(DRIVER))
    browser.set_page_load_timeout(PATIENCE)
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def tensorboard(ladder: Ladder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a TensorBoard that has read all runs: a page is as old as its loading."""
    log = tmp_path_factory.mktemp("tensorboard") / "log"
    words = ["--logdir", str(ladder.path), "--host", "127.0.0.1", "--port", "0"]
    with log.open("w") as file:
        server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", *words], stdout=file, stderr=file)
    try:
        eventually(lambda: server.poll() is not None or "http://" in log.read_text(), True)
        address = re.search(r"http://127\.0\.0\.1:\d+/", log.read_text())
        assert address, log.read_text()
        eventually(lambda: len(tags(address[0], "scalars")), len(ladder.results))
        eventually(lambda: sum(map(len, tags(address[0], "images").values())), len(ladder.layers))
        yield address[0]
    finally:
        server.terminate()
        server.wait(PATIENCE)


@pytest.fixture
def report(browser: Chrome, ladder: Ladder) -> Chrome:
    """The browser with the report open and its chart drawn."""
    browser.get((ladder.path / "report.html").as_uri())
    assert_becomes(browser, lambda: drawn(browser), sorted(ladder.labels.values()))
    return browser


def tags(address: str, plugin: str) -> dict[str, Any]:
    """What TensorBoard has read of each run; nothing while it is not ready."""
    try:
        with build_opener(ProxyHandler({})).open(f"{address}data/plugin/{plugin}/tags", timeout=PATIENCE) as response:
            read: dict[str, Any] = json.load(response)
            return read
    except OSError:
        return {}


def eventually(read: Callable[[], object], expected: object) -> None:
    deadline = monotonic() + PATIENCE
    while (seen := read()) != expected and monotonic() < deadline:
        sleep(0.1)
    assert seen == expected


def assert_becomes(browser: Chrome, read: Callable[[], object], expected: object) -> None:
    """Wait until the page shows what is expected; if it never does, say what it shows."""
    try:
        WebDriverWait(browser, PATIENCE, 0.2).until(lambda _: read() == expected)
    except TimeoutException:
        assert read() == expected


def shown(browser: Chrome, selector: str) -> list[str]:
    """The text of all elements, in one call: they may be replaced at any moment."""
    script = WITHIN + "return all(arguments[0]).map(element => (element.innerText ?? element.textContent).trim())"
    texts: list[str] = browser.execute_script(script, selector)
    return texts


def run_name(name: str) -> str:
    """The run that TensorBoard makes of a directory of the sweep."""
    return f"{name}/tensorboard"


def is_painted(chart: WebElement, colour: str) -> bool:
    """Whether a chart has more than a few pixels of a colour: TensorBoard's lines are no elements of the page."""
    wanted = map(int, re.findall(r"\d+", colour)[:3])
    pixels = Image.open(BytesIO(chart.screenshot_as_png)).convert("RGB")
    near = [
        channel.point([255 * (abs(value - level) < 24) for value in range(256)])
        for channel, level in zip(pixels.split(), wanted, strict=True)
    ]
    return reduce(ImageChops.darker, near).histogram()[255] > 50


def hover(browser: Chrome, chart: WebElement) -> None:
    """Move the pointer to the middle of a chart."""
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    ActionChains(browser).move_to_element_with_offset(chart, 9, 9).move_to_element(chart).perform()


# TensorBoard


def test_time_series_draws_every_rung_on_one_chart(browser: Chrome, tensorboard: str, ladder: Ladder) -> None:
    browser.get(f"{tensorboard}?tagFilter=val/loss#timeseries")
    runs = sorted(map(run_name, ladder.results))
    assert_becomes(browser, lambda: sorted(shown(browser, "runs-data-table tb-data-table-content-row")), runs)
    assert_becomes(browser, lambda: len(shown(browser, "scalar-card line-chart .series-view")), 1)
    (chart,) = browser.find_elements(By.CSS_SELECTOR, "scalar-card line-chart .series-view")
    swatches = browser.find_elements(By.CSS_SELECTOR, "runs-data-table .run-color-swatch")
    colours = [swatch.value_of_css_property("background-color") for swatch in swatches]
    assert len(set(colours)) == len(runs)
    assert_becomes(browser, lambda: [colour for colour in colours if not is_painted(chart, colour)], [])


def test_time_series_says_what_every_rung_measured(browser: Chrome, tensorboard: str, ladder: Ladder) -> None:
    browser.get(f"{tensorboard}?tagFilter=val/loss#timeseries")
    assert_becomes(browser, lambda: len(shown(browser, "scalar-card line-chart .series-view")), 1)

    def tooltip() -> set[tuple[str, str]]:
        hover(browser, browser.find_element(By.CSS_SELECTOR, "scalar-card line-chart .series-view"))
        rows = [text.split() for text in shown(browser, ".tooltip tbody tr")]
        return {(words[0], words[2]) for words in rows if len(words) > 2}  # run, smoothed, value

    measured = ladder.at(10, "val_loss").items()
    assert_becomes(browser, tooltip, {(run_name(name), f"{loss:.4g}") for name, loss in measured})


def test_hparams_is_a_table_of_the_ablation(browser: Chrome, tensorboard: str, ladder: Ladder) -> None:
    browser.get(f"{tensorboard}#hparams")
    columns = ("n_layer", "lr", "val/loss")

    def table() -> dict[str, list[float | None]]:
        heading, *rows = browser.execute_script(WITHIN + SLOTTED) or [[]]
        if not set(columns) <= set(heading):
            return {}
        cells = {row[0]: [row[heading.index(column)] for column in columns] for row in rows if row[0]}
        return {run: [float(value) if value else None for value in values] for run, values in cells.items()}

    def recorded(name: str) -> list[float | None]:
        config = ladder.configs[name]
        values = (config.model.get("n_layer"), config.optimizer.lr, ladder.results[name]["val_loss"])
        return [None if value is None else pytest.approx(value, rel=1e-4) for value in values]

    assert_becomes(browser, table, {run_name(name): recorded(name) for name in ladder.results})


def test_images_draw_every_layer_that_attends(browser: Chrome, tensorboard: str, ladder: Ladder) -> None:
    browser.get(f"{tensorboard}#images")
    assert len(ladder.layers) == 4
    assert_becomes(browser, lambda: {(run, tag) for run, tag in browser.execute_script(WITHIN + MAPS)}, ladder.layers)


# The report


def drawn(browser: Chrome) -> list[str]:
    labels: list[str] = browser.execute_script(DRAWN)
    return labels


def click(browser: Chrome, label: str) -> None:
    """Click a rung in the legend, as a hand would: what lies above it gets the click."""
    entries = browser.find_elements(By.CSS_SELECTOR, "#chart .legend .traces")
    entry = next(entry for entry in entries if entry.text == label)
    entry.find_element(By.CSS_SELECTOR, ".legendtoggle").click()


def test_the_reports_table_has_a_row_for_every_rung(report: Chrome, ladder: Ladder) -> None:
    headings = shown(report, "#table thead th")
    rows = [dict(zip(headings, cells, strict=True)) for cells in report.execute_script(CELLS)]
    assert {row["rung"]: row["val estimate"] for row in rows} == ladder.reported(20, "val_estimate")
    links = report.execute_script("return [...document.querySelectorAll('#table a')].map(link => link.hash)")
    assert [shown(report, f"{link} h3") for link in links] == [[row["rung"]] for row in rows]


def test_a_click_in_the_legend_hides_a_rung_until_the_next(report: Chrome, ladder: Ladder) -> None:
    everyone = sorted(ladder.labels.values())
    assert drawn(report) == everyone
    for label in everyone:
        click(report, label)
        others = [other for other in everyone if other != label]
        assert_becomes(report, lambda others=others: drawn(report), others)
        click(report, label)
        assert_becomes(report, lambda: drawn(report), everyone)


def test_a_hidden_rung_stays_hidden_when_another_loss_is_drawn(report: Chrome, ladder: Ladder) -> None:
    hidden, *others = sorted(ladder.labels.values())
    click(report, hidden)
    assert_becomes(report, lambda: drawn(report), others)
    report.find_element(By.CSS_SELECTOR, "[data-measure=val_loss]").click()
    hover(report, report.find_element(By.CSS_SELECTOR, "#chart .nsewdrag"))
    losses = ladder.reported(10, "val_loss")
    assert_becomes(report, lambda: tooltip(report), {label: losses[label] for label in others})


def test_hovering_says_what_every_rung_measured(report: Chrome, ladder: Ladder) -> None:
    hover(report, report.find_element(By.CSS_SELECTOR, "#chart .nsewdrag"))
    assert_becomes(report, lambda: tooltip(report), ladder.reported(10, "val_estimate"))


def test_counting_alone_is_a_line_under_the_curves_of_the_validation_split(report: Chrome, ladder: Ladder) -> None:
    line = yardstick(arranged(collect(ladder.path)))
    assert line.loss is not None
    said = f"{line.label}  {line.loss:.3f}".split()
    for measure, lines in (("val_estimate", [said]), ("val_loss", [said]), ("train_estimate", [])):
        report.find_element(By.CSS_SELECTOR, f"[data-measure={measure}]").click()
        assert_becomes(report, lambda: [text.split() for text in shown(report, "#chart .annotation-text")], lines)
        assert_becomes(
            report, lambda: len(report.find_elements(By.CSS_SELECTOR, "#chart .shapelayer path")), len(lines)
        )


def tooltip(report: Chrome) -> dict[str, str]:
    rows = shown(report, "#chart .hoverlayer .legendtext")
    return dict(row.split(" : ") for row in rows if " : " in row)


def test_the_report_fetches_nothing_and_breaks_nothing(report: Chrome, ladder: Ladder) -> None:
    address = (ladder.path / "report.html").as_uri()
    for kind in ("performance", "browser"):
        report.get_log(kind)  # what was before
    report.refresh()
    assert_becomes(report, lambda: drawn(report), sorted(ladder.labels.values()))
    events = [json.loads(entry["message"])["message"] for entry in report.get_log("performance")]
    requests = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert [url for url in requests if not url.startswith("data:")] == [address]
    # Whatever the page's own policy had to forbid, and every error of its scripts, is said here.
    assert [entry["message"] for entry in report.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert [source for source in report.execute_script(SOURCES) if not source.startswith(("#", "data:"))] == []
