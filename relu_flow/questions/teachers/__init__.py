"""Two teachers and more."""
