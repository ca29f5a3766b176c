"""Tests of numbers read off a network or a trajectory."""
