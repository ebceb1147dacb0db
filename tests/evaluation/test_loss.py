"""The exact loss: every token predicted once."""

import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from gptladder.evaluation.loss import bits_per_char, exact_loss, perplexity
from gptladder.model.gpt import Bigram
from gptladder.system.errors import UserError


@given(n_tokens=st.integers(2, 60), block_size=st.integers(1, 70))
def test_every_token_but_the_first_is_predicted_once(n_tokens: int, block_size: int) -> None:
    generator = torch.Generator().manual_seed(n_tokens)
    net, tokens = Bigram(vocab_size=5, block_size=block_size), torch.randint(5, (n_tokens,), generator=generator)
    with torch.no_grad():
        # A bigram sees one token only, so that the offsets of the windows make no difference.
        expected = F.cross_entropy(net(tokens[None, :-1])[0], tokens[1:]).item()
    assert exact_loss(net, tokens, block_size=block_size, vocab_size=5) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("n_tokens", "words"), [(0, "0 tokens; at least 2"), (1, "1 token; at least 2")])
def test_a_text_with_nothing_to_predict_is_a_user_error(n_tokens: int, words: str) -> None:
    with pytest.raises(UserError, match=f"the text has {words}"):
        exact_loss(
            Bigram(vocab_size=5, block_size=4), torch.zeros(n_tokens, dtype=torch.long), block_size=4, vocab_size=5
        )


def test_a_uniform_prediction_has_the_loss_of_its_vocabulary() -> None:
    loss = math.log(64)
    assert bits_per_char(loss, tokens_per_char=1.0) == pytest.approx(6)
    assert bits_per_char(loss, tokens_per_char=0.5) == pytest.approx(3)
    assert perplexity(loss) == pytest.approx(64)


def test_perplexity_overflows_to_infinity_and_keeps_nan() -> None:
    assert perplexity(1e6) == math.inf
    assert math.isnan(perplexity(math.nan))


def test_evaluation_does_not_import_lightning() -> None:
    modules = ["evaluation.loss", "runs.checkpoint", "evaluation.ngram", "report.analysis_page"]
    imports = ", ".join(f"gptladder.{module}" for module in modules)
    code = f"import sys, {imports}; print('torch' in sys.modules, 'lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]
