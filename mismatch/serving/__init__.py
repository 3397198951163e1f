"""The HTTP service. Needs the extra [serve]; no torch for a bundle."""
