"""What one run says across its experiments: to the paper's claims, and to the questions that people bring.

Both are selections of what the experiments found and stated, by experiment, quantity and place.
"""
