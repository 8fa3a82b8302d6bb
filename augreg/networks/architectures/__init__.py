"""Networks that turn two images into flows."""
