"""The audit of training files: every row and every image, the texts, and the labels."""
