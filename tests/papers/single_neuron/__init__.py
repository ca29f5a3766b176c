"""Tests of the single-neuron paper."""
