"""What is here for speed alone; deleting this package leaves a working, slower project."""
