"""What PyTorch computes for the cases in ``cases``: written by ``scripts/expected_from_torch.py``, read by the tests."""
