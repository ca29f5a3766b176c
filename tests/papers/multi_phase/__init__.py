"""Tests of the multi-phase paper."""
