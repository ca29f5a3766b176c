"""Min, Mallada, Vidal (2024): early alignment on orthogonally separable data."""
