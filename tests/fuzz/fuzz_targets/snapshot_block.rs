//! Blocks of a snapshot as they come from disk or from another node.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| quorate_core::store::dump::fuzz_block(bytes));
