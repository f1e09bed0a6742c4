"""What each job does once its options are parsed."""
