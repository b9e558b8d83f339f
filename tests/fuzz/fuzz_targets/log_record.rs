//! Records of the Raft log as they are found on disk.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| quorate_raft::log::fuzz_record(bytes));
