"""The papers' experiments under the exact flow: one module a paper, one experiment a figure."""
