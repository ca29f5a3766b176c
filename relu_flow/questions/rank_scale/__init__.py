"""Where rank one breaks as the scale grows."""
