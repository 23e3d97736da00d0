"""How pixel data lie in an object (PS3.3 C.7.6.3, PS3.5 section 8)."""
