"""What happens at hyperplanes: modes, what keeps them, and Filippov's rule where they change."""
