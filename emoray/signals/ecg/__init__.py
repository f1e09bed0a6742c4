"""ECG recordings cleaned and cut."""
