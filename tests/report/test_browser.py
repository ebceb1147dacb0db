"""What TensorBoard and the report of a sweep show in Chromium.

The expected values are read from the results of the runs.
"""

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
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from gptladder.report.aggregate import group_runs
from gptladder.report.load_runs import load_runs
from gptladder.report.ngram_baseline import compute_ngram_baseline
from helpers.configs import command

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
TIMEOUT = 60  # seconds

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

# TensorBoard's dashboards are in shadow roots, which selectors do not enter.
SELECT_ALL = """
const all = (selector, root = document) => [...root.querySelectorAll(selector),
  ...[...root.querySelectorAll("*")].filter(e => e.shadowRoot).flatMap(e => all(selector, e.shadowRoot))];
"""

# The rows of a table whose text is in slots.
TABLE_ROWS = """
const text = cell => [...cell.querySelectorAll("slot")].flatMap(slot => slot.assignedNodes())
  .map(node => node.textContent.trim()).join("");
return all("tr").map(row => [...row.children].map(text));
"""

# Run and tag of the attention maps that are loaded and visible.
VISIBLE_MAPS = """
const isVisible = image => image.complete && image.naturalWidth > 100 && image.offsetWidth > 100;
return all("tf-image-loader").filter(card => all("img", card.shadowRoot ?? card).some(isVisible))
  .map(card => [card.run, card.tag]);
"""

# The labels in the legend of the report whose curve is on the chart.
PLOTTED = """
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
# The cells of the table that the window cuts, or that are wider than their column.
OUTSIDE = """
[...document.querySelectorAll("#table td")].filter(cell => cell.scrollWidth > cell.clientWidth + 1
  || cell.getBoundingClientRect().right > innerWidth || !cell.offsetWidth).map(cell => cell.innerText)
"""
SOURCES = "return ['src', 'href'].flatMap(k => [...document.querySelectorAll(`[${k}]`)].map(e => e.getAttribute(k)))"


@dataclass(frozen=True)
class Ladder:
    """A sweep of three rungs over a few steps: results and configs by the name of the run directory."""

    path: Path
    results: dict[str, dict[str, Any]]
    configs: dict[str, Any]

    @cached_property
    def labels(self) -> dict[str, str]:
        """The label of each rung in the report, by directory: all runs share the other settings."""
        return {name: result["model"] for name, result in self.results.items()}

    @property
    def layers(self) -> set[tuple[str, str]]:
        """Run and tag of every attention map."""
        return {
            (run_name(name), f"weights/layer {number}")
            for name, config in self.configs.items()
            for number in range(1, config.model.get("n_layer", 0) + 1)
        }

    def at(self, step: int, quantity: str) -> dict[str, float]:
        """A value of each rung at a step, by directory."""
        return {
            name: next(point[quantity] for point in result["curve"] if point["step"] == step)
            for name, result in self.results.items()
        }

    def reported(self, step: int, quantity: str) -> dict[str, str]:
        """The same as the report prints it, by label."""
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
    browser.set_page_load_timeout(TIMEOUT)
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def tensorboard(ladder: Ladder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a TensorBoard that has read all runs: an open page would not show later ones."""
    log = tmp_path_factory.mktemp("tensorboard") / "log"
    arguments = ["--logdir", str(ladder.path), "--host", "127.0.0.1", "--port", "0"]
    with log.open("w") as file:
        server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", *arguments], stdout=file, stderr=file)
    try:
        eventually(lambda: server.poll() is not None or "http://" in log.read_text(), True)
        address = re.search(r"http://127\.0\.0\.1:\d+/", log.read_text())
        assert address, log.read_text()
        eventually(lambda: len(tags(address[0], "scalars")), len(ladder.results))
        eventually(lambda: sum(map(len, tags(address[0], "images").values())), len(ladder.layers))
        yield address[0]
    finally:
        server.terminate()
        server.wait(TIMEOUT)


@pytest.fixture
def report(browser: Chrome, ladder: Ladder) -> Chrome:
    """The browser with the report open and its chart plotted."""
    browser.get((ladder.path / "report.html").as_uri())
    assert_becomes(browser, lambda: plotted(browser), sorted(ladder.labels.values()))
    return browser


