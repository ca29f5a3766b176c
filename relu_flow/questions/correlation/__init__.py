"""Orthogonal against correlated inputs."""
