"""Tests of the early-alignment paper."""
