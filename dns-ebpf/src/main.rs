//! The data plane.
#![no_std]
#![no_main]
