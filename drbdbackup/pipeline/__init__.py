"""The run and the caged jobs it is made of."""
