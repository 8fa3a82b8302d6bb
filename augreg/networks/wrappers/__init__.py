"""Networks made of others: refined on each pair, asked in both directions."""
