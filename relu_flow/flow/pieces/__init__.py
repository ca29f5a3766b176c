"""Long runs in pieces, on the host: progress, checkpoints, Ctrl-C; of the flow and of descent."""
