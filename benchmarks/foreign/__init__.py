"""Networks of 22 families that lutnas has no space for, predicted from their kernels."""
