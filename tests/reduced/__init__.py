"""Tests of the limit flow and of the planar model."""
