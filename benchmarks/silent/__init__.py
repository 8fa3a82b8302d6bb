"""Which registrations fail without a word."""
