"""Search for knob values: accuracy against cost, measured on labelled texts."""
