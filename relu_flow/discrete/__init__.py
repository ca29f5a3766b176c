"""The same problem under an Optax optimiser."""
