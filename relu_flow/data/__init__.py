"""Named problems, one family a file."""
