"""Result files of this project's measurements, and the figures of the paper."""
