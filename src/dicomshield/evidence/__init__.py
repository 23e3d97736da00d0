"""What shows that the work was done: the residual check, the full check, reports."""
