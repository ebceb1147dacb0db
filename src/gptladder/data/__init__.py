"""From a text file to batches: text, tokenizers, token cache, batches, and the LightningDataModule."""
