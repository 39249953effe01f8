"""The plan: exponents keyed by parameter name, and what is done with them.

factors        which scheme a parameter follows, and what its settings are multiplied by
plans          ``Plan`` and ``plan``
application    rescaling a model, parameter groups, schedulers, clipping
classes        which optimizers suit a plan's groups
joint          the optimizer of a plan as one object
remedies       what a refusal offers instead is tried before it is shown
guard          weights derived from parameters are measured: does the plan do to them what it says?
formats        a plan as a table, as JSON, as plain PyTorch
explanation    ``explain``: a scheme's table with reasons
"""
