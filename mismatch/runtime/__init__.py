"""Prediction without torch: preprocess, tokenize, run the towers, score."""
