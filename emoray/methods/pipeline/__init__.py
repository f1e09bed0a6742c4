"""The three papers as one: EMOD's encoder teaches, SSL-ECG's learns, the alignment joins them."""
