"""Softmax cross entropy and its gradients as fused CPU kernels."""
