"""What watches a run without taking part in it; one small file each."""
