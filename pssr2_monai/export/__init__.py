"""Networks as files that run without this package: TorchScript, torch.export, ONNX and BioImage.IO."""
