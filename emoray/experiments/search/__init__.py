"""A search over settings: suggestions of an Optuna study, scored by fold and by person."""
