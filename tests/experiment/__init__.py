"""Tests of how experiments are kept."""