def tags(address: str, plugin: str) -> dict[str, Any]:
    """What TensorBoard has read of each run; empty while it is not ready."""
    try:
        with build_opener(ProxyHandler({})).open(f"{address}data/plugin/{plugin}/tags", timeout=TIMEOUT) as response:
            read: dict[str, Any] = json.load(response)
            return read
    except OSError:
        return {}


def eventually(read: Callable[[], object], expected: object) -> None:
    deadline = monotonic() + TIMEOUT
    while (value := read()) != expected and monotonic() < deadline:
        sleep(0.1)
    assert value == expected


def assert_becomes(browser: Chrome, read: Callable[[], object], expected: object) -> None:
    """Wait until the page shows what is expected; on a timeout, fail with what it shows."""
    try:
        WebDriverWait(browser, TIMEOUT, 0.2).until(lambda _: read() == expected)
    except TimeoutException:
        assert read() == expected


def texts_of(browser: Chrome, selector: str) -> list[str]:
    """The texts of all elements, in one call, because the page may replace them at any moment."""
    script = SELECT_ALL + "return all(arguments[0]).map(element => (element.innerText ?? element.textContent).trim())"
    texts: list[str] = browser.execute_script(script, selector)
    return texts


def run_name(name: str) -> str:
    """The name that TensorBoard gives to a run directory of the sweep."""
    return name


def is_painted(chart: WebElement, color: str) -> bool:
    """Whether a chart has more than a few pixels of a color: TensorBoard draws its lines on a canvas."""
    wanted = map(int, re.findall(r"\d+", color)[:3])
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


def test_time_series_has_every_rung_on_one_chart(browser: Chrome, tensorboard: str, ladder: Ladder) -> None:
    browser.get(f"{tensorboard}?tagFilter=val/loss#timeseries")
    runs = sorted(map(run_name, ladder.results))
    assert_becomes(browser, lambda: sorted(texts_of(browser, "runs-data-table tb-data-table-content-row")), runs)
    assert_becomes(browser, lambda: len(texts_of(browser, "scalar-card line-chart .series-view")), 1)
    (chart,) = browser.find_elements(By.CSS_SELECTOR, "scalar-card line-chart .series-view")
    swatches = browser.find_elements(By.CSS_SELECTOR, "runs-data-table .run-color-swatch")
    colors = [swatch.value_of_css_property("background-color") for swatch in swatches]
    assert len(set(colors)) == len(runs)
    assert_becomes(browser, lambda: [color for color in colors if not is_painted(chart, color)], [])


def test_the_tooltip_of_time_series_has_the_values_of_every_rung(
    browser: Chrome, tensorboard: str, ladder: Ladder
) -> None:
    browser.get(f"{tensorboard}?tagFilter=val/loss#timeseries")
    assert_becomes(browser, lambda: len(texts_of(browser, "scalar-card line-chart .series-view")), 1)

    def tooltip() -> set[tuple[str, str]]:
        hover(browser, browser.find_element(By.CSS_SELECTOR, "scalar-card line-chart .series-view"))
        rows = [text.split() for text in texts_of(browser, ".tooltip tbody tr")]
        return {(words[0], words[2]) for words in rows if len(words) > 2}  # run, smoothed, value

    losses = ladder.at(10, "val_loss").items()
    assert_becomes(browser, tooltip, {(run_name(name), f"{loss:.4g}") for name, loss in losses})


def test_hparams_compares_settings_and_losses(browser: Chrome, tensorboard: str, ladder: Ladder) -> None:
    browser.get(f"{tensorboard}#hparams")
    columns = ("n_layer", "lr", "val/loss")

    def table() -> dict[str, list[float | None]]:
        heading, *rows = browser.execute_script(SELECT_ALL + TABLE_ROWS) or [[]]
        if not set(columns) <= set(heading):
            return {}
        metrics = [name for name in heading if name.startswith(("train/", "val/"))]
        assert metrics == ["val/loss", "val/estimate", "train/estimate", "train/loss"]
        cells = {row[0]: [row[heading.index(column)] for column in columns] for row in rows if row[0]}
        return {run: [float(value) if value else None for value in values] for run, values in cells.items()}

    def recorded(name: str) -> list[float | None]:
        config = ladder.configs[name]
        values = (config.model.get("n_layer"), config.optimizer.lr, ladder.results[name]["val_loss"])
        return [None if value is None else pytest.approx(value, rel=1e-4) for value in values]

    assert_becomes(browser, table, {run_name(name): recorded(name) for name in ladder.results})


