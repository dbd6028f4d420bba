raise OSError("no network: LPIPS wants to download its weights")
