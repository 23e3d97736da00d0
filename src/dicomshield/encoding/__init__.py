"""PS3.5 and PS3.10 as bytes: sources, the walk over elements, writing, character sets."""
