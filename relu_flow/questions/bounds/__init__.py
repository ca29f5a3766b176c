"""How loose are the bounds of early alignment?"""
