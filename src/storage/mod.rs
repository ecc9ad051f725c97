//! Where pieces live.
