"""A training in a notebook: progress in the cell, and a stop button that leaves a run to resume."""

import asyncio
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from gptladder.training.callbacks.progress_bars import CellBar

WORDS = '"model=multihead", "data.estimate_batches=2", "hydra.run.dir=run"'


class Notebook:
    """A notebook without cells whose kernel runs in a directory."""

    def __init__(self, directory: Path) -> None:
        self.notebook = nbformat.v4.new_notebook()
        self.client = NotebookClient(
            self.notebook, resources={"metadata": {"path": str(directory)}}, timeout=120, allow_errors=True
        )

    def run(self, *sources: str) -> list[list[Any]]:
        """Run cells in one kernel; returns the outputs of each."""
        self.notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
        self.client.execute()
        return [cell.outputs for cell in self.notebook.cells]


def text(outputs: list[Any], name: str) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == name)


def html(outputs: list[Any]) -> list[str]:
    return ["".join(output.data["text/html"]) for output in outputs if "text/html" in output.get("data", {})]


def test_the_bar_of_a_cell_is_updated_in_place_and_empty_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, content: Any) -> None:
            shown.append(content.data)

    monkeypatch.setattr("IPython.display.display", lambda content, display_id: Handle())
    monkeypatch.setattr("gptladder.training.callbacks.progress_bars.REFRESHES_PER_SECOND", 1e9)
    bar = CellBar(total=5000, completed=1000)
    bar.update(3000)
    bar.stop()
    assert 'max="5000" value="3000"' in shown[0]
    assert "3,000/5,000 steps" in shown[0]
    assert shown[1:] == [""]


@pytest.mark.slow
def test_a_cell_trains_and_shows_the_run(tmp_path: Path) -> None:
    _, trained, curve = Notebook(tmp_path).run(
        "import gptladder",
        f'run = gptladder.train({WORDS}, "trainer.max_steps=20")\nrun',
        "run.curve",
    )
    assert text(trained, "stderr") == ""
    assert [line.split()[:2] for line in text(trained, "stdout").splitlines()] == [["step", "0"], ["step", "20"]]
    assert html(trained)[0] == ""  # the bar, which is empty at the end
    assert "7,553" in html(trained)[1]
    assert "train_estimate" in html(curve)[0]
    assert "step      0   train" in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.slow
def test_the_stop_button_leaves_a_run_that_the_next_cell_resumes(tmp_path: Path) -> None:
    notebook = Notebook(tmp_path)

    async def stop() -> None:
        deadline = time.monotonic() + 90
        while not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        await notebook.client.km.interrupt_kernel()

    def stop_when_it_trains(cell: Any, cell_index: int) -> None:
        if cell_index == 1:
            notebook.tasks = [asyncio.get_running_loop().create_task(stop())]  # type: ignore[attr-defined]

    notebook.client.on_cell_execute = stop_when_it_trains
    _, stopped, resumed = notebook.run(
        "import gptladder",
        f'gptladder.train({WORDS}, "trainer.max_steps=2000000", "trainer.val_check_interval=50")',
        "from gptladder.runs.checkpoint import read_checkpoint\n"
        'step = read_checkpoint("run/checkpoints/last.ckpt")["global_step"]\n'
        'gptladder.train(f"trainer.max_steps={step + 100}", resume="run").result["status"]',
    )
    assert stopped[-1].ename == "KeyboardInterrupt"
    said = text(stopped, "stderr")
    assert "resume with: gptladder.train(resume='run')" in said
    assert resumed[-1].data["text/plain"] == "'finished'"
    assert "resuming at step" in text(resumed, "stdout")
