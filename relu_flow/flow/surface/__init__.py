"""What happens at hyperplanes: modes, crossings, and neurons taken through a step."""
