"""File containers that publishers use, read without trusting a length in them."""