def test_images_show_the_attention_of_every_layer(browser: Chrome, tensorboard: str, ladder: Ladder) -> None:
    browser.get(f"{tensorboard}#images")
    assert len(ladder.layers) == 4
    assert_becomes(
        browser, lambda: {(run, tag) for run, tag in browser.execute_script(SELECT_ALL + VISIBLE_MAPS)}, ladder.layers
    )


# The report


def plotted(browser: Chrome) -> list[str]:
    labels: list[str] = browser.execute_script(PLOTTED)
    return labels


def click(browser: Chrome, label: str) -> None:
    """Click a rung in the legend, at its position: an element above it would get the click."""
    entries = browser.find_elements(By.CSS_SELECTOR, "#chart .legend .traces")
    entry = next(entry for entry in entries if entry.text == label)
    entry.find_element(By.CSS_SELECTOR, ".legendtoggle").click()


def test_the_table_of_the_report_has_a_row_for_every_rung(report: Chrome, ladder: Ladder) -> None:
    headings = texts_of(report, "#table thead th")
    rows = [dict(zip(headings, cells, strict=True)) for cells in report.execute_script(CELLS)]
    assert rows.pop()["rung"] == "5-gram, windows of 8"
    assert {row["rung"]: row["val estimate"] for row in rows} == ladder.reported(20, "val_estimate")
    links = report.execute_script("return [...document.querySelectorAll('#table a')].map(link => link.hash)")
    assert [texts_of(report, f"{link} h3") for link in links] == [[row["rung"]] for row in rows]


@pytest.mark.parametrize("width", [1400, 1345, 1344, 1000, 390])
def test_the_page_fits_the_window_and_shows_every_cell(width: int, report: Chrome) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    report.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        script = f"return [{OUTSIDE}, innerWidth, {overflow}]"
        assert_becomes(report, lambda: report.execute_script(script), [[], width, 0])
    finally:
        report.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("width", [1400, 1000, 390])
