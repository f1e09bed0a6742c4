"""EEG recordings cleaned and cut."""
