"""Quality, bandwidth and statistics: PSNR, LPIPS, DISTS, CBR, BD-CBR."""
