raise OSError("no network: DISTS wants to download its weights")
