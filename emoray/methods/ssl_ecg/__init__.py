"""SSL-ECG: emotion from ECG by recognising transformations (Sarkar & Etemad)."""
