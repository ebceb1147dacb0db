"""One run, from config to weights: the LightningModule, optimizers, hardware, loggers and callbacks."""
