"""Flows in closed form or in the plane: the limit of vanishing scale, the planar model."""
