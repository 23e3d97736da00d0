"""The standard as data: PS3.6, PS3.15 Annex E and what PS3.3 says of Types."""
