"""What both halves look at: pyramids, keypoints on boundaries, superpixels."""
