"""Tests of named problems and their certificates."""
