"""Numbers of the paper's tables; where they are from.

Source:
    Chistikov, Englert, Lazić, "Learning a Neuron by a Shallow ReLU Network: Dynamics and
    Implicit Bias for Correlated Inputs" (2023), the experiments: medians of five trials,
    seeds not given. Keys are exponents of four; columns are 4, 16, 64 and 256 features.
"""

FEATURES = (4, 16, 64, 256)

MAX_ANGLE = {
    "centred": {
        2: (166.5, 140.5, 113.6, 103.0),
        -4: (31.06, 77.97, 13.91, 53.04),
        -5: (8.538, 29.31, 3.500, 14.27),
        -6: (2.180, 7.605, 0.8756, 3.583),
        -7: (0.5476, 1.915, 0.2189, 0.8963),
        -8: (0.1371, 0.4793, 0.05473, 0.2241),
        -10: (8.570e-3, 2.996e-2, 3.421e-3, 1.401e-2),
        -13: (1.339e-4, 4.682e-4, 5.343e-5, 2.188e-4),
    },
    "uncentred": {
        -7: (0.02106, 0.1423, 0.3348, 0.3316),
        -8: (5.264e-3, 0.03557, 0.0837, 0.0829),
        -13: (5.123e-6, 3.473e-5, 8.173e-5, 8.099e-5),
    },
}

MEAN_ANGLE = {
    "centred": {-7: (0.03278, 0.04741, 0.01008, 0.02394)},
    "uncentred": {-7: (4.074e-3, 0.01018, 0.0111, 0.01183)},
}

NUCLEAR = {
    "centred": {
        2: (32.88, 63.14, 121.6, 200.7),
        0: (2.512, 4.628, 8.342, 13.34),
        -1: (1.380, 1.929, 2.849, 4.098),
        -2: (1.094, 1.231, 1.463, 1.776),
        -3: (1.023, 1.057, 1.116, 1.194),
        -4: (1.006, 1.014, 1.029, 1.048),
    },
    "uncentred": {},
}

TABLES = {"max_angle": MAX_ANGLE, "mean_angle": MEAN_ANGLE, "nuclear": NUCLEAR}


def published(quantity: str, variant: str, features: int, exponent: int) -> float | None:
    """Return a number of the tables, or `None` if the paper gives none."""
    row = TABLES[quantity][variant].get(exponent)
    return row[FEATURES.index(features)] if row and features in FEATURES else None
