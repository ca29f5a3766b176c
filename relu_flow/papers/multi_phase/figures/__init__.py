"""Figures of the multi-phase paper's experiments."""
