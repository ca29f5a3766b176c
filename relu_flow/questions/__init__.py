"""Open questions of the papers, each answered by studies: one command, figure, table, paragraph."""
