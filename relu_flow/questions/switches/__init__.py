"""How often neurons slide, tie, repel and die."""
