"""A throw-away method: nobody's paper, three stages on EEG and ECG of the same instants."""
