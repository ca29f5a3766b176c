"""Tests of the discrete-time counterpart."""
