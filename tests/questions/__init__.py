"""Tests of the open questions."""
