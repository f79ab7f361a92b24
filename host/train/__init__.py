"""Training of MatMul-free language models; needs PyTorch (``pip install terngen[train]``)."""
