"""Images and identities at rest: encrypted, and found again only by those who hold a key."""
