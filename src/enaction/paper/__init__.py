"""What one run says across its experiments: to the paper's claims, to people's questions, and about itself.

Claims and questions are selections of what the experiments found and stated, by experiment, quantity and place;
cautions say what a run's design cannot show.
"""
