"""Train one rung of the ladder: ``python train.py model=multihead``.

What a run does, from the seed to the result, is in ``src/gptladder/training/train.py``.
"""

from pathlib import Path

from gptladder.cli.main import main

if __name__ == "__main__":
    main(conf=Path(__file__).with_name("conf"))
