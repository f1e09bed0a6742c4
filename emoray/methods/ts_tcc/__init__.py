"""TS-TCC: time series by temporal and contextual contrast (Eldele et al. 2021), read from ECG."""
