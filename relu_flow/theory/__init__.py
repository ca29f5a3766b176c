"""Theorems as claims that are computed and checked; nothing here solves anything."""
