"""The commands other than training, each with a script in ``scripts/``; ``gpt-ladder NAME`` runs them too."""

COMMANDS = {
    "generate": "sample text from a trained run",
    "evaluate": "exact loss, bits per character, perplexity",
    "inspect": "attention maps, entropy, loss by position",
    "export": "safetensors and JSON, or a directory for transformers",
    "report": "the table and the charts of a directory of runs",
    "claims": "test the lecture's claims on runs over seeds",
    "modern": "the page on the ladder from nanoGPT to Llama",
    "ngram": "the n-gram baseline",
    "cache": "list or delete what is kept of large texts",
    "tour": "the lecture, chapter by chapter",
}
