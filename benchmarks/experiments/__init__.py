"""Networks trained from few images on people they have not seen: what the choice of training pairs is worth."""
