"""Callbacks for what Lightning lacks, one per file."""
