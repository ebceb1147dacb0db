"""What every room needs from the operating system: errors for users, atomic files, signals, threads."""
