//! Partition imaging.
