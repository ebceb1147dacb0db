"""Into and out of Hugging Face: directories that ``transformers`` loads, written and read without importing it."""
