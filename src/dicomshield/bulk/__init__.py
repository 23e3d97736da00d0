"""Whole folders: many objects, many processes, one bad file never stops the rest."""
