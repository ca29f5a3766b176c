"""Figures, tables and files; the only folder that imports plotting libraries."""
