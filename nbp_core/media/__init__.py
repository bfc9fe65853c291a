"""Pixels: reading files that may be anything, writing video, PSNR and SSIM."""
