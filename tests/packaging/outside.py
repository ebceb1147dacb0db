"""What a user of the wheel writes: compose, train, load, generate, and draw the curve of a run."""

import matplotlib

import gptladder

cfg = gptladder.compose("model=multihead", "trainer.max_steps=400")
assert cfg.model.n_head == 4

run = gptladder.train("model=multihead", "trainer.max_steps=400")
trained = run.load()
print(trained.generate("ROMEO:", n_tokens=100, seed=1))
print(trained.evaluate())

curve = run.curve
print(curve)
matplotlib.use("agg")
curve.plot(x="step", y=["train_estimate", "val_estimate"]).figure.savefig("curve.png")

print(gptladder.runs("outputs"))
print(gptladder.report("outputs"))
print(gptladder.__file__)
