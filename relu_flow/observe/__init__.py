"""Numbers read off a network or a trajectory; nothing here solves anything."""
