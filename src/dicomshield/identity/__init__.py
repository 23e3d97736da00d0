"""Who the patient is to others: the project secret, pseudonyms, shifted dates, and what must not be left."""
