"""TF-C: time series by time-frequency consistency (Zhang et al. 2022), read from ECG."""
