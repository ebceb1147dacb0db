"""Error classes, atomic files, signals and threads, which all other packages use."""