def test_the_analysis_fits_the_window_and_shows_every_head_and_the_loss_of_a_token(
    width: int, browser: Chrome, ladder: Ladder, tmp_path: Path
) -> None:
    (run,) = (name for name, result in ladder.results.items() if result["model"] == "layernorm")
    out = tmp_path / "analysis"
    done = command("scripts/inspect_run.py", "--run", str(ladder.path / run), "--out", str(out), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        browser.get((out / "analysis.html").as_uri())
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        script = f"return [{OUTSIDE.replace('#table', 'table')}, innerWidth, {overflow}]"
        assert_becomes(browser, lambda: browser.execute_script(script), [[], width, 0])
        token = browser.find_elements(By.CSS_SELECTOR, ".tokens i")[3]
        token.click()
        shown = browser.execute_script("return getComputedStyle(arguments[0], '::after').content", token)
        assert "nats after 3 tokens of context" in shown
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_click_in_the_legend_toggles_a_rung(report: Chrome, ladder: Ladder) -> None:
    labels = sorted(ladder.labels.values())
    assert plotted(report) == labels
    for label in labels:
        click(report, label)
        others = [other for other in labels if other != label]
        assert_becomes(report, lambda others=others: plotted(report), others)
        click(report, label)
        assert_becomes(report, lambda: plotted(report), labels)


def test_a_hidden_rung_stays_hidden_with_another_metric(report: Chrome, ladder: Ladder) -> None:
    hidden, *others = sorted(ladder.labels.values())
    click(report, hidden)
    assert_becomes(report, lambda: plotted(report), others)
    report.find_element(By.CSS_SELECTOR, "[data-metric=val_loss]").click()
    hover(report, report.find_element(By.CSS_SELECTOR, "#chart .nsewdrag"))
    losses = ladder.reported(10, "val_loss")
    assert_becomes(report, lambda: tooltip(report), {label: losses[label] for label in others})


def test_the_tooltip_of_the_report_has_the_values_of_every_rung(report: Chrome, ladder: Ladder) -> None:
    hover(report, report.find_element(By.CSS_SELECTOR, "#chart .nsewdrag"))
    assert_becomes(report, lambda: tooltip(report), ladder.reported(10, "val_estimate"))


def test_the_n_gram_baseline_is_a_line_on_the_charts_of_the_validation_split(report: Chrome, ladder: Ladder) -> None:
    baseline = compute_ngram_baseline(group_runs(load_runs(ladder.path)))
    (loss,) = baseline.losses
    label = f"{loss.label}  {loss.loss:.3f}".split()
    for metric, lines in (("val_estimate", [label]), ("val_loss", [label]), ("train_estimate", [])):
        report.find_element(By.CSS_SELECTOR, f"[data-metric={metric}]").click()
        assert_becomes(report, lambda: [text.split() for text in texts_of(report, "#chart .annotation-text")], lines)
        assert_becomes(
            report, lambda: len(report.find_elements(By.CSS_SELECTOR, "#chart .shapelayer path")), len(lines)
        )


def tooltip(report: Chrome) -> dict[str, str]:
    rows = texts_of(report, "#chart .hoverlayer .legendtext")
    return dict(row.split(" : ") for row in rows if " : " in row)


def test_the_report_fetches_nothing_and_logs_no_error(report: Chrome, ladder: Ladder) -> None:
    address = (ladder.path / "report.html").as_uri()
    for kind in ("performance", "browser"):
        report.get_log(kind)  # discard earlier entries
    report.refresh()
    assert_becomes(report, lambda: plotted(report), sorted(ladder.labels.values()))
    events = [json.loads(entry["message"])["message"] for entry in report.get_log("performance")]
    requests = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert [url for url in requests if not url.startswith("data:")] == [address]
    # Violations of the page's policy and errors of its scripts are logged here.
    assert [entry["message"] for entry in report.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert [source for source in report.execute_script(SOURCES) if not source.startswith(("#", "data:"))] == []


@pytest.fixture(scope="module")
def analysis(ladder: Ladder) -> Path:
    """The page of ``inspect_run.py`` of one run."""
    run = next(ladder.path / name for name, result in ladder.results.items() if result["model"] == "multihead")
    done = command("scripts/inspect_run.py", "--run", str(run), "--prompt", "ROMEO: what", cwd=ladder.path)
    assert done.returncode == 0, done.stderr
    return run / "analysis" / "analysis.html"


def press(browser: Chrome, *keys: str) -> None:
    for key in keys:
        ActionChains(browser).send_keys(key).perform()


def test_the_metric_of_the_report_is_chosen_by_keyboard(report: Chrome) -> None:
    assert plotted(report)
    for _ in range(200):
        press(report, Keys.TAB)
        focused = report.switch_to.active_element
        if focused.tag_name == "button" and focused.get_attribute("aria-pressed") == "false":
            break
    press(report, Keys.ENTER)
    assert focused.get_attribute("aria-pressed") == "true"
    assert focused.value_of_css_property("outline-style") != "none"  # the focus is visible


def test_the_loss_of_a_token_of_the_prompt_is_shown_by_keyboard_and_by_tap(browser: Chrome, analysis: Path) -> None:
    browser.get(analysis.as_uri())
    label = "return getComputedStyle(document.activeElement, '::after').content"
    press(browser, Keys.TAB)
    assert browser.execute_script(label) == '"first token: not predicted"'
    press(browser, Keys.TAB)
    assert re.fullmatch(r'"\d\.\d{3} nats after 1 tokens of context"', browser.execute_script(label))
    browser.find_elements(By.CSS_SELECTOR, ".tokens i")[-1].click()
    assert "nats after" in browser.execute_script(label)


@pytest.mark.parametrize("width", [375, 1500])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_fit_the_window_in_light_and_dark(
    scheme: str, width: int, browser: Chrome, ladder: Ladder, analysis: Path
) -> None:
    is_light = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(part => part > 200)"
    overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for page in (ladder.path / "report.html", analysis):
            browser.get(page.as_uri())
            assert browser.execute_script(is_light) == (scheme == "light")
            assert browser.execute_script(overflow) <= 0
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
