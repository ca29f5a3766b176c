"""Tests of theory and experiments, a folder a paper."""
