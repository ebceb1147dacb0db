"""What is here for speed alone; deleting this package leaves a working, slower project.

docs/speed.md says what each piece saves.
"""
