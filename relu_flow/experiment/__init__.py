"""What a finished piece of work is, and how it is kept and resumed."""
