"""Chistikov, Englert, Lazić (2023): learning a single neuron."""
