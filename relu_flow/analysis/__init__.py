"""Flow against descent, and phase times from two solves."""
