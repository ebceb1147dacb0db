"""What a network is worth: exact loss, analysis, attention maps, and the n-gram baseline."""
