"""How a step is made: the field, its frame, and Taylor series."""
