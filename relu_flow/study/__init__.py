"""Studies: many runs declared at once, and what their distributions say."""
