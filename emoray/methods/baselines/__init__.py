"""The methods that EMOD is compared with in its Table 2, trained alike."""
