"""Programs that measure in the user's own Python with PyTorch; none of them imports pvsc_link."""
